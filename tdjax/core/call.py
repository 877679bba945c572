"""One validated call: what to run a step on, and where its time and rows are."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp

from tdjax.core.arrays import reshaped
from tdjax.core.axes import Axes, broadcast_axes, check_out_axes
from tdjax.core.errors import StrategyError
from tdjax.core.fingerprint import fingerprint
from tdjax.core.jaxpr import trace_flat, uses_axis
from tdjax.core.opened import Opened, open_program
from tdjax.core.shared import Split, joined, repeated
from tdjax.core.sites import traced_on

Role = Literal["rows", "step", "shared", "spread"]
"""What a leaf means to a step.

`rows`: mapped, its step has the batch as leading axis. `step`: mapped, one value for all rows of a
step (a key, a scale). `shared`: the same for all steps. `spread`: shared, but with the batch as
leading axis (one feature map an image), so that a fold has to repeat it for every step.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """The arguments of one call, flat, with the axes and sizes found in them.

    `step` takes the list of leaves as one step sees them and returns the output of the function.
    """

    title: str
    step: Callable[[list[Any]], Any]
    names: tuple[str, ...]
    leaves: tuple[Any, ...]
    axes: tuple[int | None, ...]
    roles: tuple[Role, ...]
    batch: Any
    time: Any
    out_axes: Axes
    axis_name: Any = None
    pooled: bool = False
    mask: Any = None
    masked_output: Literal["zero", "keep"] = "zero"
    given_mask: tuple[Any, Any] = (None, None)
    """The mask and the lengths as the caller gave them: their values may be known."""
    filled: bool = False
    """Whether the caller has already replaced padding by real rows."""
    traced: Program | None = None
    """The trace of the step on some number of rows, if there is one already."""
    proven: Any = None
    """What has been proven of the step on some number of rows, by the code that made this
    per-device call."""
    prints: Any = None
    """What the step would print, if it returns that beside its output; see `rows.prints`."""

    def replace(self, **changes: Any) -> Call:
        """Return the call with other attributes: `dataclasses.replace` takes ten times as long."""
        assert changes.keys() <= vars(self).keys()
        made = object.__new__(Call)
        vars(made).update(vars(self), **changes)
        return made

    def finish(self, outputs: Any) -> Any:
        """Return the output of a call from those of its step."""
        return outputs if self.prints is None else self.prints.tell(outputs, self.time)

    def output_axes(self, outputs: Any) -> list[int | None]:
        """Return where time goes in each leaf of an output, as the caller says."""
        return broadcast_axes("out_axes", self.out_axes, outputs, self.title)

    def time_axis(self, index: int) -> int:
        """Return where time is in a mapped leaf."""
        axis = self.axes[index]
        assert axis is not None
        return axis

    def has_rows(self) -> list[bool]:
        """Return which leaves lead with the batch where a step sees them."""
        return [role in ("rows", "spread") for role in self.roles]

    def step_shape(self, index: int) -> tuple:
        """Return the shape that one step sees of a leaf."""
        shape, axis = tuple(self.leaves[index].shape), self.axes[index]
        return shape if axis is None else shape[:axis] + shape[axis + 1 :]

    def traced_on(self, rows: Any) -> Program | None:
        """Return the trace of the step on this many rows, if there is one already."""
        return self.traced if self.traced is not None and self.traced.rows == rows else None

    def is_differentiable(self, program: Program) -> bool:
        """Say whether anything that a trace of the step computes with is traced as well."""
        arrays = (*self.leaves, self.mask, *program.consts)
        return any(isinstance(array, jax.core.Tracer) for array in arrays)

    def with_spread(self) -> Iterator[Call]:
        """Yield the call with `spread` as the role of shared leaves that lead with the batch.

        First of all such leaves, then of those of one argument at a time: the leading size of a
        weight may equal the batch by chance.
        """
        owners = [re.split(r"[\[.]", name)[0] for name in self.names]
        found = {owners[i]: None for i in range(len(self.roles)) if self._leads_with_batch(i)}
        trials = [set(found), *({owner} for owner in found)] if len(found) > 1 else [set(found)]
        for owned in trials if found else []:
            roles = tuple(
                "spread" if owners[index] in owned and self._leads_with_batch(index) else role
                for index, role in enumerate(self.roles)
            )
            yield self.replace(roles=roles)

    def with_rows_mapped(self) -> Call:
        """Return the call with every `spread` leaf repeated for each step, as `rows`."""
        if "spread" not in self.roles:
            return self
        axes, roles, leaves = list(self.axes), list(self.roles), list(self.leaves)
        for index, role in enumerate(self.roles):
            if role == "spread":
                leaves[index] = repeated(self._for_each_step, leaves[index])
                axes[index], roles[index] = 1, "rows"
        return self.replace(leaves=tuple(leaves), axes=tuple(axes), roles=tuple(roles))

    def _for_each_step(self, leaf: Any) -> Any:
        shape = (self.batch, self.time, *leaf.shape[1:])
        return jnp.broadcast_to(jnp.expand_dims(leaf, 1), shape)

    def _leads_with_batch(self, index: int) -> bool:
        shape = self.leaves[index].shape
        return self.roles[index] == "shared" and len(shape) > 0 and shape[0] == self.batch

    def described(self) -> Call:
        """Return the call with descriptions in place of arrays, so that it keeps none alive."""
        leaves = tuple(reshaped(leaf.shape, leaf) for leaf in self.leaves)
        return self.replace(
            leaves=leaves,
            step=_forgotten,
            mask=None,
            given_mask=(None, None),
            traced=None,
            proven=None,
            prints=None,
        )

    def layout(self) -> tuple:
        """Return everything but the program that decides how the leaves are divided."""
        out_axes = jax.tree.flatten(self.out_axes, is_leaf=lambda leaf: leaf is None)
        return (
            self.axes,
            self.roles,
            self.batch,
            self.time,
            (tuple(out_axes[0]), out_axes[1]),
            self.mask is not None and (self.masked_output, self.mask.shape),
        )


