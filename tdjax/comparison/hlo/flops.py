"""Floating point operations of single HLO instructions, counted as XLA counts them.

A multiply and an add are two. A convolution counts the products with real elements, not those
with padding. Transcendental functions (exp, tanh, ...) have no fixed number of operations and
count as none, as in XLA's own analysis.
"""

from __future__ import annotations

import math

from tdjax.comparison.hlo.convolution import convolution_flops, windows
from tdjax.comparison.hlo.module import Computation, Instruction
from tdjax.comparison.hlo.opcodes import (
    ELEMENTWISE,
    IDLE_CALLS,
    MOVEMENT,
    TRANSCENDENTAL,
    ends,
    starts,
)
from tdjax.comparison.hlo.shape import Shape

_FREE = MOVEMENT | TRANSCENDENTAL


def own_flops(instruction: Instruction, computation: Computation) -> float | None:
    """Return the operations of an instruction itself, None where they cannot be known.

    What it calls is not included; see `repeats`.
    """
    opcode = instruction.opcode
    if opcode in _FREE or starts(opcode) or ends(opcode):
        return 0
    if opcode in ELEMENTWISE:
        return instruction.shape.elements
    operands = [operand.shape for operand in computation.operands(instruction)]
    if opcode == "dot":
        return _dot(instruction, operands[0])
    if opcode == "convolution":
        return convolution_flops(instruction, operands[0], operands[1], instruction.shape)
    if opcode == "sort":
        size = operands[0].elements
        return size * max(1, math.ceil(math.log2(max(size, 2))))
    if opcode == "custom-call":
        return _custom_call(instruction, operands)
    return 0 if instruction.called else None


def repeats(instruction: Instruction, computation: Computation) -> tuple[int, ...] | None:
    """Return how often an instruction applies each function that it calls by element.

    None for one that runs what it calls as a computation of its own: a fusion, a call, a loop.
    """
    operands = [operand.shape for operand in computation.operands(instruction)]
    result = instruction.shape
    if instruction.opcode == "reduce":
        first = result.members[0] if result.members else result
        return (operands[0].elements - first.elements,)
    if instruction.opcode == "reduce-window":
        first = result.members[0] if result.members else result
        return ((_window_elements(instruction) - 1) * first.elements,)
    if instruction.opcode == "select-and-scatter":
        sources = operands[1].elements
        functions = {"select": sources * (_window_elements(instruction) - 1), "scatter": sources}
        return tuple(functions[name] for name in functions if name in instruction.attributes)
    if instruction.opcode == "scatter":
        return (operands[len(operands) // 2 + 1].elements,)
    if instruction.opcode == "map":
        return (result.elements,)
    opcode = instruction.opcode.removesuffix("-start")
    if opcode in MOVEMENT or opcode in ("sort", "custom-call"):
        return (0,) * len(instruction.called)
    return None


def _dot(instruction: Instruction, left: Shape) -> float:
    summed = math.prod(left.sizes[axis] for axis in instruction.integers("lhs_contracting_dims"))
    return 2 * instruction.shape.elements * summed


def _window_elements(instruction: Instruction) -> int:
    return math.prod(window.size for window in windows(instruction))


def _custom_call(instruction: Instruction, operands: list[Shape]) -> float | None:
    """Count a matrix product of cuBLAS or a convolution of cuDNN by its shapes."""
    target = instruction.quoted("custom_call_target")
    if target in IDLE_CALLS:
        return 0
    results = instruction.shape.members or (instruction.shape,)
    if target.startswith("__cublas$"):
        return _cublas(instruction, operands[0], results[0])
    if not target.startswith("__cudnn$conv") or "dim_labels" not in instruction.attributes:
        return None
    # XLA writes the labels and window of all three kinds as those of the forward convolution.
    image, kernel, result = operands[0], operands[1], results[0]
    if target.endswith("BackwardInput"):
        image, result = results[0], operands[0]
    elif target.endswith("BackwardFilter"):
        kernel, result = results[0], operands[1]
    return convolution_flops(instruction, image, kernel, result)


def _cublas(instruction: Instruction, left: Shape, result: Shape) -> float | None:
    config = instruction.config.get("gemm_backend_config", instruction.config)
    numbers = config.get("dot_dimension_numbers", {})
    axes = numbers.get("lhs_contracting_dimensions")
    if axes is None:
        return None
    return 2 * result.elements * math.prod(left.sizes[int(axis)] for axis in axes)
