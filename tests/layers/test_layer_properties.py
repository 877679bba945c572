"""Any layer, any sizes, axes, mask, strategy and noise: the wrapper is the plain loop."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st
from linen_layers import LAYERS, LayerCase
from oracle import assert_same, loop, value_and_vjp

import tdjax
from tdjax.linen import TimeDistributed

KEY = jax.random.key(3)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One call of a wrapper.

    Attributes:
        in_axes: where time is in each leaf of the arguments; None for an argument without time.
        real: nested lists, `(batch, time)`, and whether they are given as lengths; or None.
    """

    case: LayerCase
    batch: int
    time: int
    in_axes: tuple
    real: tuple[list, bool] | None
    settings: dict[str, Any]

    @property
    def mask(self) -> Any:
        if self.real is None:
            return None
        return jax.device_put(np.array(self.real[0], bool).reshape(self.batch, self.time))

    def real_steps(self) -> dict[str, Any]:
        """Return the mask as the wrapper takes it."""
        if self.real is None:
            return {}
        mask, as_lengths = self.mask, self.real[1]
        return {"seq_lengths": mask.sum(1)} if as_lengths else {"mask": mask}

    @property
    def folds(self) -> bool:
        return self.settings["strategy"] == "fold" or isinstance(
            self.settings["strategy"], tdjax.Fold
        )


def draw(choose: random.Random) -> Drawn:
    """Draw a call; every choice of it is made alone."""
    case = choose.choice(LAYERS)
    batch, time = choose.randint(1, 3), choose.choice([0, 1, 2, 3, 3, 4, 4])
    in_axes = jax.tree.map(
        lambda leaf: choose.randrange(-2 - leaf.ndim, 2 + leaf.ndim), case.inputs
    )
    if len(in_axes) > 1 and choose.random() < 0.3:
        in_axes = (*in_axes[:-1], None)
    kind = choose.choice(["mask", "lengths", None])
    real = None
    if kind == "mask":
        real = [[choose.random() < 0.6 for _ in range(time)] for _ in range(batch)], False
    elif kind == "lengths":
        lengths = [choose.randint(0, time) for _ in range(batch)]
        real = [[step < length for step in range(time)] for length in lengths], True
    options = {
        "strategy": draw_strategy(choose),
        "out_axes": choose.choice([0, 1, -1]),
        "rng": choose.choice(["split", "shared"]),
        "masked_output": choose.choice(["zero", "zero", "keep"]),
    }
    return Drawn(case, batch, time, in_axes, real, options)


def draw_strategy(choose: random.Random) -> Any:
    kind = choose.choice(["auto", "vmap", "fold", tdjax.Vmap, tdjax.Fold, tdjax.Fold])
    if isinstance(kind, str):
        return kind
    remat = choose.random() < 0.3
    if choose.random() < 0.2:
        return kind(remat=remat)
    size = choose.randint(1, 5) if kind is tdjax.Vmap else choose.randint(1, 13)
    return kind(chunk_size=size, unroll=choose.choice([False, True, 2]), remat=remat)


def arguments(drawn: Drawn) -> tuple:
    """Return arguments with time where it is to be; one step where there is to be none."""

    def place(axis: int | None, subtree: Any) -> Any:
        if axis is None:
            return jax.tree.map(lambda leaf: np.asarray(leaf)[:, 0], subtree)
        return np.moveaxis(np.asarray(subtree)[:, : drawn.time], 1, axis)

    args = drawn.case.arguments(drawn.batch, max(drawn.time, 1))
    placed = jax.tree.map(place, drawn.in_axes, args, is_leaf=lambda axis: axis is None)
    return jax.device_put(placed)


def padded(args: tuple, in_axes: tuple, mask: Any) -> tuple:
    """Return arguments with NaN wherever a step is not real."""

    def pad(axis: int | None, subtree: Any) -> Any:
        if axis is None or not jnp.issubdtype(subtree.dtype, jnp.inexact):
            return subtree
        moved = np.moveaxis(np.array(subtree), axis, 1)  # a copy, and a view of it
        moved[~np.asarray(mask)] = np.nan
        return jax.device_put(np.moveaxis(moved, 1, axis))

    return jax.tree.map(pad, in_axes, args, is_leaf=lambda axis: axis is None)


def wrapped(drawn: Drawn) -> Callable[..., Any]:
    """Return the wrapper as a function of variables and arguments."""
    case = drawn.case
    wrapper = TimeDistributed(case.make(), in_axes=drawn.in_axes, **drawn.settings)
    rngs = {"dropout": KEY} if case.draws else None
    return lambda variables, args: wrapper.apply(
        variables, *args, rngs=rngs, **drawn.real_steps(), **case.kwargs
    )


def in_loop(drawn: Drawn) -> Callable[..., Any]:
    """Return the plain loop as such a function."""
    case, mask = drawn.case, drawn.mask
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(drawn.time))
    if drawn.settings["rng"] == "shared":
        keys = jnp.broadcast_to(KEY, keys.shape)
    masks = (mask,) if mask is not None and case.takes_mask else ()

    def step(variables: Any, key: Any, masks: tuple, *args: Any) -> Any:
        return case.step(variables, key, *args, **({"mask": masks[0]} if masks else {}))

    return lambda variables, args: loop(
        step,
        (variables, keys, masks, *args),
        (None, 0, 1, *drawn.in_axes),
        drawn.settings["out_axes"],
        mask=mask,
        keep=drawn.settings["masked_output"] == "keep",
    )


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # a call is small as it is, and takes a second
)
@given(st.randoms(use_true_random=True))
def test_the_wrapper_is_the_loop(choose):
    drawn = draw(choose)
    note(str(drawn))
    check(drawn)


def check(drawn: Drawn) -> None:
    """Hold the wrapper to the loop: values, gradients, and what it is right to refuse."""
    case, time = drawn.case, drawn.time
    variables = case.variables(drawn.batch)
    clean = arguments(drawn)
    if time == 0:
        check_without_steps(drawn, variables, clean)
        return
    if case.refused and drawn.folds and time > 1:
        with pytest.raises(tdjax.StrategyError, match="cannot be folded"):
            wrapped(drawn)(variables, clean)
        return
    args = clean
    # Rows that depend on each other, or may, see the padding as it is.
    if drawn.mask is not None and drawn.settings["masked_output"] == "zero" and not case.refused:
        args = padded(clean, drawn.in_axes, drawn.mask)

    @jax.jit
    def run(variables: Any, args: tuple, clean: tuple) -> Any:
        expected = value_and_vjp(in_loop(drawn), (variables, clean))
        return value_and_vjp(wrapped(drawn), (variables, args)), expected

    assert_same(*run(variables, args, clean))


def check_without_steps(drawn: Drawn, variables: Any, args: tuple) -> None:
    """Outputs are empty, where one step's would stack, and no gradient comes from them."""
    one = dataclasses.replace(drawn, time=1, real=None)
    stacked = jax.eval_shape(lambda *operands: in_loop(one)(*operands), variables, arguments(one))
    axis = drawn.settings["out_axes"]
    empty = jax.tree.map(
        lambda y: jax.device_put(np.zeros(y.shape, y.dtype).take([], axis)), stacked
    )
    output, gradients = jax.jit(lambda *operands: value_and_vjp(wrapped(drawn), operands))(
        variables, args
    )
    assert_same(output, empty)
    assert not any(gradient.any() for gradient in gradients)
