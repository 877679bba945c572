"""Makes a failing program smaller, for as long as it fails in the same way."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from .check import Failure, check
from .program import Function, Node, Program, renamed


def shrunk(program: Program, failure: Failure, tries: int = 200) -> tuple[Program, Failure]:
    """Return a smaller program that fails under the same strategy in the same way.

    Lines are taken out one by one: what read them reads an earlier variable of the same type.
    """
    smaller = True
    while smaller and tries > 0:
        smaller = False
        for candidate in _smaller(program):
            tries -= 1
            found = _fails(candidate, failure)
            if found is not None:
                program, failure, smaller = candidate, found, True
                break
            if tries <= 0:
                break
    return program, failure


def _fails(program: Program, failure: Failure) -> Failure | None:
    try:
        found = check(program, only=failure).failure
    except Exception:
        return None
    same = found is not None and (found.kind, found.strategy) == (failure.kind, failure.strategy)
    if found is not None and "NameError" in found.text and "NameError" not in failure.text:
        return None  # a line that a derivative rule needs is gone
    if same and found is not None and failure.kind == "crash":
        same = found.text.partition(":")[0] == failure.text.partition(":")[0]
    return found if same else None


def _smaller(program: Program) -> Iterator[Program]:
    for kept in program.outputs if len(program.outputs) > 1 else ():
        yield dataclasses.replace(program, outputs=(kept,)).live()
    for dropped in program.outputs if len(program.outputs) > 2 else ():
        yield dataclasses.replace(
            program, outputs=tuple(each for each in program.outputs if each != dropped)
        ).live()
    arrays = {each.name: _type_of(program, each.name) for each in program.arrays}
    for node, known in reversed([*_with_known(program.nodes, arrays)]):
        if node.types is None:
            continue
        for name in [name for name, types in known.items() if types == node.types][:4]:
            yield _without(program, node.target, name)
        if node.target not in program.outputs:
            yield _without(program, node.target, None)


def _with_known(
    nodes: tuple[Node, ...], known: dict[str, object]
) -> Iterator[tuple[Node, dict[str, object]]]:
    """Yield all nodes, those of functions included, with the variables that each could read."""
    for node in nodes:
        for function in node.functions:
            yield from _with_known(function.nodes, {} if function.closed else known)
        yield node, known
        known = known | {node.target: node.types}


def _type_of(program: Program, name: str) -> object:
    from .scope import BOOL, COMPLEX, FLOAT, INT, Type

    array = next(each for each in program.arrays if each.name == name)
    if array.kind == "key":
        return None
    small = array.shape
    if array.axis is not None:
        small = small[: array.axis] + small[array.axis + 1 :]
    large = (2 * program.batch + 1, *small[1:]) if array.rows else small
    dtypes = {"float": FLOAT, "int": INT, "bool": BOOL, "complex": COMPLEX}
    return Type(small, large, dtypes[array.kind])


def _without(program: Program, target: str, other: str | None) -> Program:
    nodes = _nodes_without(program.nodes, target, other)
    outputs = tuple(other if each == target and other else each for each in program.outputs)
    made = {node.target for node in nodes}
    if other is not None and other not in made:  # an argument is returned by a line of its own
        outputs = tuple(each for each in outputs if each in made) or (outputs[0],)
    return dataclasses.replace(program, nodes=nodes, outputs=tuple(dict.fromkeys(outputs))).live()


def _nodes_without(nodes: tuple[Node, ...], target: str, other: str | None) -> tuple[Node, ...]:
    kept = []
    for node in nodes:
        if node.target == target:
            continue
        expression = node.expression if other is None else renamed(node.expression, target, other)
        functions = tuple(_function_without(each, target, other) for each in node.functions)
        kept.append(dataclasses.replace(node, expression=expression, functions=functions))
    return tuple(kept)


def _function_without(function: Function, target: str, other: str | None) -> Function:
    result = function.result if other is None else renamed(function.result, target, other)
    nodes = _nodes_without(function.nodes, target, other)
    return dataclasses.replace(function, nodes=nodes, result=result)
