"""Assertions for test suites: that a function or a layer keeps its meaning over time.

`assert_same_as_loop` runs the plain Python loop, and compares what every strategy gives with it.
`assert_row_independent` asks for the proof that a fold needs, and tries to contradict it: it
changes one row at a time and looks at all others.

Both run what they test many times: give them arguments of a few rows and steps.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.core.arrays import is_array
from tdjax.core.axes import Axes
from tdjax.core.call import Call, trace
from tdjax.core.errors import StrategyError, describe
from tdjax.core.jaxpr import all_equations
from tdjax.flax_guard import linen_module, nnx_module
from tdjax.function import TimeOptions, bind
from tdjax.independence import Proof, Rows, prove
from tdjax.strategies import Fold, Packed, Strategy, Vmap, parse
from tdjax.strategies.rows.padding import real_steps, zero
from tdjax.transform import TimeDistributed, time_distributed

__all__ = ["assert_row_independent", "assert_same_as_loop"]

TOLERANCE = {
    "float64": 1e-10,
    "complex128": 1e-10,
    "float32": 5e-5,
    "complex64": 5e-5,
    "float16": 1e-2,
    "bfloat16": 5e-2,
}
"""How far numbers may lie apart, relative to them and to the largest of their array."""

_FLOAT8 = 0.2
_HALF = (jnp.float16, jnp.bfloat16)
_SHOWN = 3  # differing leaves in a message

_OF_CALL = ("mask", "seq_lengths", "kwargs")
_OF_FUNCTION = ("in_axes", "out_axes", "masked_output", "partition", "axis_size")
_OF_LAYER = ("in_axes", "out_axes", "masked_output", "partition", "rng", "pooled", "variables")


def assert_same_as_loop(
    fun_or_layer: Any,
    *args: Any,
    strategies: Sequence[Any] | None = None,
    gradients: bool = True,
    tolerance: float | dict[str, float] | None = None,
    **options: Any,
) -> None:
    """Assert that strategies give what the plain Python loop gives, values and gradients.

    The loop calls the step function on every step and stacks what it returns. No gradient comes
    from steps without a real row, and other rows that a mask takes away are not shown to a function
    whose rows are independent. A layer draws the noise of `rng="split"`, unless told otherwise.
    Batch normalization in training is a loop only with `pooled=False`.

    Gradients are those of all inexact arguments (and variables of a layer), from all inexact
    outputs, for fixed random cotangents. Steps in float16 and bfloat16 are also compared with a
    loop in float32: a strategy may be as far from it as the loop itself is.

    Args:
        fun_or_layer: a step function, one wrapped by `tdjax.time_distributed`, a Linen module or an
            NNX module, wrapped or not. What is wrapped keeps its options.
        args: its arguments, with their time axes. Before those of a Linen module its variables may
            stand; otherwise it is initialized.
        strategies: names or objects. None for every one that applies: those that refuse the
            function with StrategyError are left out.
        gradients: whether to compare gradients as well.
        tolerance: relative to a number and to the largest of its array; one for all, or one for
            each name of a dtype. Default: `tdjax.testing.TOLERANCE`.
        options: `mask`, `seq_lengths`, `kwargs` (keyword arguments for every step, a dict), those
            of `tdjax.time_distributed` (`in_axes`, `out_axes`, `masked_output`, `partition`,
            `axis_size`), and for layers those of the wrapper (`rng`, `pooled`), `variables` (Linen)
            and `rngs` (Linen, default a key for "dropout").

    Raises:
        AssertionError: a strategy gives something else. It names the strategy, the leaf, step and
            row that differ, and by how much.
        StrategyError: a strategy in `strategies` refuses the function.
        ValueError, TypeError: arguments or options that do not fit.

    >>> import jax, jax.numpy as jnp
    >>> assert_same_as_loop(jnp.tanh, jnp.ones((2, 3, 4)))
    >>> weights = jnp.eye(4)
    >>> assert_same_as_loop(jnp.dot, jnp.ones((2, 3, 4)), weights, in_axes=(1, None))
    >>> centered = lambda x: x - x.mean(0)
    >>> batch = jnp.arange(12.0).reshape(2, 3, 2)
    >>> assert_same_as_loop(centered, batch)  # "fold" refuses it
    >>> from tdjax import Fold
    >>> assert_same_as_loop(centered, batch, strategies=[Fold(assume_independent=True)])
    Traceback (most recent call last):
        ...
    AssertionError: <lambda>, under Fold(assume_independent=True), is not the loop:
      output (float32[2,3,2]) differs in 8 of 12 elements, most at [0, 0, 0], step 0, row 0:
        loop -3, strategy -5, difference 2, allowed 0.000304
      ...
    """
    subject = _subject(fun_or_layer, args, options, "assert_same_as_loop")
    call = subject.call
    if call.time == 0:
        raise ValueError(f"assert_same_as_loop: {call.title} has no steps to compare.")
    limits = _Limits.of(tolerance, call)
    loop = _Loop.of(call)
    expected, noise = _loop_of(loop, gradients)
    named = strategies is not None
    ran = []
    for strategy in map(parse, _chosen(subject, strategies)):
        try:
            found = _evaluate(functools.partial(subject.run, strategy), call.leaves, gradients)
        except StrategyError:
            if named:
                raise
            continue
        ran.append(strategy)
        lines = list(_differences(loop, limits, found, expected, noise))
        if lines:
            raise AssertionError(_message(call, strategy, lines))
    if not ran:
        raise AssertionError(f"no strategy takes {call.title}; name one to see why.")


def assert_row_independent(
    fun: Any,
    *args: Any,
    gradients: bool = True,
    tolerance: float | dict[str, float] | None = None,
    **options: Any,
) -> None:
    """Assert that output row i depends on input row i alone: the proof, and a trial of it.

    First tdjax has to prove it, as for a fold. Then one row at a time is changed, in every step:
    no other row of the outputs may change, nor of the gradients, nor what the other rows add to the
    gradients of arguments that the rows share. A function that is not proven is tried as well, and
    the message says whether a row was seen to depend on another.

    Args:
        fun: a step function or a layer, wrapped or not, as for `assert_same_as_loop`.
        args: its arguments, with their time axes; two rows at least.
        gradients: whether to look at gradients as well.
        tolerance, options: as for `assert_same_as_loop`.

    Raises:
        AssertionError: it is not proven, or a row was seen to depend on another.
        ValueError, TypeError: arguments or options that do not fit.

    >>> import jax.numpy as jnp
    >>> rows = jnp.arange(12.0).reshape(2, 3, 2)
    >>> assert_row_independent(jnp.tanh, rows)
    >>> assert_row_independent(lambda x: x - x.mean(0), rows)
    Traceback (most recent call last):
        ...
    AssertionError: <lambda> is not proven to be row independent: ...
    Rows do depend on each other: with row 0 of step 0 changed (and no other),
      output (float32[2,2]) differs in 2 of 2 elements of other rows, most at [1, 0], row 1:
      ...
    """
    subject = _subject(fun, args, options, "assert_row_independent")
    call = subject.call
    if call.batch is not None and call.batch < 2:
        raise ValueError(
            f"assert_row_independent: a step of {call.title} has {call.batch} rows; give at least "
            f"2, so that one can be changed and another looked at."
        )
    proof = _proof(call)
    seen = next(_dependences(call, proof, gradients, _Limits.of(tolerance, call)), None)
    if proof.independent and seen is None:
        return
    if proof.independent:
        raise AssertionError(
            f"{call.title} is proven to be row independent, but {seen}\nEither the function is not "
            f"pure, or the proof of tdjax is wrong: please report it."
        )
    trial = (
        f"Rows do depend on each other: {seen}"
        if seen is not None
        else "Changing one row at a time changed no other: they may be independent all the same. "
        "Then write the operation in another way, or fold with "
        "tdjax.Fold(assume_independent=True)."
    )
    raise AssertionError(
        f"{call.title} is not proven to be row independent: {proof.reason}.\n{trial}"
    )


# What is tested.


@dataclasses.dataclass(frozen=True)
class _Subject:
    """A function or a layer, as a call whose steps a loop can run, and as strategies run it."""

    call: Call
    run: Callable[[Strategy, Sequence[Any]], Any]
    own: Strategy | None


def _subject(fun: Any, args: tuple, options: dict[str, Any], title: str) -> _Subject:
    if inspect.isclass(fun) or not callable(fun):
        raise TypeError(
            f"{title}: got {fun!r}; give a step function, or an instance of a Flax module."
        )
    for name in ("axis_name", "state", *["pooled"] * isinstance(fun, TimeDistributed)):
        owner = getattr(fun, "options", fun)
        if options.get(name) or (not inspect.isfunction(fun) and getattr(owner, name, None)):
            raise ValueError(
                f"{title}: {name} joins steps, and so it has another meaning than the loop that "
                f"runs them one by one."
            )
    linen, nnx = linen_module(), nnx_module()
    if isinstance(fun, linen):
        return _linen_subject(fun, args, _known(title, options, (*_OF_LAYER, "rngs")))
    if isinstance(fun, nnx):
        return _nnx_subject(fun, args, _known(title, options, _OF_LAYER[:-1]))
    return _function_subject(fun, args, _known(title, options, _OF_FUNCTION))


def _known(title: str, options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    names = (*_OF_CALL, *names)
    for name in options:
        if name not in names:
            raise TypeError(f"{title} has no option {name!r} here; it has {', '.join(names)}.")
    return dict(options)


def _of_call(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the mask and the keyword arguments out of the options."""
    masks = {name: options.pop(name, None) for name in ("mask", "seq_lengths")}
    return masks, dict(options.pop("kwargs", None) or {})


