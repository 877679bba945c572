"""What is compared, made uniform: flat arrays in, flat arrays out, one function a strategy.

A function, a wrapped function, a Linen module and an NNX module all become a `Subject`.
Everything downstream (compiling, running in another process, checking) sees lists of plain
arrays: typed keys travel as their bits, and what is not an array is closed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from tdjax.comparison.hlo import Steps
from tdjax.comparison.peers import Peer
from tdjax.comparison.subjects.flax_modules import Prepared, is_module, prepare
from tdjax.comparison.subjects.leaves import describe_arrays, normal
from tdjax.comparison.subjects.partitioned import apart, left_to_xla, put
from tdjax.comparison.subjects.time_axes import placed_axes, steps_of, streamed
from tdjax.core.arrays import is_array, is_inexact, keys_of, words_of
from tdjax.transform import TimeDistributed, time_distributed

MODES = ("forward", "grad")

Arrays = list[Any]
Run = Callable[[Any, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Subject:
    """One thing to compare strategies on.

    Attributes:
        name: what its entries' `workload` says.
        arrays: every array that it takes, flat.
        differentiated: the positions in `arrays` that a gradient is taken of.
        call: `call(strategy, arrays)` gives the outputs and the state that it changed, both
            pytrees; under tracing.
        description: a line for reports.
        steps: its batch and time size, None where they are not known.
        streamed: the positions in `arrays` of those that have a time axis.
    """

    name: str
    arrays: Arrays
    differentiated: tuple[int, ...]
    call: Run
    description: str
    steps: Steps | None = None
    streamed: tuple[int, ...] = ()

    def function(self, strategy: Any, mode: str) -> Callable[..., Arrays]:
        """Return `f(arrays, cotangents) -> arrays` under this strategy.

        In the mode "forward" it returns what the subject returns. In the mode "grad" also
        the gradients, in the order of `differentiated`.
        """

        def forward(arrays: Arrays, cotangents: Arrays) -> Arrays:
            return jax.tree.leaves(self.call(strategy, arrays))

        def gradient(arrays: Arrays, cotangents: Arrays) -> Arrays:
            def outputs(*chosen: Any) -> tuple[Arrays, Arrays]:
                given = list(arrays)
                for position, value in zip(self.differentiated, chosen, strict=True):
                    given[position] = value
                answer, state = self.call(strategy, given)
                inexact = [leaf for leaf in jax.tree.leaves(answer) if is_inexact(leaf)]
                others = [leaf for leaf in jax.tree.leaves(answer) if not is_inexact(leaf)]
                return inexact, [*others, *jax.tree.leaves(state)]

            chosen = [arrays[position] for position in self.differentiated]
            answer, pullback, others = jax.vjp(outputs, *chosen, has_aux=True)
            return [*answer, *others, *pullback(cotangents)]

        return forward if mode == "forward" else gradient

    def has_gradient(self, strategy: Any) -> bool:
        """Say whether any input and any output can be differentiated."""
        answer, _ = jax.eval_shape(partial(self.call, strategy), self.arrays)
        return bool(self.differentiated) and any(map(is_inexact, jax.tree.leaves(answer)))

    def cotangents(self, strategy: Any, mode: str) -> Arrays:
        """Return one fixed random array for each inexact output; none in the mode "forward".

        Raises:
            ValueError: in the mode "grad", nothing can be differentiated.
        """
        shapes = self.cotangent_shapes(strategy, mode)
        random = np.random.default_rng(0)
        return [normal(random, shape.shape, shape.dtype) for shape in shapes]

    def cotangent_shapes(self, strategy: Any, mode: str) -> Arrays:
        """Return the shapes of `cotangents`.

        Raises:
            ValueError: in the mode "grad", nothing can be differentiated.
        """
        answer, _ = jax.eval_shape(partial(self.call, strategy), self.arrays)
        if mode == "forward":
            return []
        shapes = [leaf for leaf in jax.tree.leaves(answer) if is_inexact(leaf)]
        if not shapes or not self.differentiated:
            raise ValueError(
                f"{self.name}: mode 'grad' needs floating point arrays to differentiate, and got "
                f"{len(self.differentiated)} such arguments and {len(shapes)} such outputs. "
                f'Compare it with mode="forward".'
            )
        return shapes


def subject(
    fun: Any,
    args: tuple[Any, ...],
    *,
    in_axes: Any = 1,
    out_axes: Any = 1,
    mask: Any = None,
    seq_lengths: Any = None,
    kwargs: dict[str, Any] | None = None,
    partition: Any = None,
    name: str | None = None,
    description: str | None = None,
) -> Subject:
    """Return what `compare` runs, for a function or a Flax module.

    Raises:
        TypeError: `fun` is a class, or cannot be called.
    """
    if isinstance(fun, type):
        raise TypeError(
            f"fun: got the class {fun.__name__}; give an instance of it, or a function."
        )
    if not callable(fun):
        raise TypeError(f"fun: got {type(fun).__name__}, needed a function or a Flax module.")
    owned = {"mask": mask, "seq_lengths": seq_lengths}
    call_with = {**(kwargs or {}), **{key: v for key, v in owned.items() if v is not None}}
    alone = left_to_xla(partition)
    options = {"in_axes": in_axes, "out_axes": out_axes, "partition": alone}
    prepare_it = prepare if is_module(fun) else _function
    run, trees = prepare_it(fun, args, call_with, options)
    axes = own_option(fun, "in_axes", in_axes)
    flat = _flat(
        name or _name(fun), run, trees, description or describe_arrays(args), streamed(args, axes)
    )
    where = placed_axes(args, axes)
    arrays = [put(array, where, partition) for array in flat.arrays]
    return replace(flat, steps=steps_of(args, axes), arrays=arrays)


def own_option(fun: Any, name: str, given: Any) -> Any:
    """Return an option of a wrapper, wherever it keeps it; of anything else, the given value."""
    options = getattr(fun, "options", None)
    return getattr(fun if options is None else options, name, given)


def _function(
    fun: Any, args: tuple[Any, ...], call_with: dict[str, Any], options: dict[str, Any]
) -> Prepared:
    step, options = _unwrapped(fun, options)

    def run(strategy: Any, given: Any, keywords: Any, rest: Any) -> tuple[Any, Any]:
        if isinstance(strategy, Peer):
            axes = options["in_axes"], options["out_axes"]
            return strategy.run(step, given, keywords, *axes), ()
        return time_distributed(step, **apart(strategy, options))(*given, **keywords), ()

    return run, (args, call_with, ())


def _unwrapped(fun: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return step function and options of a wrapped function; of any other, what is given."""
    if not isinstance(fun, TimeDistributed):
        return fun, options
    varied = ("strategy", "partition")
    own = {name: value for name, value in vars(fun.options).items() if name not in varied}
    return fun.__wrapped__, {**options, **own}


