"""Reads and evaluates jaxprs, whichever form this JAX gives them: programs and their equations."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax

from tdjax.core.arrays import varying

_F = TypeVar("_F", bound=Callable[..., Any])
VARY = "pvary"
_VMAP_OF_CALLBACKS = str(Path(jax.__file__).parent / "_src" / "ffi.py"), "ffi_batching_rule"
"""Where JAX has its rule for host functions under `jax.vmap`."""
_HIGH = "_prim"
"""The parameter that holds a high-level operation."""
_CUSTOM_RULES = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


def is_literal(atom: Any) -> bool:
    """Say whether an input of an equation is a value rather than a variable."""
    return hasattr(atom, "val")


def source_line(eqn: Any) -> str:
    """Return the user's line that an equation comes from, or "" if it is not known."""
    from jax.extend import source_info_util  # jax.extend takes 20 ms to import

    return source_info_util.summarize(eqn.source_info)


# JAX compares the beginnings of paths: a name stands for all files and folders that begin with it.
_OWN_FRAMES = (
    "core",
    "costs",
    "explanation.py",
    "flax_",
    "function.py",
    "independence",
    "layers",
    "linen.py",
    "nnx.py",
    "partition",
    "transform.py",
    "tuning",
)


@functools.cache
def hide_own_frames() -> None:
    """Keep this package's calls out of the stacks that JAX keeps with every operation.

    They are cut at ten frames: without this, nothing would be left of the user's own lines. Those
    of strategies stay: what they add around the steps is theirs.
    """
    from jax.extend import source_info_util

    package = Path(__file__).parents[1]
    for part in _OWN_FRAMES:
        source_info_util.register_exclusion(str(package / part))


class _AnyName(str):
    """A name of a parameter that need not be an identifier: `params['kernel']`."""

    __slots__ = ()

    def isidentifier(self) -> bool:
        return True


def stand_in(function: _F, fun: Callable[..., Any], names: tuple[str, ...] = ("leaves",)) -> _F:
    """Return a function of ours, told so that errors of JAX name the user's while it is traced.

    Args:
        function: calls `fun`, with other arguments.
        fun: the user's function, or one that stands in for it.
        names: what the arguments of `function` are called.
    """
    shown: Any = function
    shown.__wrapped__ = _innermost(fun)
    shown.__signature__ = _signature_of(names)
    return function


def trace_flat(
    function: Callable[..., Any],
    fun: Callable[..., Any],
    names: tuple[str, ...],
    types: Sequence[Any],
    axis: Sequence[tuple[Any, Any]] = (),
) -> tuple[Any, Sequence[Any], Sequence[Any], Any]:
    """Return the trace of a function of arrays: jaxpr, constants, types and tree of its output.

    Args:
        function: what is traced.
        fun: the user's function, which errors of JAX name.
        names: what the arguments are called.
        types: their types.
        axis: a name that is bound around it, with its size.
    """
    if axis:
        shown = stand_in(function, fun, names)
        closed, outputs = jax.make_jaxpr(shown, axis_env=axis, return_shape=True)(*types)
        leaves, tree = jax.tree.flatten(outputs)
        return closed.jaxpr, closed.consts, leaves, tree
    # `jax.make_jaxpr` makes a `jit` anew, which takes as long as tracing a few operations.
    from jax.extend.linear_util import wrap_init
    from jax.interpreters.partial_eval import trace_to_jaxpr_dynamic

    trees = []

    def flat(*inputs: Any) -> list[Any]:
        leaves, tree = jax.tree.flatten(function(*inputs))
        trees.append(tree)
        return leaves

    inner = _innermost(fun)
    code = inner.__code__
    place = f"{inner.__name__} at {code.co_filename}:{code.co_firstlineno}"
    wrapped = wrap_init(flat, debug_info=_origin(place, names))
    jaxpr, avals, consts = trace_to_jaxpr_dynamic(wrapped, types)
    if hasattr(jaxpr, "with_consts"):  # since jax 0.12 constants are inputs with a value
        jaxpr = jaxpr.with_consts(consts)
    return jaxpr, consts, avals, trees[0]


