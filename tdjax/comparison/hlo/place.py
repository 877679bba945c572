"""Where in the user's program an HLO instruction comes from: operation, layer and Python line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tdjax.comparison.hlo.module import Computation, Instruction, Module

_FIELDS = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\d+))')
_WRAPPED = re.compile(r"(vmap|jvp|transpose|remat|checkpoint)\((.*)\)")
# Scopes that are not layers: calls of functions, control flow, labels such as an einsum's.
_NO_LAYER = re.compile(
    r"(jit|pjit|custom_jvp|custom_vjp)\(.*\)|branch_\d+_fun|.*[^\w.].*|body|call|call_exported"
    r"|checkpoint|closed_call|cond|core_call|eval_jaxpr|rematted_computation|shard_map|while"
)
_STRATEGY = "tdjax."
_TDJAX = Path(__file__).parents[2]
_LIBRARIES = re.compile(r"[\\/](?:site|dist)-packages[\\/](?:jax|jaxlib|flax)[\\/]|^<")


@dataclass(frozen=True)
class Place:
    """Where an instruction comes from; None for what its metadata do not tell.

    Attributes:
        op: the JAX operation, such as "conv_general_dilated"; "input" for an argument.
        layer: the path of the layer, without the outermost module: "encoder/Conv_0".
        source: the line of the user's code that called it: "net.py:12".
        backward: whether it belongs to a gradient.
        around: whether a strategy added it around the steps: the step itself has no such
            operation.
    """

    op: str | None = None
    layer: str | None = None
    source: str | None = None
    backward: bool = False
    around: bool = False


def find_place(instruction: Instruction, module: Module) -> Place:
    """Return where an instruction comes from, by its own metadata."""
    text = instruction.attributes.get("metadata", "")
    fields = {name: quoted or number for name, quoted, number in _FIELDS.findall(text)}
    name = fields.get("op_name", "").partition(";")[0]
    if not name:
        return Place()
    if name in module.inputs:
        return Place(op="input")
    *outer, last = name.split("/")
    own, inside = _after_strategy(outer)
    layers = [part for part in map(_unwrapped, own) if part and not _NO_LAYER.fullmatch(part)]
    op = _unwrapped(last)
    stack = module.stacks.get(int(fields.get("stack_frame_id", 0)), ())
    if "source_file" in fields:
        stack = ((fields["source_file"], int(fields.get("source_line", 0))),)
    source, by_strategy = _source(stack)
    backward = "transpose(" in name
    if not layers and source is None and (inside or by_strategy):
        return Place(backward=backward, around=True)
    return Place(
        op=op.removeprefix("jit(").rstrip(")"),
        layer="/".join(layers[1:] or layers) or None,
        source=source,
        backward=backward,
    )


def find_place_near(instruction: Instruction, computation: Computation, module: Module) -> Place:
    """Return where an instruction comes from, also if the compiler added it without metadata.

    It was then added for the nearest of those that use its result, or else of those that it reads.
    """
    for neighbors in (computation.users, computation.operands):
        seen = {instruction.name}
        nearest = [instruction]
        while nearest:
            for each in nearest:
                found = find_place(each, module)
                if found != Place():
                    return found
            nearest = [
                other for each in nearest for other in neighbors(each) if other.name not in seen
            ]
            seen.update(other.name for other in nearest)
    return Place()


def _after_strategy(parts: Iterable[str]) -> tuple[list[str], bool]:
    """Return what follows the innermost strategy's scope, and whether there is one."""
    found: list[str] = []
    inside = False
    for part in parts:
        if _unwrapped(part).startswith(_STRATEGY):
            found, inside = [], True
        else:
            found.append(part)
    return found, inside


def _unwrapped(part: str) -> str:
    """Return `Net` for `transpose(jvp(vmap(Net)))`."""
    while found := _WRAPPED.fullmatch(part):
        part = found[2]
    return part


def _source(stack: Iterable[tuple[str, int]]) -> tuple[str | None, bool]:
    """Return the user's innermost line, None and True where one of a strategy comes before it.

    The lines that called a strategy are not lines of the step.
    """
    here = os.getcwd()
    for file, line in stack:
        by_strategy, short = _seen_from(here, file)
        if by_strategy:
            return None, True
        if short is not None:
            return f"{short}:{line}", False
    return None, False


@cache
def _seen_from(here: str, file: str) -> tuple[bool, str | None]:
    """Return whether a file is a strategy's, and else its name to a user; None of a library's.

    That is its path relative to the working folder; of a file elsewhere the name alone.
    """
    if _LIBRARIES.search(file):
        return False, None
    path = Path(file)
    if path.is_relative_to(_TDJAX) and not path.is_relative_to(_TDJAX / "workloads"):
        return True, None
    return False, str(path.relative_to(here)) if path.is_relative_to(here) else path.name
