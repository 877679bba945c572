"""An HLO program as data: a module of computations of instructions."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tdjax.comparison.hlo.shape import Shape, split

_NAME = re.compile(r"%([\w.\-]+)")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_INT = re.compile(r"-?\d+")
_CALLS = (
    "calls",
    "to_apply",
    "condition",
    "body",
    "branch_computations",
    "true_computation",
    "false_computation",
    "called_computations",
)


@dataclass(frozen=True, eq=False)
class Instruction:
    """One line of a computation.

    Attributes:
        name: unique in its module.
        opcode: such as "fusion" or "dot".
        shape: of its result.
        operands: the names of the instructions that it reads, in the same computation.
        literal: the text between the parentheses: a constant's value, a parameter's number.
        text: its attributes as they are written, metadata and backend configuration included.
    """

    name: str
    opcode: str
    shape: Shape
    operands: tuple[str, ...]
    literal: str
    text: str

    @cached_property
    def attributes(self) -> Mapping[str, str]:
        """The attributes by name, as they are written."""
        pairs = (part.partition("=") for part in split(self.text))
        return {name.strip(): value for name, _, value in pairs}

    @cached_property
    def called(self) -> tuple[str, ...]:
        """The names of the computations that it runs."""
        given = (self.attributes[name] for name in _CALLS if name in self.attributes)
        return tuple(name for text in given for name in _NAME.findall(text))

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """What the device's compiler noted; empty where that is not a JSON object."""
        text = self.attributes.get("backend_config", "")
        if text.startswith('"'):
            text = json.loads(text)
        try:
            found = json.loads(text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def integers(self, attribute: str) -> tuple[int, ...]:
        """Return the integers of an attribute such as `dimensions={0,2}`."""
        return tuple(map(int, _INT.findall(self.attributes.get(attribute, ""))))

    def quoted(self, attribute: str) -> str:
        """Return a quoted attribute without its quotes, empty where it is not given."""
        return self.attributes.get(attribute, "").strip('"')


@dataclass(frozen=True, eq=False)
class Computation:
    """Instructions in the order in which they run.

    Attributes:
        name: unique in its module.
        instructions: by name.
        root: what it returns.
    """

    name: str
    instructions: Mapping[str, Instruction]
    root: Instruction

    @cached_property
    def parameters(self) -> Mapping[int, Instruction]:
        """Its parameters by number."""
        given = (i for i in self.instructions.values() if i.opcode == "parameter")
        return {int(parameter.literal): parameter for parameter in given}

    @cached_property
    def _users(self) -> Mapping[str, list[Instruction]]:
        found: dict[str, list[Instruction]] = {}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                found.setdefault(operand, []).append(instruction)
        return found

    def users(self, instruction: Instruction) -> Sequence[Instruction]:
        """Return the instructions of this computation that read the result of one."""
        return self._users.get(instruction.name, ())

    def operands(self, instruction: Instruction) -> Sequence[Instruction]:
        """Return the instructions whose results one of this computation reads."""
        return [self.instructions[name] for name in instruction.operands]


@dataclass(frozen=True, eq=False)
class Module:
    """A program.

    Attributes:
        computations: by name.
        entry: the one that runs first.
        stacks: the Python lines of each stack frame, innermost first, as `(file, line)`.
    """

    computations: Mapping[str, Computation]
    entry: Computation
    stacks: Mapping[int, tuple[tuple[str, int], ...]] = field(default_factory=dict)

    @cached_property
    def inputs(self) -> frozenset[str]:
        """The names of the program's arguments; what rearranges an argument has its name too."""
        given = (_OP_NAME.search(p.text) for p in self.entry.parameters.values())
        return frozenset(found[1] for found in given if found)

    @cached_property
    def opcodes(self) -> Counter[str]:
        """How often each operation stands in it: fused ones too, a loop's body once."""
        return Counter(
            instruction.opcode
            for computation in self.computations.values()
            for instruction in computation.instructions.values()
        )

    def called(self, instruction: Instruction) -> tuple[Computation, ...]:
        """Return the computations that an instruction runs."""
        return tuple(self.computations[name] for name in instruction.called)