def _function_subject(fun: Any, args: tuple, options: dict[str, Any]) -> _Subject:
    masks, kwargs = _of_call(options)
    own = None
    if isinstance(fun, TimeDistributed):
        own = fun.options.strategy
        options = {**_fields(fun.options, _OF_FUNCTION), **options}
        fun = fun.__wrapped__
    settings = TimeOptions(**options)
    settings.check()
    call = bind(fun, settings, args, kwargs, **masks)

    def run(strategy: Strategy, leaves: Sequence[Any]) -> Any:
        wrapped = time_distributed(fun, strategy=strategy, **options)
        return wrapped(*_with_leaves(args, leaves), **masks, **kwargs)

    return _Subject(call, run, own)


def _fields(options: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def _with_leaves(args: Any, leaves: Sequence[Any]) -> Any:
    """Return arguments with other arrays."""
    flat, tree = jax.tree.flatten(args)
    arrays = iter(leaves)
    return jax.tree.unflatten(tree, [next(arrays) if is_array(x) else x for x in flat])


def _linen_subject(layer: Any, args: tuple, options: dict[str, Any]) -> _Subject:
    import flax.linen as nn

    from tdjax.linen import TimeDistributed as Wrapper

    class Holder(nn.Module):
        """What a wrapped layer is without its wrapper: a submodule called `layer`."""

        layer: Any

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.layer(*args, **kwargs)

    masks, kwargs = _of_call(options)
    variables, rngs = options.pop("variables", None), options.pop("rngs", None)
    if variables is None and len(args) > 1 and _holds_variables(args[0]):
        variables, *rest = args
        args = tuple(rest)
    own = layer.strategy if isinstance(layer, Wrapper) else None
    wrapper = layer.clone(**options) if isinstance(layer, Wrapper) else Wrapper(layer, **options)
    rngs = {"dropout": jax.random.key(1)} if rngs is None else rngs
    if variables is None:
        first = wrapper.clone(strategy="vmap")
        variables = first.init({"params": jax.random.key(0), **rngs}, *args, **masks, **kwargs)
        variables = {name: part for name, part in variables.items() if name != "intermediates"}
    elif not isinstance(layer, Wrapper) and not _are_of_wrapper(variables):
        variables = {name: {"layer": part} for name, part in variables.items()}
    state = [name for name in variables if name != "params"]
    held = wrapper.layer

    def step(variables: Any, index: Any, *step: Any, **kwargs: Any) -> Any:
        keys = {name: _key_of_step(key, index, wrapper.rng) for name, key in rngs.items()}
        return Holder(held).apply(variables, *step, rngs=keys, mutable=state, **kwargs)[0]

    def run(strategy: Strategy, leaves: Sequence[Any]) -> Any:
        variables, _, *rest = _with_leaves(given, leaves)
        timed = wrapper.clone(strategy=strategy)
        return timed.apply(variables, *rest, rngs=rngs, mutable=state, **masks, **kwargs)[0]

    named = _named(step, layer if not isinstance(layer, Wrapper) else held)
    call, given = _bind_layer(named, wrapper, variables, args, kwargs, masks)
    return _Subject(call, run, None if own is None else parse(own))


def _holds_variables(tree: Any) -> bool:
    return hasattr(tree, "keys") and hasattr(tree.get("params"), "keys")


def _are_of_wrapper(variables: Any) -> bool:
    return all(list(part) == ["layer"] for part in variables.values())


def _nnx_subject(layer: Any, args: tuple, options: dict[str, Any]) -> _Subject:
    from flax import nnx

    from tdjax.nnx import TimeDistributed as Wrapper

    masks, kwargs = _of_call(options)
    own = layer.options.strategy if isinstance(layer, Wrapper) else None
    if isinstance(layer, Wrapper):
        settings = {**vars(layer.options), **options}
        settings.pop("strategy")
        held, method = layer.layer, layer.method
    else:
        settings, held, method = options, layer, None
    if not isinstance(held, nnx.Module):
        subject = _function_subject(held, args, {**options, **masks, "kwargs": kwargs})
        return dataclasses.replace(subject, own=own)
    graph, state = nnx.split(held)

    def step(variables: Any, index: Any, *step: Any, **kwargs: Any) -> Any:
        module: Any = nnx.merge(graph, variables)
        for _, key in nnx.to_flat_state(nnx.state(module, nnx.RngKey)):
            key.set_value(_key_of_step(key.get_value(), index, wrapper.options.rng))
        return getattr(module, method or "__call__")(*step, **kwargs)

    def run(strategy: Strategy, leaves: Sequence[Any]) -> Any:
        variables, _, *rest = _with_leaves(given, leaves)
        module: Any = nnx.merge(graph, variables)
        bound = getattr(module, method) if method else module
        timed: Any = Wrapper(bound, strategy=strategy, **settings)
        return timed(*rest, **masks, **kwargs)

    wrapper = Wrapper(held, **settings)
    named = _named(step, getattr(held, method or "__call__"), type(held).__name__)
    call, given = _bind_layer(named, wrapper.options, state, args, kwargs, masks)
    return _Subject(call, run, own)


def _key_of_step(key: Any, index: Any, rng: str) -> Any:
    return key if rng == "shared" else jax.random.fold_in(key, index)


def _named(step: Callable[..., Any], like: Any, title: str = "") -> Callable[..., Any]:
    """Give a step the parameters of a layer, for messages and for `mask`."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [inspect.Parameter(name, kinds[0]) for name in ("variables", "step")]
    try:
        own = [p for p in inspect.signature(like).parameters.values() if p.name != "self"]
    except (ValueError, TypeError):
        own = []
    names = [p.name for p in own if p.kind in kinds and p.name != "mask"]
    parameters += [inspect.Parameter(name, kinds[0]) for name in names if name.isidentifier()]
    if any(p.name == "mask" for p in own):
        parameters.append(inspect.Parameter("mask", inspect.Parameter.KEYWORD_ONLY, default=None))
    step.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    step.__name__ = step.__qualname__ = title or type(like).__name__
    return step


def _bind_layer(
    step: Any, options: Any, variables: Any, args: tuple, kwargs: Any, masks: Any
) -> tuple[Call, tuple]:
    """Return the call of a layer as a function of its variables, and its arguments."""
    axes: Axes = options.in_axes
    axes = getattr(axes, "axes", axes)
    out_axes = getattr(options.out_axes, "axes", options.out_axes)
    of_args = tuple(axes) if isinstance(axes, (tuple, list)) else (axes,) * len(args)
    # Their number of steps is known once the arguments have been looked at.
    settings = TimeOptions((None, 0, *of_args), out_axes, masked_output=options.masked_output)
    alone = dataclasses.replace(settings, in_axes=of_args)
    time = bind(lambda *_: None, alone, args, **masks).time
    given = (variables, jnp.arange(time), *args)
    return bind(step, settings, given, kwargs, **masks), given


def _chosen(subject: _Subject, strategies: Sequence[Any] | None) -> list[Any]:
    if strategies is not None:
        given = [strategies] if isinstance(strategies, (str, Strategy)) else list(strategies)
        if not given:
            raise ValueError("strategies is empty; name some, or leave it out for all.")
        return given
    call = subject.call
    found: list[Any] = ["vmap", "map", "unroll", Vmap(chunk_size=2), "fold", "auto"]
    if call.batch:
        found += [Fold(chunk_size=call.batch + 1), Fold(chunk_size=1)]
    if call.mask is not None:
        found += ["packed", Packed(chunk_size=2)]
    return found if subject.own is None else [*found, subject.own]


# The loop.


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The loop over the steps of a call.

    Attributes:
        call: the call.
        proof: whether its rows are independent, and where outputs have them.
        real: bool `(batch, time)` where masked steps give zero, else None.
        avals: what one step returns.
        axes: where time goes in each output.
    """

    call: Call
    proof: Proof
    real: np.ndarray | None
    avals: tuple[Any, ...]
    axes: tuple[int | None, ...]

    @staticmethod
    def of(call: Call) -> _Loop:
        zeroed = call.mask is not None and call.masked_output == "zero"
        if zeroed and isinstance(call.mask, jax.core.Tracer):
            raise TypeError("tdjax.testing needs a mask whose values are known, not a traced one.")
        program = trace(call, call.batch)
        real = np.asarray(real_steps(call.mask)) if zeroed else None
        return _Loop(
            call,
            _proof(call),
            real,
            tuple(program.out_avals),
            tuple(program.out_axes(call)),
        )

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """Return the outputs of all steps, stacked."""
        steps, tree = [], None
        for step in range(self.call.time):
            output, tree = self._step(leaves, step)
            steps.append(output)
        stacked = [
            parts[0] if axis is None else jnp.stack([jnp.asarray(part) for part in parts], axis)
            for parts, axis in zip(zip(*steps, strict=True), self.axes, strict=True)
        ]
        if self.real is not None:
            stacked = [
                zero(value, axis, self.rows_of(place), jnp.asarray(self.real))
                for place, (value, axis) in enumerate(zip(stacked, self.axes, strict=True))
            ]
        return jax.tree.unflatten(tree, stacked)

    def rows_of(self, place: int) -> Rows | None:
        """Return where an output of one step has its rows: as proven, else leading."""
        return _rows_of(self.call, self.proof, place, self.avals[place])

    def _step(self, leaves: Sequence[Any], step: int) -> tuple[list[Any], Any]:
        given = [
            leaf if axis is None else jax.lax.index_in_dim(leaf, step, axis, keepdims=False)
            for leaf, axis in zip(map(_array, leaves), self.call.axes, strict=True)
        ]
        real = None if self.real is None else self.real[:, step]
        if real is not None and not real.any():
            given = jax.lax.stop_gradient(given)  # nothing of such a step is left
        if real is not None and self.proof.independent:
            given = [
                _filled(value, real) if role in ("rows", "spread") else value
                for value, role in zip(given, self.proof.roles, strict=True)
            ]
        return jax.tree.flatten(self.call.step(given))


def _filled(value: Any, real: np.ndarray) -> Any:
    """Return rows of a step with a real one in the place of those that a mask takes away."""
    copy = value[int(np.argmax(real))][None]
    copy = jax.lax.stop_gradient(copy) if _inexact(value) else copy
    return jnp.where(real.reshape([-1] + [1] * (value.ndim - 1)), value, copy)


def _array(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf


def _proof(call: Call) -> Proof:
    if call.batch is None:
        return Proof(False, "no argument has both time and batch", call.roles)
    return prove(call, 2 * call.batch + 1).proof


def _rows_of(call: Call, proof: Proof, place: int, aval: Any) -> Rows | None:
    if proof.independent:
        kind = proof.outputs[place]
        return kind if isinstance(kind, Rows) else None
    return Rows(0) if aval.shape and aval.shape[0] == call.batch else None


def _loop_of(loop: _Loop, gradients: bool) -> tuple[_Found, list[float] | None]:
    """Return what the loop gives, and in half precision how far it is from a loop in float32."""
    leaves = loop.call.leaves
    found = _evaluate(loop, leaves, gradients)
    half = [is_array(leaf) and leaf.dtype in _HALF for leaf in leaves]
    if not any(half):
        return found, None
    wide = [
        leaf.astype(jnp.float32) if yes else leaf for leaf, yes in zip(leaves, half, strict=True)
    ]
    try:
        exact = _evaluate(loop, wide, gradients)
    except Exception:  # the function takes nothing wider
        return found, None
    pairs = zip(found.leaves, exact.leaves, strict=True)
    noise = [_largest(np.abs(_wide(one) - _wide(two))) for one, two in pairs]
    return dataclasses.replace(exact, like=found.leaves), noise


# What they give, and how it is compared.


@dataclasses.dataclass(frozen=True)
class _Found:
    """Outputs and gradients.

    Attributes:
        tree: the structure of the outputs.
        outputs: the leaves of the outputs, with their paths.
        gradients: the gradients of the inexact leaves of the arguments, in their order.
        like: arrays of the shapes and dtypes that are demanded; None for its own.
    """

    tree: Any
    outputs: list[Any]
    gradients: list[Any]
    paths: list[str]
    like: list[Any] | None = None

    @property
    def leaves(self) -> list[Any]:
        return [*self.outputs, *self.gradients]


def _inexact(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _evaluate(run: Any, leaves: Sequence[Any], gradients: bool) -> _Found:
    """Return what `run(leaves)` gives, and its gradients for fixed random cotangents."""
    places = [i for i, leaf in enumerate(leaves) if _inexact(leaf)]

    def everything(leaves: list[Any]) -> tuple[Any, list[Any]]:
        def chosen(*parts: Any) -> tuple[list[Any], Any]:
            merged = list(leaves)
            for place, part in zip(places, parts, strict=True):
                merged[place] = part
            output = jax.tree.map(jnp.asarray, run(merged))
            return [y for y in jax.tree.leaves(output) if _inexact(y)], output

        if not gradients or not places:
            return chosen(*(leaves[place] for place in places))[1], []
        smooth, pull, output = jax.vjp(chosen, *(leaves[place] for place in places), has_aux=True)
        random = np.random.default_rng(0)
        return output, list(pull([_cotangent(random, y) for y in smooth])) if smooth else []

    output, found = jax.jit(everything)(list(leaves))
    flat = jax.tree_util.tree_leaves_with_path(output)
    paths = [jax.tree_util.keystr(path) for path, _ in flat]
    return _Found(jax.tree.structure(output), [leaf for _, leaf in flat], found, paths)


def _cotangent(random: np.random.Generator, output: Any) -> Any:
    value = random.normal(size=output.shape)
    if jnp.issubdtype(output.dtype, jnp.complexfloating):
        value = value + 1j * random.normal(size=output.shape)
    return jnp.asarray(value, output.dtype)


@dataclasses.dataclass(frozen=True)
class _Limits:
    """How far numbers may lie apart.

    Attributes:
        table: for each name of a dtype.
        least: for all numbers, because of the coarsest dtype that a step computes with.
    """

    table: dict[str, float]
    least: float

    @staticmethod
    def of(tolerance: Any, call: Call) -> _Limits:
        table = TOLERANCE
        if isinstance(tolerance, dict):
            table = {**TOLERANCE, **{str(jnp.dtype(k)): v for k, v in tolerance.items()}}
        elif tolerance is not None:
            return _Limits(dict.fromkeys(TOLERANCE, float(tolerance)), float(tolerance))
        program = trace(call, call.batch)
        atoms = (atom for eqn in all_equations(program.jaxpr) for atom in eqn.outvars)
        names = {str(atom.aval.dtype) for atom in atoms if hasattr(atom.aval, "dtype")}
        coarse = [table[name] for name in names & {"float16", "bfloat16"}]
        coarse += [_FLOAT8] * any("float8" in name for name in names)
        return _Limits(table, max(coarse, default=0.0))

    def allowed(self, like: Any, expected: np.ndarray, noise: float) -> np.ndarray:
        """Return how far each number may lie from what is expected."""
        if not _inexact(like):
            return np.zeros(expected.shape)
        limit = max(self.table.get(str(like.dtype), 0.0), self.least)
        size = np.abs(np.where(np.isfinite(expected), expected, 0))
        rest = 32 * float(jnp.finfo(like.dtype).eps) if limit else 0.0
        return limit * (size + _largest(size)) + 2 * noise + rest


def _largest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else 0.0


def _wide(leaf: Any) -> np.ndarray:
    """Return an array as NumPy can compare it."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.asarray(leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), np.float64)
    return np.asarray(leaf)


def _apart(
    limits: _Limits, like: Any, found: Any, expected: Any, noise: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return both as NumPy arrays, their difference, and how far they may lie apart."""
    ours, theirs = _wide(found), _wide(expected)
    if ours.dtype == bool:
        ours, theirs = ours.astype(int), theirs.astype(int)
    with np.errstate(all="ignore"):
        same = (ours == theirs) | ((ours != ours) & (theirs != theirs))
        apart = np.where(same, 0, np.abs(ours.astype(theirs.dtype) - theirs))
    apart = np.where(np.isnan(apart), np.inf, apart)
    return ours, theirs, apart, limits.allowed(like, theirs, noise)


def _differences(
    loop: _Loop, limits: _Limits, found: _Found, expected: _Found, noise: list[float] | None
) -> Iterator[str]:
    """Yield a description of every leaf that is not the loop's."""
    if found.tree != expected.tree:
        yield f"  outputs have the structure {found.tree}, the loop's have {expected.tree}"
        return
    call = loop.call
    inexact = [i for i, leaf in enumerate(call.leaves) if _inexact(leaf)]
    names = [f"output{path}" for path in expected.paths]
    names += [f"gradient of {call.names[i]}" for i in inexact][: len(expected.gradients)]
    axes = [*loop.axes, *(call.axes[i] for i in inexact)]
    demanded = expected.like or expected.leaves
    for place, (name, ours, theirs, like) in enumerate(
        zip(names, found.leaves, expected.leaves, demanded, strict=True)
    ):
        if (ours.shape, ours.dtype) != (like.shape, like.dtype):
            yield f"  {name} is {describe(ours)}, the loop's is {describe(like)}"
            continue
        if place < len(loop.axes):
            rows = loop.rows_of(place)
            row_axis = rows.axis if rows and rows.outer == rows.inner == 1 else None
        else:
            role = call.roles[inexact[place - len(loop.axes)]]
            row_axis = 0 if role in ("rows", "spread") else None
        numbers = _apart(limits, like, ours, theirs, noise[place] if noise else 0.0)
        if (numbers[2] > numbers[3]).any():
            where = functools.partial(_step_and_row, axes[place], row_axis)
            yield _described(f"{name} ({describe(like)})", numbers, where)


def _step_and_row(axis: int | None, row_axis: int | None, index: tuple[int, ...]) -> str:
    text, rest = "", list(index)
    if axis is not None:
        text = f", step {rest.pop(axis)}"
    return text if row_axis is None else f"{text}, row {rest[row_axis]}"


def _described(
    name: str,
    numbers: tuple[np.ndarray, ...],
    where: Callable[[tuple[int, ...]], str],
    words: tuple[str, str] = ("loop", "strategy"),
    among: str = "elements",
) -> str:
    ours, theirs, apart, allowed = numbers
    wrong = apart > allowed
    most = np.unravel_index(int(np.argmax(np.where(wrong, apart, -1.0))), apart.shape)
    index = tuple(map(int, most))
    at = f", most at {list(index)}{where(index)}" if index else ""
    return (
        f"  {name} differs in {int(wrong.sum())} of {apart.size} {among}{at}:\n"
        f"    {words[0]} {_number(theirs[most])}, {words[1]} {_number(ours[most])}, "
        f"difference {apart[most]:.3g}, allowed {allowed[most]:.3g}"
    )


def _number(value: Any) -> str:
    return f"{value:.7g}" if np.issubdtype(value.dtype, np.inexact) else str(value)


def _message(call: Call, strategy: Strategy, lines: list[str]) -> str:
    left = len(lines) - _SHOWN
    more = [f"  and {left} more arrays"] if left > 0 else []
    name = str(strategy)
    name = name if name.endswith(")") else repr(name)
    heading = f"{call.title}, under {name}, is not the loop:"
    return "\n".join([heading, *lines[:_SHOWN], *more])


# A row at a time.


def _dependences(call: Call, proof: Proof, gradients: bool, limits: _Limits) -> Iterator[str]:
    """Yield what is seen of a row when another one is changed."""
    if call.batch is None or not call.time:
        return
    roles = proof.roles
    rows = [i for i, role in enumerate(roles) if role in ("rows", "spread")]
    avals = trace(call, call.batch).out_avals
    smooth = [place for place, aval in enumerate(avals) if _inexact(aval)]
    places = [i for i, leaf in enumerate(call.leaves) if _inexact(leaf)]
    random = np.random.default_rng(0)
    pulled = [np.asarray(_cotangent(random, avals[place])) for place in smooth]

    @jax.jit
    def evaluate(values: list[Any], cotangents: list[Any]) -> tuple[list[Any], list[Any]]:
        def chosen(*parts: Any) -> tuple[list[Any], list[Any]]:
            merged = list(values)
            for place, part in zip(places, parts, strict=True):
                merged[place] = part
            flat = [jnp.asarray(y) for y in jax.tree.leaves(call.step(merged))]
            return [flat[place] for place in smooth], flat

        parts = [values[place] for place in places]
        if not gradients or not places or not smooth:
            return chosen(*parts)[1], []
        _, pull, flat = jax.vjp(chosen, *parts, has_aux=True)
        return flat, list(pull(cotangents))

    kinds = [_rows_of(call, proof, place, aval) for place, aval in enumerate(avals)]
    for step in range(call.time):
        given = [
            leaf if axis is None else jax.lax.index_in_dim(leaf, step, axis, keepdims=False)
            for leaf, axis in zip(map(_array, call.leaves), call.axes, strict=True)
        ]
        for row in range(call.batch):
            changed = [
                _changed(value, row, random) if i in rows else value
                for i, value in enumerate(given)
            ]
            cotangents = [
                _without(value, kinds[place], row, call.batch)
                for value, place in zip(pulled, smooth, strict=True)
            ]
            before, after = evaluate(given, cotangents), evaluate(changed, cotangents)
            wheres = [*kinds, *(Rows(0) if i in rows else None for i in places)]
            names = [f"output{path}" for path in _paths(call, given)]
            names += [f"gradient of {call.names[i]}" for i in places]
            pairs = zip(
                names, wheres, [*before[0], *before[1]], [*after[0], *after[1]], strict=False
            )
            for name, where, one, two in pairs:
                text = _seen(call, limits, name, where, row, one, two)
                if text:
                    yield f"with row {row} of step {step} changed (and no other),\n{text}"


def _paths(call: Call, given: list[Any]) -> list[str]:
    shapes = jax.eval_shape(call.step, given)
    return [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(shapes)]


def _changed(value: Any, row: int, random: np.random.Generator) -> Any:
    """Return an array with another row in the place of one: the next, a little smaller."""
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value.at[row].set(jax.random.fold_in(value[row], 1)) if value.ndim == 1 else value
    other = np.roll(_wide(value) if not _is_complex(value) else np.asarray(value), -1, 0)[row]
    if _inexact(value):
        other = other * (1 - 0.1 * random.uniform(size=other.shape))
        if not np.any(other):
            other = 0.1 * random.uniform(size=other.shape)
    return value.at[row].set(jnp.asarray(other, value.dtype))


def _is_complex(value: Any) -> bool:
    return bool(jnp.issubdtype(value.dtype, jnp.complexfloating))


def _owner(shape: tuple[int, ...], rows: Rows, batch: int) -> np.ndarray:
    """Return which row each element along the axis of rows belongs to, shaped to broadcast."""
    owner = np.arange(shape[rows.axis]) // rows.inner % batch
    return owner.reshape([-1 if i == rows.axis else 1 for i in range(len(shape))])


def _without(cotangent: np.ndarray, rows: Rows | None, row: int, batch: int) -> Any:
    """Return a cotangent that is zero for one row, and for values without rows."""
    if rows is None:
        return jnp.zeros(cotangent.shape, cotangent.dtype)
    keep = _owner(cotangent.shape, rows, batch) != row
    return jnp.asarray(np.where(keep, cotangent, np.zeros_like(cotangent)))


def _seen(
    call: Call, limits: _Limits, name: str, rows: Rows | None, row: int, one: Any, two: Any
) -> str:
    """Describe how an array differs outside of a row, if it does."""
    ours, theirs, apart, allowed = _apart(limits, one, two, one, 0.0)
    others = np.ones(apart.shape, bool)
    if rows is not None:
        others = np.broadcast_to(_owner(apart.shape, rows, call.batch) != row, apart.shape)
    apart = np.where(others, apart, 0)
    if not (apart > allowed).any():
        return ""

    def where(index: tuple[int, ...]) -> str:
        if rows is None:
            return ""
        return f", row {index[rows.axis] // rows.inner % call.batch}"

    text = _described(
        f"{name} ({describe(one)})",
        (ours, theirs, apart, allowed),
        where,
        ("before", "after"),
        "elements of other rows",
    )
    return text.replace(f"of {apart.size} elements", f"of {int(others.sum())} elements")
