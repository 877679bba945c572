"""Tables and printed modules: the layer as it is for one step, the wrapper as it was made."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax_cases import BATCH, FEATURES, TIME, Holder, Net, data

import tdjax
from tdjax import time_distributed
from tdjax.linen import TimeDistributed

KEY = jax.random.key(17)
PLAIN = {"console_kwargs": {"width": 240, "force_terminal": False}}


def rows_of(table):
    """Return the cells of each path, and the totals, of a table that Flax has drawn."""
    rows, path = {}, None
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip().split("│")[1:-1]]
        if not cells:
            continue
        if cells[1]:  # further lines of a row leave its module out
            path = cells[0]
            assert path not in rows
            rows[path] = [[] for _ in cells[1:]]
        elif "Total" in cells:
            path = "total"
            rows[path] = [[] for _ in cells[1:]]
        for lines, cell in zip(rows[path], cells[1:], strict=True):
            lines.extend([cell] if cell else [])
    return rows


class Compact(nn.Module):
    wrap: Any

    @nn.compact
    def __call__(self, x):
        return self.wrap(nn.Dense(2, name="head"))(self.wrap(Net(norm=True, rate=0.5))(x))


class Setup(nn.Module):
    wrap: Any

    def setup(self):
        self.net, self.head = self.wrap(Net(norm=True)), nn.Dense(2)

    def __call__(self, x):
        return self.head(self.net(x))


@pytest.mark.parametrize("strategy", ["auto", "fold", tdjax.Fold(chunk_size=3)], ids=str)
def test_a_table_has_the_rows_of_the_layer_for_one_step(strategy):
    layer = Net(norm=True, rate=0.5)
    over_time = rows_of(TimeDistributed(layer, strategy=strategy).tabulate(KEY, data(), **PLAIN))
    expected = rows_of(Holder(layer).tabulate(KEY, data()[:, 0], **PLAIN))
    assert {"layer", "layer/Dense_0", "layer/BatchNorm_0", "total"} <= set(expected)
    shown = [["TimeDistributed"], [f"float32[{BATCH},{TIME},{FEATURES}]"]]
    assert over_time.pop("")[:3] == [*shown, [f"float32[{BATCH},{TIME},3]"]]
    del expected[""]
    assert over_time == expected


def test_in_a_parent_a_table_has_the_wrappers_as_well():
    over_time = rows_of(Compact(TimeDistributed).tabulate(KEY, data(), **PLAIN))
    expected = rows_of(Compact(lambda layer: layer).tabulate(KEY, data()[:, 0], **PLAIN))
    wrappers = {path for path in over_time if path.startswith("TimeDistributed_")}
    assert wrappers == {"TimeDistributed_0", "TimeDistributed_1"}
    for path in expected.keys() - {""}:
        assert over_time[path] == expected[path]
    assert over_time.keys() == expected.keys() | wrappers

    over_time = rows_of(Setup(TimeDistributed).tabulate(KEY, data(), **PLAIN))
    expected = rows_of(Setup(Holder).tabulate(KEY, data()[:, 0], **PLAIN))
    assert over_time.keys() == expected.keys()
    assert over_time["net"][0] == ["TimeDistributed"]
    for path in ("net/layer/Dense_0", "net/layer/BatchNorm_0", "total"):
        assert over_time[path] == expected[path]


def test_a_table_counts_operations():
    tabulate = functools.partial(
        nn.tabulate, rngs=KEY, compute_flops=True, compute_vjp_flops=True, **PLAIN
    )
    over_time = rows_of(tabulate(TimeDistributed(Net()))(data()))
    expected = rows_of(tabulate(Holder(Net()))(data()[:, 0]))
    for path in ("layer", "layer/Dense_0", "total"):
        assert over_time[path] == expected[path]
    for column in (3, 4):
        all_steps, one_step = (int(rows[""][column][0]) for rows in (over_time, expected))
        assert TIME - 1 < all_steps / one_step <= TIME  # cotangents of weights are added up


def test_depth_and_a_mask_do_not_disturb_a_table():
    wrapper = TimeDistributed(Net(norm=True))
    lengths = jnp.array([5, 2, 3, 1])
    table = wrapper.tabulate(KEY, data(), seq_lengths=lengths, train=True, depth=1, **PLAIN)
    assert rows_of(table).keys() == {"", "layer", "total"}
    assert "Traced" not in table


def test_a_wrapper_prints_its_layer_its_strategy_and_what_was_set():
    layer = Net(norm=True)
    attributes = "\n".join("    " + line for line in repr(layer).splitlines())
    assert repr(TimeDistributed(layer, strategy="fold")) == (
        f"TimeDistributed(\n    # attributes\n    layer = {attributes.strip()}\n"
        f"    strategy = 'fold'\n)"
    )
    wrapper = TimeDistributed(
        jnp.tanh, strategy=tdjax.Fold(chunk_size=64), rng="shared", in_axes=(1, None)
    )
    *_, strategy, rng, in_axes, end = str(wrapper).splitlines()
    assert (strategy, end) == ("    strategy = Fold(chunk_size=64)", ")")
    assert (rng, in_axes) == ("    rng = 'shared'", "    in_axes = (1, None)")


def test_a_wrapper_in_a_wrapper_and_in_a_parent_prints():
    text = repr(nn.Sequential([TimeDistributed(TimeDistributed(nn.Dense(3), strategy="fold"))]))
    assert text.count("TimeDistributed(") == 2
    assert text.count("strategy = 'fold'") == text.count("strategy = 'auto'") == 1
    assert "masked_output" not in text


def test_a_bound_call_prints_in_a_line():
    seen = []

    class Parent(nn.Module):
        def setup(self):
            self.dense = nn.Dense(3)

        def __call__(self, x):
            run = time_distributed(self.dense, strategy="fold")
            seen.append(repr(run))
            return run(x)

    Parent().init(KEY, data())
    assert set(seen) == {"time_distributed(Dense, 'fold')"}
