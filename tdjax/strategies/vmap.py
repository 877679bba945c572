"""The strategy that maps the step function over time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.arrays import cut, is_symbolic
from tdjax.core.axes import check_out_axes, normalize_out_axis
from tdjax.core.call import Call, Program, trace, trace_along
from tdjax.core.errors import StrategyError, describe
from tdjax.core.jaxpr import stand_in
from tdjax.core.shared import repeated, split
from tdjax.independence import Proof, Proven, Rows, prove
from tdjax.independence.differing import follow_steps
from tdjax.independence.one_by_one import makes_refs, why_one_by_one
from tdjax.independence.rules.derivatives import NOT_ZERO, adds_by_itself
from tdjax.independence.shared_gradients import gives_new_values, needs_own_copies
from tdjax.strategies.base import InOrder, Strategy
from tdjax.strategies.chunked import Chunked
from tdjax.strategies.convolution import convolving_fast
from tdjax.strategies.rows.blocks import in_blocks
from tdjax.strategies.rows.checks import reporting_checks
from tdjax.strategies.rows.compiled_once import execute
from tdjax.strategies.rows.layout import repeat
from tdjax.strategies.rows.padding import fill, real_steps, zero
from tdjax.strategies.rows.prints import lift_prints
from tdjax.strategies.rows.recomputing import recomputing


@dataclasses.dataclass(frozen=True)
class Vmap(Chunked):
    """`jax.vmap` over the time axis, all steps at once or `chunk_size` of them.

    Without `chunk_size` it is the reference that everything else is compared with. With it, chunks
    of steps are computed one after the other, which bounds memory: `chunk_size=1` scans over steps
    as `jax.lax.map` does (the name "map"), and `chunk_size=1, unroll=True` is a Python loop and a
    stack (the name "unroll"). It takes any function, which always sees whole steps.

    What a backward rule returns for a shared argument without looking at the step, `jax.vmap`
    counts once, and the loop once a step; so does plain `Vmap()`. In chunks, with a mask, or chosen
    by `tdjax.Auto`, every step gets a copy of what is shared, and gradients are those of the loop.
    In the same way `jax.vmap`, and plain `Vmap()`, call the host once for all steps where
    `jax.experimental.io_callback` is given nothing that differs between them. What `jax.vmap` has
    no rule for is taken one step after the other, by `chunk_size=1` or `tdjax.Auto`.

    In dtypes narrower than float32, chunks add up the gradients of what is shared in float32, and
    round once. Plain `Vmap()` is XLA's own program, and not the measure of precision there: on a
    CPU, XLA adds up the gradient of a bias in bfloat16 (over 4,096 rows it is off by 19%), and
    since jax 0.12 those of some products. `tdjax.compare` and `tdjax.tune` check against float32.

    Args:
        chunk_size: steps at once; None for all. It need not divide the number of steps. In chunks,
            even a single one of all steps, convolutions are tdjax's own, which a CPU computes up to
            30 times faster.
        unroll: True writes every chunk out instead of looping over them; an int is the number of
            chunks per turn of the loop.
        remat: recompute a chunk in the backward pass instead of keeping what it computed.

    >>> Vmap(chunk_size=4, remat=True)
    Vmap(chunk_size=4, unroll=False, remat=True)
    """

    folds = False
    unit = "steps"

    @staticmethod
    def size(batch: Any, time: Any) -> Any:
        """Return how many steps a call has."""
        return time

    def in_order(self) -> InOrder | None:
        """Return the loop over single steps, if it takes them one by one."""
        return InOrder(self.unroll or 1, self.remat) if self.chunk_size == 1 else None

    def along_axis(self, call: Call) -> Strategy | None:
        """Return the form without chunks, unless there are several."""
        return Vmap(remat=self.remat) if self.takes_all(call.batch, call.time) else None

    def run(self, call: Call, proven: Proven | None = None) -> Any:
        """Map the step over time."""
        whole = self.takes_all(call.batch, call.time) and self.chunk_size != 1
        self._check_types(call)
        zeroed = call.mask is not None and call.masked_output == "zero"
        if whole and not call.pooled:
            named = call.axis_name is not None
            if not zeroed and proven is None and (named or self.chunk_size is None):
                call = call if named else self._seen(call)
                if named or call.traced is None:
                    return self._plain(call)
            if named:
                output = self._plain(call)
                return _zeroed_by_shape(call, output) if zeroed else output
        if proven is None and (zeroed or call.pooled):
            proven = prove(call, call.batch)
        if call.pooled and (proven is None or not proven.proof.independent):
            raise StrategyError(
                f"{call.title} with pooled=True sees all steps as one batch, and its rows are not "
                f"independent ({proven.proof.reason if proven else ''}), so that {self} would give "
                f'another answer. Use strategy="fold".'
            )
        program = trace(call, call.batch) if proven is None else proven.step
        if self._fills(call) and proven is None:
            call = call.replace(traced=program)
            if (lifted := lift_prints(call)) is not None:  # copies of steps would print again
                return lifted.finish(self.run(lifted))
        if zeroed and proven is not None and proven.proof.independent:
            call = call.replace(roles=proven.proof.roles).with_rows_mapped()
        return self._traced(call, program, proven.proof if proven else None, zeroed, whole)

    def _seen(self, call: Call) -> Call:
        """Return a call with its trace, if it has one or needs one before it runs."""
        if self.remat or gives_new_values(call):
            return call.replace(traced=trace(call, call.batch))
        known = call.traced_on(call.batch)
        return call if known is call.traced else call.replace(traced=known)

    def _check_types(self, call: Call) -> None:
        """Raise StrategyError where jax.vmap would fail in the addition of gradients."""
        for name, leaf in zip(call.names, call.leaves, strict=True):
            if adds_by_itself(leaf) and self.chunk_size != 1:
                raise StrategyError(
                    f"{name} is {describe(leaf)}, a type with an addition of its own, which "
                    f"jax.vmap cannot do, and {self} runs several steps at once. Use "
                    f'strategy="map" (or "auto"), or convert it to a floating point type.'
                )

    def _fills(self, call: Call) -> bool:
        """Say whether a last chunk is filled up with copies of steps."""
        return not is_symbolic(call.time) and bool(call.time % (self.chunk_size or call.time))

    def _needs_copies(self, call: Call, program: Program, zeroed: bool) -> bool:
        """Say whether steps need copies of what they share, so that gradients are the loop's."""
        if not call.is_differentiable(program):
            return False
        mapped = [axis is not None for axis in call.axes]
        return needs_own_copies(program.jaxpr, mapped, self._fills(call) or zeroed)

    def _plain(self, call: Call) -> Any:
        def step(*leaves: Any) -> Any:
            output = _step(call, list(leaves))
            _check_out_axes(call, output)
            return output

        shown = stand_in(step, call.step, call.names)
        try:
            with jax.named_scope("tdjax.vmap"):
                return jax.vmap(
                    jax.checkpoint(shown) if self.remat else shown,
                    in_axes=call.axes,
                    out_axes=call.out_axes,
                    axis_name=call.axis_name,
                    axis_size=None if any(axis is not None for axis in call.axes) else call.time,
                )(*call.leaves)
        except (NotImplementedError, ValueError) as error:
            program = None if isinstance(error, StrategyError) else _retraced(call)
            if program is None:
                raise
            self._check_batches(call, program)
            if call.axis_name is not None or not makes_refs(program):
                raise  # the step's own error
        return self._traced(call, program, None, zeroed=False, whole=True)

    def _check_batches(self, call: Call, program: Program) -> None:
        """Raise StrategyError if steps have to run one after the other, and this runs several."""
        if self.chunk_size == 1:
            return
        reason = why_one_by_one(call, program, self._fills(call))
        if reason:
            raise StrategyError(
                f"{call.title} cannot run several steps at once, as strategy={str(self)!r} does, "
                f'because {reason}. Use strategy="map" or "unroll" (or "auto"), which run one step '
                f"after the other."
            )

    def _traced(
        self, call: Call, program: Program, proof: Proof | None, zeroed: bool, whole: bool
    ) -> Any:
        self._check_batches(call, program)
        out_axes = program.out_axes(call)
        _check_shared_outputs(call, program, out_axes)
        operands = list(program.consts), list(call.leaves), call.mask
        filled = zeroed and proof is not None and proof.independent
        copies = self._needs_copies(call, program, zeroed)
        unwanted = _unwanted(call, proof) if zeroed else ""
        layout, opened = call.layout(), program
        call, program = call.described(), dataclasses.replace(program, consts=())

        def key() -> Any:
            return opened.key and (self, opened.key, layout, filled)

        def compute(consts: list[Any], leaves: list[Any], mask: Any) -> list[Any]:
            real = real_steps(mask) if zeroed else None
            if filled:
                consts, leaves = fill(call, real, consts, leaves)
            if unwanted:
                consts, leaves = _without_gradients(unwanted, consts, leaves)
            kept = real.any(axis=0) if copies and real is not None else None
            outputs = self._over_time(call, program, consts, leaves, out_axes, whole, copies, kept)
            if not zeroed:
                return outputs
            rows = _output_rows(call, program, proof)
            return [
                zero(output, axis, where, real)
                for output, axis, where in zip(outputs, out_axes, rows, strict=True)
            ]

        def compiled(function: Callable[..., Any], *operands: Any) -> Any:
            return execute(key, lambda: function, *operands)

        run = reporting_checks(program, compute, compiled)
        return jax.tree.unflatten(program.out_tree, run(*operands))

    def _over_time(
        self,
        call: Call,
        program: Program,
        consts: list[Any],
        leaves: list[Any],
        out_axes: list[int | None],
        whole: bool,
        copies: bool,
        kept: Any,
    ) -> list[Any]:
        axes: list[int | None] = [*call.axes, *[None] * len(consts)]
        values, count = [*leaves, *consts], len(leaves)
        if copies:
            values, axes = _with_copies(values, axes, call.time)
        if kept is not None:
            values = _with_gradients_of(kept, values, axes)
        mapped = {i: axis for i, axis in enumerate(axes) if axis is not None}
        if not mapped:
            outputs = program(consts, leaves)
            return [repeat(y, axis, call.time) for y, axis in zip(outputs, out_axes, strict=True)]
        block = self.chunk_size or call.time
        if self.chunk_size is not None:
            program = convolving_fast(program, self.writes_out(call.batch, call.time))

        def one(shared: list[Any], *steps: Any) -> list[Any]:
            merged = list(shared)
            for index, value in zip(mapped, steps, strict=True):
                merged[index] = value
            return program(merged[count:], merged[:count])

        if whole:
            given = [values[i] for i in mapped]
            in_axes = list(mapped.values())
            if makes_refs(program):
                given = [jnp.moveaxis(*each, 0) for each in zip(given, in_axes, strict=True)]
                in_axes = [0] * len(given)
            every = functools.partial(one, values)
            body = recomputing(every) if self.remat else every
            with jax.named_scope("tdjax.vmap"):
                # With copies, an output that is the same for all steps is computed by each of them.
                stacked = [0 if copies and axis is None else axis for axis in out_axes]
                outputs = jax.vmap(body, in_axes=tuple(in_axes), out_axes=stacked)(*given)
            return [
                output[0] if copies and axis is None else output
                for output, axis in zip(outputs, out_axes, strict=True)
            ]

        shared = [value if i in mapped else split(value) for i, value in enumerate(values)]

        def body_of_chunk(steps: list[Any]) -> list[Any]:
            each = functools.partial(one, shared)
            if block == 1:
                return [jnp.expand_dims(y, 0) for y in each(*(step[0] for step in steps))]
            return jax.vmap(each)(*steps)

        moved = [jnp.moveaxis(values[index], axis, 0) for index, axis in mapped.items()]
        with jax.named_scope("tdjax.map"):
            outputs = in_blocks(body_of_chunk, moved, call.time, block, self.unroll, self.remat)
        return [
            output[0] if axis is None else jnp.moveaxis(output, 0, axis)
            for output, axis in zip(outputs, out_axes, strict=True)
        ]