@functools.lru_cache(256)
def _origin(place: str, names: tuple[str, ...]) -> Any:
    """Return what JAX notes with a trace, for its errors."""
    from jax.api_util import debug_info

    arguments, signature = (0,) * len(names), _signature_of(names)
    return debug_info("jit", _origin, arguments, {}, sourceinfo=place, signature=signature)


@functools.lru_cache(256)
def _signature_of(names: tuple[str, ...]) -> inspect.Signature:
    place = inspect.Parameter.POSITIONAL_ONLY
    return inspect.Signature(
        [inspect.Parameter(_AnyName(name), place) for name in dict.fromkeys(names)]
    )


def _innermost(fun: Any) -> Any:
    fun = inspect.unwrap(fun)
    if isinstance(fun, functools.partial):
        return _innermost(fun.func)
    return fun if hasattr(fun, "__code__") else type(fun).__call__


def bind(eqn: Any, inputs: Sequence[Any]) -> list[Any]:
    """Return the outputs of an equation on other inputs."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    # Before jax 0.12 the functions among the parameters came apart, as arguments of their own.
    functions, bound = bound if isinstance(bound, tuple) else ((), bound)
    from jax.extend import source_info_util

    stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
    with source_info_util.user_context(eqn.source_info.traceback, name_stack=stack):
        outputs = eqn.primitive.bind(*functions, *inputs, **bound)
    return list(outputs) if eqn.primitive.multiple_results else [outputs]


def visible_params(eqn: Any) -> dict[str, Any]:
    """Return the parameters that say what an equation computes.

    Left out are custom derivative rules, opaque objects that every trace makes anew, what
    `jax.checkpoint` is to keep in memory, the function of a reduction, which is there as a program
    as well, and what `checkify` takes for the program of an operation of ours. Of a high-level
    operation it is the program that it stands for, and of a callback also whether `jax.vmap` has
    made its leading axis.
    """
    if eqn.primitive.name in _CUSTOM_RULES:
        return {
            name: value
            for name, value in eqn.params.items()
            if hasattr(value, "eqns") or isinstance(value, (bool, int, str))
        }
    if _HIGH in eqn.params:
        return {"jaxpr": inner_program(eqn)}
    hidden = ("policy", "computation") if "jaxpr" in eqn.params else ("policy",)
    if eqn.primitive.name.startswith("tdjax_"):
        hidden = (*hidden, "call_jaxpr")
    params = {name: value for name, value in eqn.params.items() if name not in hidden}
    if eqn.primitive.name == "pure_callback":
        params["vmapped"] = _made_by_vmap(eqn)
    return params


def _made_by_vmap(eqn: Any) -> bool:
    """Say whether the rule by which `jax.vmap` treats host functions has made an equation.

    The names of transformations around it would not tell: `jax.vmap` leaves alone what does not
    depend on what it maps.
    """
    frames = getattr(eqn.source_info.traceback, "frames", ())
    return any((frame.file_name, frame.function_name) == _VMAP_OF_CALLBACKS for frame in frames)


def rebuilt(sequence: Any, values: Iterable[Any]) -> Any:
    """Return a tuple, a list or a named tuple of the same type with other values."""
    kind = type(sequence)
    return kind._make(values) if hasattr(kind, "_make") else kind(values)


def inner_program(eqn: Any) -> Any:
    """Return the program that an equation calls, None if it calls none."""
    if _HIGH in eqn.params:
        return _expanded(eqn)
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr")
    found = (eqn.params[name] for name in names if name in eqn.params)
    return next(filter(_has_equations, found), None)


def _has_equations(program: Any) -> bool:
    """Say whether a program has equations, which those of two traces merge when they are read."""
    return hasattr(type(program), "eqns") or "eqns" in vars(program)


@functools.lru_cache(maxsize=64)
def _expanded(eqn: Any) -> Any:
    """Return the program that a high-level operation becomes when it is compiled (jax 0.12)."""
    inputs = [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in eqn.invars]
    return jax.make_jaxpr(functools.partial(eqn.primitive.to_lojax, **eqn.params))(*inputs)


def is_written_by(eqn: Any, *modules: str) -> bool:
    """Say whether a high-level operation is of a class that one of some modules defines."""
    return _HIGH in eqn.params and type(eqn.params[_HIGH]).__module__.startswith(modules)


def evaluate(
    jaxpr: Any,
    consts: Sequence[Any],
    inputs: Sequence[Any],
    run: Callable[[Any, Sequence[Any]], list[Any]] = bind,
) -> list[Any]:
    """Evaluate equations one by one, those of the programs that they call included.

    Inside `jax.shard_map` arrays may vary where others did not: what differs between devices may
    have been mixed into a shared array since the trace (where a device has nothing but padding, its
    weights are cut off from gradients). It need not be told again that it varies.

    Args:
        jaxpr: the equations.
        consts, inputs: what they start from.
        run: returns the outputs of one equation.
    """
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if is_literal(atom) else known[atom]

    for eqn in jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        inner = inner_program(eqn)
        if eqn.primitive.name == VARY and varying(values[0]).issuperset(eqn.params["axes"]):
            outputs = values
        elif eqn.primitive.name in ("jit", "pjit") and inner is not None:
            outputs = evaluate(inner.jaxpr, inner.consts, values, run)
        else:
            outputs = run(eqn, values)
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def is_closed(program: Any) -> bool:
    """Say whether a program is one that holds another and its constants: before jax 0.12."""
    return hasattr(program, "jaxpr") and type(program.jaxpr) is not type(program)


def with_programs(eqn: Any, change: Callable[[Any], Any]) -> Any:
    """Return an equation with other programs inside, itself if none is another."""
    params = {name: _with_changed(value, change) for name, value in eqn.params.items()}
    if all(map(operator.is_, params.values(), eqn.params.values())):
        return eqn
    return eqn.replace(params=params)


def _with_changed(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, (tuple, list)) and any(hasattr(inner, "eqns") for inner in value):
        inside = [_with_changed(inner, change) for inner in value]
        return value if all(map(operator.is_, inside, value)) else rebuilt(value, inside)
    return change(value) if hasattr(value, "eqns") else value


def scan_counts(eqn: Any) -> tuple[int, int]:
    """Return how many inputs of a scan are constants, and how many are carried."""
    if "num_consts" in eqn.params:
        return eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carry, _ = eqn.params["ft_in"].unpack()  # since jax 0.12
    return len(consts), len(carry)


def has_custom_rules(program: Any) -> bool:
    """Say whether anything in a program, however deep, has a derivative rule of its own."""
    return any(
        eqn.primitive.name.startswith("custom_") or _HIGH in eqn.params
        for eqn in all_equations(program)
    )


def uses_axis(program: Any, name: Any) -> bool:
    """Say whether anything in a program, however deep, talks along a named axis."""
    return any(names_axis(eqn, name) for eqn in all_equations(program))


def effects_of(eqn: Any) -> set[str]:
    """Return the kinds of side effects that an equation has: "IOEffect", "OrderedIOEffect", ..."""
    return {type(effect).__name__ for effect in eqn.effects}


def names_axis(eqn: Any, name: Any) -> bool:
    """Say whether an equation talks along a named axis."""
    return any(_names(eqn.params.get(key), name) for key in ("axes", "axis_name", "axis"))


def all_equations(program: Any) -> Iterator[Any]:
    """Yield the equations of a program and of the programs inside it."""
    for eqn in getattr(program, "jaxpr", program).eqns:
        yield eqn
        yield from equations_inside(eqn)


def equations_inside(eqn: Any) -> Iterator[Any]:
    """Yield the equations of the programs that an equation holds."""
    values = [inner_program(eqn)] if _HIGH in eqn.params else eqn.params.values()
    for value in values:
        for inner in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(inner, "eqns"):
                yield from all_equations(inner)


def count_equations(program: Any) -> int:
    """Return how many equations a program has, with those of the programs inside it."""
    return sum(1 for _ in all_equations(program))


def _names(value: Any, name: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_names(item, name) for item in value)
    return type(value) is type(name) and bool(value == name)
