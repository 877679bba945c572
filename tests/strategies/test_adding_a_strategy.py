"""A strategy of one's own takes one class and one line: everything else knows it by what it says.

The two here are registered as any strategy of the package is, by the public line. Nothing else of
the package knows of them, and nothing is patched.
"""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from oracle import assert_same

import tdjax
import tdjax.linen
import tdjax.nnx
from tdjax import Packed, StrategyError, Vmap, explain, time_distributed, tune
from tdjax.comparison import Comparison
from tdjax.comparison.charts.density import density_charts
from tdjax.comparison.subjects.strategy_list import parse_strategies
from tdjax.comparison.verdicts.naming import short
from tdjax.core.call import trace
from tdjax.costs.blocks import Blocks
from tdjax.independence import Rows
from tdjax.strategies import Strategy, candidates, parse, register, unregister
from tdjax.strategies.choosing import tuned
from tdjax.strategies.rows.padding import real_steps, zero


@dataclasses.dataclass(frozen=True)
class Halves(Strategy):
    """Halves the steps, and the halves, until `chunk_size` steps are left; then maps over these."""

    folds = False

    chunk_size: int = 1

    def blocks(self, batch, time):
        steps = min(self.chunk_size, time)
        return Blocks(steps * batch, -(-time // steps))

    @classmethod
    def candidates(cls, batch, time, remat, operations, own_forms):
        return [cls(chunk_size=2)]

    def run(self, call, proven=None):
        program = trace(call, call.batch)
        out_axes = program.out_axes(call)

        def steps(first, last):
            if last - first > self.chunk_size:
                middle = (first + last) // 2
                halves = zip(steps(first, middle), steps(middle, last), strict=True)
                return [jnp.concatenate(pair) for pair in halves]
            here = [
                leaf
                if axis is None
                else jnp.moveaxis(jax.lax.slice_in_dim(leaf, first, last, axis=axis), axis, 0)
                for leaf, axis in zip(call.leaves, call.axes, strict=True)
            ]
            mapped = [None if axis is None else 0 for axis in call.axes]
            run = jax.vmap(lambda *leaves: program(program.consts, leaves), mapped)
            return run(*here)

        outputs = [
            value[0] if axis is None else jnp.moveaxis(value, 0, axis)
            for value, axis in zip(steps(0, call.time), out_axes, strict=True)
        ]
        if call.mask is not None:
            real = real_steps(call.mask)
            outputs = [
                zero(output, axis, Rows(0), real)
                for output, axis in zip(outputs, out_axes, strict=True)
            ]
        return jax.tree.unflatten(program.out_tree, outputs)


@dataclasses.dataclass(frozen=True)
class Kept(Strategy):
    """Folds the rows that a mask keeps, a few at once."""

    packs = True

    rows: int = 4

    def rows_at_once(self, call):
        return Packed(chunk_size=self.rows).rows_at_once(call)

    def run(self, call, proven=None):
        return Packed(chunk_size=self.rows).run(call, proven)


WEIGHTS = jax.random.normal(jax.random.key(0), (8, 8))
CLIPS = jax.random.normal(jax.random.key(1), (4, 6, 8))
MASK = jnp.arange(6)[None] < jnp.array([6, 2, 4, 1])[:, None]
FORWARD = tdjax.Auto(mode="forward")


def step(x):
    return jnp.tanh(x @ WEIGHTS)


def mixing(x):
    return step(x) - x.mean(0, keepdims=True)


@pytest.fixture(autouse=True)
def registered():
    register(Halves, halves=Halves())
    register(Kept, kept=Kept())
    yield
    unregister(Halves)
    unregister(Kept)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TDJAX_CACHE_DIR", str(tmp_path))


def fastest(path, strategy):
    """Give a result other times, with this strategy the fastest."""
    content = json.loads(path.read_text())
    for candidate in content["candidates"]:
        candidate["median_s"] = 1.0 if candidate["strategy"] == strategy else 2.0
        candidate["low"] = candidate["high"] = 1.0
    path.write_text(json.dumps(content))
    tuned._kept._known.clear()


@pytest.mark.parametrize("said", ["halves", "Halves(4)", "tdjax.Halves(chunk_size=4)", Halves(2)])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_it_is_chosen_by_name_by_text_and_as_an_object(said, mask):
    def loss(strategy, x):
        return (time_distributed(mixing, strategy=strategy)(x, mask=mask) ** 2).sum()

    found, expected = (jax.value_and_grad(loss, 1)(s, CLIPS) for s in (said, "vmap"))
    assert_same(found, expected, scale=10)


@pytest.mark.parametrize("said", ["halves", "Halves(4)"])
def test_both_flax_wrappers_take_it(said):
    dense = nn.Dense(3)
    variables = tdjax.linen.TimeDistributed(dense).init(jax.random.key(0), CLIPS)
    output = tdjax.linen.TimeDistributed(dense, strategy=said).apply(variables, CLIPS)
    assert_same(output, tdjax.linen.TimeDistributed(dense, strategy="vmap").apply(variables, CLIPS))
    linear = nnx.Linear(8, 3, rngs=nnx.Rngs(0))
    output = tdjax.nnx.TimeDistributed(linear, strategy=said)(CLIPS)
    assert_same(output, tdjax.nnx.TimeDistributed(linear, strategy="vmap")(CLIPS))


class Counting(nn.Module):
    @nn.compact
    def __call__(self, x):
        count = self.variable("counts", "count", lambda: jnp.zeros(()))
        count.value += x.sum()
        return x


def test_layers_ask_what_it_can_do():
    """What it does not say that it can, nobody asks of it; steps seen whole have statistics."""
    norm = nn.BatchNorm(use_running_average=False)
    with jax.numpy_rank_promotion("allow"):
        variables = tdjax.linen.TimeDistributed(norm).init(jax.random.key(0), CLIPS)

        def train(**options):
            layer = tdjax.linen.TimeDistributed(norm, **options)
            return layer.apply(variables, CLIPS, mutable=["batch_stats"])

        assert_same(train(strategy="halves", pooled=False), train(strategy="vmap", pooled=False))
        for strategy in ("halves", "kept"):
            with pytest.raises(StrategyError, match="needs all steps at once"):
                train(strategy=strategy)
        with pytest.raises(StrategyError, match='strategy="kept" mixes rows of different steps'):
            train(strategy="kept", pooled=False)
        counting = tdjax.linen.TimeDistributed(Counting(), strategy="halves", state="carry")
        variables = counting.init(jax.random.key(0), CLIPS)
        with pytest.raises(StrategyError, match="'halves' runs several at once"):
            counting.apply(variables, CLIPS, mutable=["counts"])


def test_what_is_printed_is_read():
    assert (str(Halves()), short(str(Halves(2)))) == ("halves", "Halves(2)")
    assert parse_strategies("vmap, Halves(2), halves, Kept(rows=8)") == [
        Vmap(),
        Halves(2),
        Halves(),
        Kept(8),
    ]
    with pytest.raises(ValueError, match=r"strategy is Halves\(flip=1\): .*'flip'"):
        parse("Halves(flip=1)")
    with pytest.raises(ValueError, match='"auto", "halves", "kept", or an object'):
        parse("thirds")


def test_auto_and_tune_choose_among_what_it_offers():
    assert Halves(2) in candidates(4, 6)
    found = explain(step, CLIPS)
    assert Halves(2) in [candidate.strategy for candidate in found.candidates]
    assert "halves" in tune(step, CLIPS, strategies=("vmap", "halves")).results[0].times


def test_it_is_explained():
    found = explain(time_distributed(mixing, strategy="halves"), CLIPS)
    assert str(found).startswith("halves will run.\nIt was asked for.")


def test_it_is_tuned_and_remembered():
    (path,) = tune(mixing, CLIPS, strategies=("vmap", "Halves(2)")).paths
    fastest(path, "Halves(chunk_size=2)")
    found = explain(time_distributed(mixing, strategy=FORWARD), CLIPS)
    assert found.strategy == Halves(2) and "measured to be the fastest here" in found.reasons[0]
    output = time_distributed(mixing, strategy=FORWARD)(CLIPS)
    assert_same(output, time_distributed(mixing, strategy="vmap")(CLIPS))


def test_results_of_a_strategy_that_is_gone_are_left_out():
    (path,) = tune(step, CLIPS, strategies=("vmap", "halves")).paths
    fastest(path, "halves")
    assert explain(step, CLIPS).strategy == Halves()
    unregister(Halves)
    assert explain(step, CLIPS).strategy == Vmap()
    register(Halves, halves=Halves())


def test_a_fold_is_remembered_where_rows_are_proven_to_be_independent():
    auto = time_distributed(step, strategy=FORWARD)
    (path,) = tune(step, CLIPS, strategies=("vmap", "kept"), mask=MASK).paths
    fastest(path, "kept")
    assert explain(auto, CLIPS, mask=MASK).strategy == Kept()
    assert_same(auto(CLIPS, mask=MASK), time_distributed(step, strategy="vmap")(CLIPS, mask=MASK))
    tuning = tune(mixing, CLIPS, strategies=("vmap", "kept"), mask=MASK)
    assert [entry.status for entry in tuning.entries] == ["ok", "failed"]
    content = json.loads(tuning.paths[0].read_text())
    content["candidates"][1] |= {
        "status": "ok", "error": None, "median_s": 1e-9, "low": 1.0, "high": 1.0, "temp_bytes": 0
    }  # fmt: skip
    tuning.paths[0].write_text(json.dumps(content))
    tuned._kept._known.clear()
    found = explain(time_distributed(mixing, strategy=FORWARD), CLIPS, mask=MASK)
    assert found.strategy == Vmap() and "kept was measured to be among" in found.reasons[0]


def test_it_is_compared_saved_drawn_and_reported(tmp_path):
    compared = tdjax.compare(step, CLIPS, strategies=("vmap", "Halves(2)", "auto"), rounds=3)
    assert [entry.status for entry in compared.entries] == ["ok"] * 3
    assert compared.entries[1].max_rel_error < 1e-5
    again = Comparison.load(compared.save(tmp_path / "comparison.json"))
    assert "Halves(2)" in str(again)
    assert again.plot(tmp_path / "time.png").stat().st_size > 1000
    assert "Halves(2)" in again.report(tmp_path / "report.html").read_text()
    assert again.why("Halves(2)", "vmap")


def test_charts_ask_whether_it_packs(tmp_path):
    compared = tdjax.compare(
        step, CLIPS, strategies=("vmap", "halves", "Kept(8)"), valid_fractions=(0.25, 1.0), rounds=3
    )
    (chart,) = density_charts(compared).values()
    assert {line.strategy: line.packs for line in chart.lines} == {
        "vmap": False,
        "halves": False,
        "Kept(rows=8)": True,
    }
    assert compared.plot(tmp_path / "density.png", "density").stat().st_size > 1000


@pytest.mark.parametrize("strategy", ["halves", "Halves(2)", "Kept(2)"])
def test_it_is_spread_over_a_mesh(strategy):
    mesh = jax.make_mesh((2, 2), ("data", "seq"), axis_types=(AxisType.Auto,) * 2)
    spec = PartitionSpec("data", "seq")
    clips, mask = CLIPS[:, :4], MASK[:, :4]
    wrapped = time_distributed(step, strategy=strategy, partition=spec)
    expected = time_distributed(step, strategy="vmap")(clips, mask=mask)
    with jax.set_mesh(mesh):
        placed = jax.device_put(clips, NamedSharding(mesh, spec))
        program = jax.jit(lambda x: wrapped(x, mask=mask)).lower(placed).compile()
        output = program(placed)
    assert "all-gather" not in program.as_text()
    assert output.sharding.spec == spec
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="there is a strategy 'Halves' already"):
        register(Halves)
    with pytest.raises(ValueError, match="there is a strategy 'fold' already"):
        register(type("Other", (Halves,), {}), fold=Halves(3))
    assert parse("fold") == tdjax.Fold()