def way_for_any(call: Call) -> str:
    """Return how an error names the strategy that takes the step of a call, whatever it does."""
    alone = why_one_by_one(call, trace(call, call.batch))
    return f'strategy="{"map" if alone else "vmap"}" (or "auto")'


def _with_copies(
    values: Sequence[Any], axes: Sequence[int | None], time: int
) -> tuple[list[Any], list[int | None]]:
    """Return the values with a copy a step of every shared array that can have a gradient.

    What is not traced has none. A rule may close over it, and would not know of its copies.
    """
    shared = [
        axis is None
        and isinstance(value, jax.core.Tracer)
        and jnp.issubdtype(value.dtype, jnp.inexact)
        for value, axis in zip(values, axes, strict=True)
    ]
    copied = [
        repeated(lambda one: jnp.broadcast_to(one, (time, *jnp.shape(one))), value)
        if alike
        else value
        for value, alike in zip(values, shared, strict=True)
    ]
    return copied, [0 if alike else axis for axis, alike in zip(axes, shared, strict=True)]


def _with_gradients_of(kept: Any, values: Sequence[Any], axes: Sequence[int | None]) -> list[Any]:
    """Return values of which some steps have no gradient, whatever a rule gives for a cotangent."""

    def part(value: Any, axis: int | None) -> Any:
        if axis is None or not jnp.issubdtype(jnp.result_type(value), jnp.inexact):
            return value
        steps = kept.reshape([-1 if i == axis else 1 for i in range(jnp.ndim(value))])
        return jnp.where(steps, value, cut(value))

    return [part(value, axis) for value, axis in zip(values, axes, strict=True)]


