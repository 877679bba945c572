"""Bytes that single HLO instructions read and write.

An instruction reads its operands and writes its result. One that takes a slice reads the
slice, and one that updates a slice writes the slice, alone or inside a fusion: a scan reads one
step of its input at a time, not all of it.
"""

from __future__ import annotations

from tdjax.comparison.hlo.module import Computation, Instruction, Module
from tdjax.comparison.hlo.opcodes import COLLECTIVES, IDLE_CALLS, VIEWS, ends, starts

_CALLS = ("async-start", "call", "conditional", "while")


def own_bytes(instruction: Instruction, computation: Computation, module: Module) -> int:
    """Return the bytes that an instruction accesses by itself.

    A loop, a branch or a call accesses none: what it runs does. The two halves of an
    asynchronous operation are counted once, where it starts.
    """
    opcode = instruction.opcode
    if opcode in VIEWS or opcode in _CALLS or ends(opcode):
        return 0
    if opcode == "fusion":
        (fused,) = module.called(instruction)
        reads = (_read(parameter, fused, module) for parameter in fused.parameters.values())
        return sum(reads) + _written(fused.root, fused)
    if opcode == "custom-call" and instruction.quoted("custom_call_target") in IDLE_CALLS:
        return 0
    operands = [operand.shape.bytes for operand in computation.operands(instruction)]
    result = instruction.shape
    if opcode in ("slice", "dynamic-slice"):
        return 2 * result.bytes + sum(operands[1:])
    if opcode == "gather":
        return 2 * result.bytes + operands[1]
    if opcode == "dynamic-update-slice":
        return 2 * operands[1] + sum(operands[2:])
    if opcode == "scatter":
        arrays = len(operands) // 2
        # Reads and writes what is updated, and reads the updates and their indices.
        return 3 * sum(operands[arrays + 1 :]) + operands[arrays]
    if starts(opcode):
        # Its tuple repeats operands and adds counters: count what it makes, read and written.
        return 2 * (moved_between_devices(instruction, computation) or _made(instruction))
    return sum(operands) + result.bytes


def moved_between_devices(instruction: Instruction, computation: Computation) -> int:
    """Return the bytes that a collective carries: the larger of what it takes and gives.

    0 for any other instruction, and for the second half of an asynchronous one.
    """
    if instruction.opcode.removesuffix("-start") not in COLLECTIVES:
        return 0
    taken = sum(operand.shape.bytes for operand in computation.operands(instruction))
    given = _made(instruction) if starts(instruction.opcode) else instruction.shape.bytes
    return max(taken, given)


def _made(start: Instruction) -> int:
    """Return the bytes of an asynchronous operation's own result.

    `copy-start` gives `(made, taken, counter)`; the others `((taken), made, counter)` or
    `(taken, made)`.
    """
    members = start.shape.members or (start.shape,)
    return members[0 if start.opcode == "copy-start" else min(1, len(members) - 1)].bytes


def _read(parameter: Instruction, fused: Computation, module: Module) -> int:
    """Return how much of an operand a fusion reads: all of it, or slices only."""
    whole = parameter.shape.bytes
    total = whole if parameter is fused.root else 0
    for user in fused.users(parameter):
        if user.opcode == "fusion":
            (inner,) = module.called(user)
            numbers = [i for i, name in enumerate(user.operands) if name == parameter.name]
            total += sum(_read(inner.parameters[number], inner, module) for number in numbers)
        elif user.opcode in ("slice", "dynamic-slice", "gather"):
            first = user.operands[0] == parameter.name
            total += user.shape.bytes if first else whole
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == parameter.name:
            # Updated in place: only the slice is written.
            total += 0 if user is fused.root else whole
        elif user.opcode == "bitcast":
            total += _read(user, fused, module)
        else:
            return whole
    return min(total, whole)


def _written(root: Instruction, fused: Computation) -> int:
    if root.opcode == "tuple":
        return sum(_written(member, fused) for member in fused.operands(root))
    if root.opcode == "dynamic-update-slice":
        return fused.operands(root)[1].shape.bytes
    if root.opcode == "bitcast" and fused.operands(root)[0].opcode == "dynamic-update-slice":
        return _written(fused.operands(root)[0], fused)
    return root.shape.bytes
