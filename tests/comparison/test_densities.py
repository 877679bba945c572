"""Comparisons at several parts of real steps: masks, what is kept of them, and the picture."""

import jax.numpy as jnp
import numpy as np
import pytest

import tdjax
from tdjax.comparison import Comparison
from tdjax.comparison.densities import Density, thinned
from tdjax.comparison.entry import Group
from tdjax.comparison.hlo import Steps
from tdjax.comparison.plot import kinds
from tdjax.comparison.plot_density import ideal_s, series

pytestmark = pytest.mark.usefixtures("optimised")

X = jnp.ones((4, 6, 8))


@pytest.fixture(scope="module")
def compared():
    return tdjax.compare(
        jnp.tanh, X, strategies=("vmap", "packed"), valid_fractions=(1.0, 0.25), rounds=3
    )


def test_every_part_is_a_workload_with_every_strategy(compared):
    names = ["tanh, 25% real", "tanh, 100% real"]
    assert [(e.workload, e.strategy) for e in compared.entries] == [
        (name, strategy) for name in names for strategy in ("vmap", "packed")
    ]
    assert all(entry.status == "ok" for entry in compared.entries)
    assert dict(compared.densities) == {names[0]: ("tanh", 0.25), names[1]: ("tanh", 1.0)}


def test_it_is_saved_and_drawn(compared, tmp_path):
    again = Comparison.load(compared.save(tmp_path / "comparison.json"))
    assert again == compared and again.densities["tanh, 25% real"] == Density("tanh", 0.25)
    assert kinds(again)[-1] == "density"
    assert again.plot(tmp_path / "density.png", "density").stat().st_size > 1000


def test_the_ideal_is_the_fastest_that_computes_everything(compared):
    entries = {Group(e.workload, e.target, e.evidence, e.mode): [] for e in compared.entries}
    for entry in compared.entries:
        entries[entry.group].append(entry)
    (lines,) = series(entries, compared.densities).values()
    assert [part for part, _ in lines["packed"]] == [0.25, 1.0]
    assert ideal_s(lines) == lines["vmap"][1][1]


def test_a_thinned_mask_keeps_what_was_real_first():
    given = np.zeros((4, 6), bool)
    given[1:3, 2] = True
    for part, count in ((1 / 12, 2), (0.5, 12), (1.0, 24)):
        mask = thinned(given, Steps(batch=4, time=6), part)
        assert mask.sum() == count and mask[given].all()
    assert thinned(given, Steps(batch=4, time=6), 1 / 24).sum() == 1
    assert (thinned(None, Steps(4, 6), 0.5) == thinned(None, Steps(4, 6), 0.5)).all()


def test_with_a_mask_packed_joins_the_default():
    lengths = jnp.array([6, 1, 2, 0])
    made = tdjax.compare(jnp.tanh, X, seq_lengths=lengths, rounds=1)
    names = [entry.strategy for entry in made.entries]
    assert names == ["vmap", "fold", "map", "unroll", "packed"] and not made.densities
    with pytest.raises(ValueError, match="nothing to draw for kind='density'"):
        made.plot("nowhere.png", "density")


@pytest.mark.parametrize("fractions", [(), (0.0,), (0.5, 1.5)])
def test_parts_lie_between_0_and_1(fractions):
    with pytest.raises(ValueError, match=r"valid_fractions: got .* up to 1"):
        tdjax.compare(jnp.tanh, X, valid_fractions=fractions)