def _unwanted(call: Call, proof: Proof | None) -> str:
    """Return why there are no gradients with a mask, if that is so: masked steps would add to them.

    A rule that keeps rows apart gives masked rows something, too, in a step that has real ones.
    """
    reason = proof.reason if proof is not None and NOT_ZERO in proof.reason else ""
    for name, leaf in zip(call.names, call.leaves, strict=True):
        if adds_by_itself(leaf):
            reason = f"{name} is {describe(leaf)}, a type with an addition of its own"
    if not reason:
        return ""
    return (
        f"{call.title} has no gradients with a mask, because {reason}, and so would masked steps. "
        f"Let the rule give zero for a zero cotangent, call the function without a mask, or use "
        f'masked_output="keep", which keeps what masked steps give.'
    )


def _without_gradients(message: str, *trees: Any) -> Any:
    """Return arrays as they are, and raise StrategyError where something asks for gradients."""

    @jax.custom_vjp
    def refuse(leaves: Any) -> Any:
        return leaves

    def backward(_: None, cotangents: Any) -> Any:
        raise StrategyError(message)

    refuse.defvjp(lambda leaves: (leaves, None), backward)
    return refuse(trees)


def _retraced(call: Call) -> Program | None:
    """Return a trace of a step that could not be mapped; None if it cannot be traced either."""
    known = call.traced_on(call.batch)
    try:
        return known or trace_along(call, call.batch, call.axis_name)
    except Exception:  # the step's own error, which has been raised already
        return None