def _flat(
    name: str,
    run: Callable[..., Any],
    trees: tuple[Any, ...],
    description: str,
    streams: Sequence[Any],
) -> Subject:
    """Return the subject of `run(strategy, given, keywords, rest)`; `given` is differentiated."""
    leaves, structure = jax.tree.flatten(trees)
    own_leaves = len(jax.tree.leaves(trees[0]))
    positions = [i for i, leaf in enumerate(leaves) if is_array(leaf)]
    differentiated = tuple(
        place for place, i in enumerate(positions) if i < own_leaves and is_inexact(leaves[i])
    )

    new = set(map(id, streams))
    streamed_at = tuple(place for place, i in enumerate(positions) if id(leaves[i]) in new)

    def call(strategy: Any, arrays: Arrays) -> tuple[Any, Any]:
        given = list(leaves)
        for position, array in zip(positions, arrays, strict=True):
            given[position] = keys_of(array, leaves[position])
        answer, state = run(strategy, *jax.tree.unflatten(structure, given))
        return jax.tree.map(_bits, answer), jax.tree.map(_bits, state)

    arrays = [words_of(leaves[i]) for i in positions]
    return Subject(name, arrays, differentiated, call, description, streamed=streamed_at)


def _bits(leaf: Any) -> Any:
    """Return the bits of typed keys; anything else as it is, even what is no array."""
    return words_of(leaf) if is_array(leaf) else leaf


def _name(fun: Any) -> str:
    """Return a function's name; that of one inside another with its module, not with the other."""
    name = getattr(fun, "__qualname__", None) or type(fun).__name__
    outer, _, own = name.rpartition("<locals>.")
    return f"{fun.__module__}.{own}" if outer else name