def _forgotten(leaves: list[Any]) -> Any:
    raise AssertionError("a remembered call has no function")


within_step = jax.make_user_context(False)
"""Whether what is traced is a step of a call, which is followed operation by operation.

Transforms that remember traces keep those within steps apart from others.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """One trace of the step: its equations, the arrays it closes over, and its outputs."""

    rows: Any
    jaxpr: Opened
    consts: tuple[Any, ...]
    out_tree: Any
    out_avals: tuple[Any, ...]

    @functools.cached_property
    def key(self) -> Any:
        """A hashable that two programs share only if they compute the same; None if unknown."""
        return fingerprint(self)

    def __call__(self, consts: Any, leaves: Any) -> list[Any]:
        """Evaluate the equations on the leaves of one step, or of one block of rows.

        Arrays that several blocks share may be split.
        """
        if any(isinstance(value, Split) for value in (*consts, *leaves)):
            outputs = self._evaluate_split(consts, leaves)
        else:
            outputs = self.jaxpr(consts, leaves)
        return [as_array(value, aval) for value, aval in zip(outputs, self.out_avals, strict=True)]

    def _evaluate_split(self, consts: Any, leaves: Any) -> list[Any]:
        if self.jaxpr.varies:
            return self.jaxpr(joined(consts), joined(leaves))
        from tdjax.core.split import evaluate  # needs jax.extend, 20 ms to import

        return joined(evaluate(self.jaxpr.bare, consts, leaves))

    def out_axes(self, call: Call) -> list[int | None]:
        """Return where time goes in each output, as a nonnegative axis or None."""
        outputs = jax.tree.unflatten(self.out_tree, self.out_avals)
        ranks = [len(aval.shape) for aval in self.out_avals]
        return check_out_axes(call.output_axes(outputs), ranks, outputs)


def as_array(value: Any, aval: Any) -> Any:
    """Return an output as an array: a step may also return a plain number."""
    return value if hasattr(value, "shape") else jnp.asarray(value, aval.dtype)


def trace(call: Call, rows: Any) -> Program:
    """Trace the step once, on leaves whose batch has `rows` rows.

    Raises:
        StrategyError: it communicates along the time axis, which a single step does not have.
    """
    known = call.traced_on(rows)
    if known is not None:
        return known
    program = trace_along(call, rows, call.axis_name)
    if call.axis_name is not None and uses_axis(program.jaxpr.bare, call.axis_name):
        raise StrategyError(
            f"{call.title} uses the axis name {call.axis_name!r}, which only the unchunked "
            f'strategy "vmap" binds over all steps: a block of steps would reduce over itself. Use '
            f'strategy="vmap".'
        )
    return program


def trace_along(call: Call, rows: Any, axis_name: Any) -> Program:
    """Trace the step where `axis_name` stands for time."""
    specs = []
    for index, (leaf, has_rows) in enumerate(zip(call.leaves, call.has_rows(), strict=True)):
        shape = call.step_shape(index)
        if has_rows:
            shape = (rows, *shape[1:])
        specs.append(reshaped(shape, leaf))

    def one_step(*leaves: Any) -> Any:
        return call.step(list(leaves))

    axis = () if axis_name is None else ((axis_name, call.time),)
    with traced_on(rows):
        jaxpr, consts, avals, tree = trace_flat(one_step, call.step, call.names, specs, axis)
    return Program(rows, open_program(jaxpr), tuple(consts), tree, tuple(avals))


def trace_function(function: Callable[..., Any], *values: Any) -> Program:
    """Trace a function of pytrees of arrays, which is not a step; its inputs are their leaves."""
    leaves, tree = jax.tree.flatten(values)

    def flat(*leaves: Any) -> Any:
        return function(*jax.tree.unflatten(tree, leaves))

    names = tuple(f"leaves[{place}]" for place in range(len(leaves)))
    jaxpr, consts, avals, out_tree = trace_flat(flat, function, names, [*map(jax.typeof, leaves)])
    return Program(None, open_program(jaxpr), tuple(consts), out_tree, tuple(avals))