def _step(call: Call, leaves: list[Any]) -> Any:
    """Run the step; one that has been traced is not traced again."""
    traced = call.traced_on(call.batch)
    if traced is None:
        return call.step(leaves)
    return jax.tree.unflatten(traced.out_tree, traced(traced.consts, leaves))


def _check_out_axes(call: Call, output: Any) -> None:
    """Say which output has too low a rank, where jax.vmap would only name the axis."""
    ranks = [len(getattr(leaf, "shape", ())) for leaf in jax.tree.leaves(output)]
    check_out_axes(call.output_axes(output), ranks, output)


def _check_shared_outputs(call: Call, program: Program, out_axes: list[int | None]) -> None:
    """Raise ValueError if an output with out_axes None differs between steps."""
    if None not in out_axes:
        return
    mapped = [axis is not None for axis in call.axes]
    differs = follow_steps(program.jaxpr, [*[False] * len(program.consts), *mapped])
    outputs = jax.tree_util.tree_leaves_with_path(
        jax.tree.unflatten(program.out_tree, program.out_avals)
    )
    for axis, stepped, (path, aval) in zip(out_axes, differs, outputs, strict=True):
        if axis is None and stepped:
            raise ValueError(
                f"the output{jax.tree_util.keystr(path)} of {call.title}, "
                f"{aval.dtype}{list(aval.shape)}, differs between steps, and out_axes is None for "
                f"it: give the axis where its steps are to be stacked."
            )


def _output_rows(call: Call, program: Program, proof: Proof | None) -> list[Rows | None]:
    """Return where one step's outputs have their rows: as proven, else by the leading size."""
    if proof is not None and proof.independent:
        return [kind if isinstance(kind, Rows) else None for kind in proof.outputs]
    return [
        Rows(0) if aval.shape and aval.shape[0] == call.batch else None
        for aval in program.out_avals
    ]


def _zeroed_by_shape(call: Call, output: Any) -> Any:
    """Zero masked steps of a function that cannot be traced alone: it talks to the other steps."""
    leaves, tree = jax.tree.flatten(output)
    axes = call.output_axes(output)
    real = real_steps(call.mask)
    zeroed = []
    for leaf, axis in zip(leaves, axes, strict=True):
        where = normalize_out_axis(axis, leaf.ndim - 1, "the output")
        step = None if where is None else leaf.shape[:where] + leaf.shape[where + 1 :]
        rows = Rows(0) if step and step[0] == call.batch else None
        zeroed.append(zero(leaf, where, rows, real))
    return jax.tree.unflatten(tree, zeroed)
