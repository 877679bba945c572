"""Rivals: the same answers, and how `auto` does beside them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tdjax
from tdjax.cli import main
from tdjax.comparison import Entry
from tdjax.comparison.charts.auto_rivals import against_oracle, against_peers, geometric_mean
from tdjax.comparison.peers import PEERS

LENGTHS = np.array([2, 0])
MASK = tdjax.lengths_to_mask(LENGTHS, 3)
INSTALLED = [peer for peer in PEERS if peer.installed]


@pytest.mark.parametrize("peer", INSTALLED, ids=str)
def test_a_rival_gives_the_loops_answer(peer):
    weights = jax.random.normal(jax.random.key(0), (6, 3))
    x, scale = jax.random.normal(jax.random.key(1), (4, 9, 6)), jnp.ones((4, 9, 1))

    def step(w, x, scale):
        return {"y": jnp.tanh(x @ w) * scale, "sum": x.sum(-1)}

    found = peer.run(step, (weights, x, scale), {}, (None, 1, 1), 1)
    each = [step(weights, x[:, t], scale[:, t]) for t in range(9)]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves, 1), *each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


@pytest.mark.parametrize(
    "keywords", [{"mask": MASK}, {"mask": MASK[..., None]}, {"seq_lengths": LENGTHS}]
)
def test_a_rival_gives_zeros_where_a_mask_keeps_nothing(keywords):
    x = jnp.ones((2, 3, 4))
    found = PEERS[0].run(jnp.cos, (x,), {**keywords}, 1, 1)
    np.testing.assert_array_equal(found, jnp.where(MASK[..., None], jnp.cos(x), 0))


@pytest.mark.parametrize("axes", [{"in_axes": 0, "out_axes": 1}, {"in_axes": 1, "out_axes": 0}])
def test_other_axes_are_refused(axes):
    with pytest.raises(ValueError, match=r"time axes are 1 or None.*in_axes="):
        PEERS[0].run(jnp.tanh, (jnp.ones((2, 3, 4)),), {}, **axes)


def entry(strategy, *samples, program=None, **more):
    median = float(np.median(samples))
    known = {"samples_s": samples, "median_s": median, "program": program or strategy, **more}
    return Entry("net", "cpu", "measured", "forward", strategy, "ok", **known)


def test_auto_is_set_beside_the_best_of_them():
    entries = [
        entry("auto", *[1.0] * 8),
        entry("jax.vmap", *[1.2] * 8),
        entry("flax BatchApply", *[1.5] * 8),
        entry("fold", *[0.5] * 8),  # no rival
    ]
    (found,) = against_peers(entries)
    assert found.best == "jax.vmap" and not found.same
    assert found.speed == pytest.approx((1.2, 1.2, 1.2))
    assert found.each == pytest.approx({"jax.vmap": 1.2, "flax BatchApply": 1.5})


def test_the_same_program_is_as_fast():
    entries = [
        entry("auto", *[1.0] * 8, program="a"),
        entry("jax.vmap", *[1.1] * 8, program="a"),
    ]
    (found,) = against_peers(entries)
    assert found.same and found.speed == (1.0, 1.0, 1.0)


def test_auto_is_set_beside_the_best_that_it_could_choose():
    own = [entry(f"Fold(chunk_size={size})", *[2.0 / size] * 8) for size in range(1, 11)]
    (found,) = against_oracle([entry("auto", *[0.25] * 8), entry("jax.vmap", 0.1, 0.1), *own])
    assert (found.best, found.speed.value) == ("Fold(chunk_size=10)", pytest.approx(0.8))
    assert against_oracle([entry("auto", *[0.25] * 8), *own[:3]]) == []  # somebody's selection


def test_without_a_rival_there_is_nothing_to_say():
    assert against_peers([entry("auto", 1.0, 1.0), entry("vmap", 1.0, 1.0)]) == []
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)


def test_the_command_measures_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["compare", "dense", "--peers", "--quick", "--mode", "forward", "--rounds", "3"]
    assert main(words) == 0
    assert "as fast as the best rival of each" in " ".join(capsys.readouterr().out.split())
    entries = json.loads((tmp_path / "tdjax-results/comparison.json").read_text())["entries"]
    names = {entry["strategy"] for entry in entries}
    assert names == {"vmap", "auto", *map(str, INSTALLED)}
    assert all(entry["status"] == "ok" for entry in entries)
