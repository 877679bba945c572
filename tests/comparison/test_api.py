"""`tdjax.compare`, end to end on small functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from casebook import array

import tdjax
from tdjax.comparison import Comparison

X = array(4, 6, 8)  # (batch, time, features)
W = array(8, 5)


def dense(w, x):
    return jnp.tanh(x @ w)


def mixes_rows(x):
    return x - x.mean(0)


@pytest.fixture(scope="module")
def both():
    return tdjax.compare(dense, W, X, in_axes=(None, 1), mode="both", rounds=5)


def test_every_strategy_is_an_entry_in_every_mode(both):
    assert [(e.mode, e.strategy) for e in both.entries] == [
        (mode, strategy)
        for mode in ("forward", "grad")
        for strategy in ("vmap", "fold", "map", "unroll", "auto")
    ]
    assert {verdict.mode for verdict in both.verdicts} == {"forward", "grad"}
    assert both.workloads == {"dense": "float32[8,5], float32[4,6,8]"}


def test_what_is_measured_is_known_and_what_is_not_is_none(both):
    for entry in both.entries:
        assert (entry.status, entry.evidence) == ("ok", "measured")
        assert entry.target == jax.default_backend()
        assert len(entry.samples_s) == 5 and min(entry.samples_s) > 0
        assert entry.median_low_s <= entry.median_s <= entry.median_high_s
        assert min(entry.trace_s, entry.lower_s, entry.compile_s) > 0
        assert (entry.first_run_s is None) == (entry.same_as is not None)
        assert entry.temp_bytes >= 0 and entry.max_rel_error < 1e-5
        assert entry.flops > 0 and entry.bytes_accessed > 0 and entry.comm_bytes == 0
        assert entry.device_s is None and entry.estimated_cycles is None
    vmap = both.entries[0]
    assert (vmap.ratio, vmap.max_rel_error) == (1.0, 0.0)
    assert vmap.flops >= 2 * X[..., 0].size * W.size


def test_the_comparison_prints_and_survives_saving(both, tmp_path):
    assert Comparison.load(both.save(tmp_path / "both.json")) == both
    assert "dense, forward + gradient" in str(both)


def test_a_strategy_that_cannot_keep_the_meaning_is_a_row_with_its_reason():
    result = tdjax.compare(mixes_rows, X, strategies=("vmap", "fold"), rounds=5)
    vmap, fold = result.entries
    assert vmap.status == "ok"
    assert fold.status == "failed" and fold.error.startswith("StrategyError: ")
    assert fold.samples_s == () and fold.median_s is None


def test_a_wrong_answer_is_a_row_with_its_reason():
    wrong = tdjax.Fold(assume_independent=True)
    result = tdjax.compare(mixes_rows, X, strategies=("vmap", wrong), rounds=5)
    assert result.entries[1].status == "failed"
    assert "disagrees with vmap" in result.entries[1].error
    assert result.entries[1].max_rel_error > 1e-2
    assert result.verdicts[0].leader == "vmap"


def test_the_reference_need_not_be_asked_for():
    result = tdjax.compare(jnp.tanh, X, strategies=("fold",), rounds=5)
    (fold,) = result.entries
    assert fold.max_rel_error == 0.0 and fold.ratio is None


def test_the_same_program_shares_its_samples():
    twins = ("vmap", tdjax.Vmap(chunk_size=6))
    result = tdjax.compare(jnp.tanh, X, in_axes=0, out_axes=0, strategies=("fold", "fold"))
    assert len(result.entries) == 1
    result = tdjax.compare(jnp.tanh, X[0], in_axes=0, out_axes=0, strategies=twins, rounds=5)
    vmap, chunked = result.entries
    if vmap.program == chunked.program:
        assert chunked.same_as == "vmap" and chunked.samples_s == vmap.samples_s
    else:
        assert chunked.same_as is None


def test_a_control_is_the_reference_compiled_and_measured_again():
    result = tdjax.compare(jnp.tanh, X, strategies=("vmap",), control=True, rounds=5)
    vmap, again = result.entries
    assert (again.strategy, again.control, again.program) == ("vmap (again)", True, vmap.program)
    assert again.same_as is None and again.samples_s != vmap.samples_s and again.ratio is not None


def test_a_wrapped_function_brings_its_own_axes():
    wrapped = tdjax.time_distributed(dense, in_axes=(None, 0), out_axes=0, strategy="map")
    result = tdjax.compare(wrapped, W, X, strategies=("vmap", "unroll"), rounds=5)
    assert [entry.status for entry in result.entries] == ["ok", "ok"]
    assert result.workloads.keys() == {"dense"}


def test_masks_keys_and_keyword_arguments_reach_the_steps():
    def noisy(key, x, scale):
        return scale * x + jax.random.normal(key, (1, 8))

    keys = jax.random.split(jax.random.key(3), 6)
    result = tdjax.compare(
        noisy, keys, X, in_axes=(0, 1), strategies=("vmap", "map"), kwargs={"scale": 2.0},
        seq_lengths=np.array([1, 2, 3, 6]), mode="grad", rounds=5,
    )  # fmt: skip
    assert [(e.status, e.error) for e in result.entries] == [("ok", None)] * 2


def test_the_functions_own_error_passes_through():
    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        tdjax.compare(broken, X)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"mode": "backward"}, ValueError, "'backward'.*'grad'"),
        ({"targets": "gpus"}, ValueError, "'gpus' is unknown.*cpu, gpu, tpu"),
        ({"strategies": ("vmap", "folded")}, ValueError, "folded"),
        ({"strategies": ()}, ValueError, "at least one"),
        ({"rounds": 0}, ValueError, "rounds"),
        ({"timeout": 0}, ValueError, "timeout"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(change, kind, said):
    def never(x):
        raise AssertionError("it ran")

    with pytest.raises(kind, match=said):
        tdjax.compare(never, X, **change)


def test_what_cannot_be_differentiated_is_said():
    with pytest.raises(ValueError, match=r"floating point.*forward"):
        tdjax.compare(jnp.abs, jnp.arange(12).reshape(3, 4), out_axes=1, mode="grad")


def test_a_class_is_not_compared():
    with pytest.raises(TypeError, match=r"class.*instance"):
        tdjax.compare(dict, X)


class Interrupted:
    """Presses Ctrl-C when the second group begins its rounds."""

    def __init__(self):
        self.heard = []

    def update(self, text, fraction):
        assert 0 <= fraction <= 1
        self.heard.append(text)
        if "grad" in text and "round 3" in text:
            raise KeyboardInterrupt

    def log(self, text):
        self.heard.append(text)


def test_an_interrupted_session_keeps_what_was_measured():
    from tdjax.comparison.measuring.rounds import Effort
    from tdjax.comparison.session import Session
    from tdjax.comparison.subjects.benchmark import Benchmark
    from tdjax.comparison.subjects.subject import subject
    from tdjax.comparison.targets.target import resolve
    from tdjax.strategies import parse

    made = subject(dense, (W, X), in_axes=(None, 1))
    strategies = [parse("vmap"), parse("fold")]
    progress = Interrupted()
    session = Session(resolve("cpu"), ("forward", "grad"), Effort(rounds=5), progress)
    with pytest.raises(KeyboardInterrupt):
        session.run([Benchmark("dense", lambda: (made, strategies))])
    result = session.comparison(interrupted=True)
    assert [len(e.samples_s) for e in result.entries] == [5, 5, 2, 2]
    assert result.interrupted and len(result.verdicts) == 2
    assert any(text.startswith("[1/2] dense forward on cpu") for text in progress.heard)


def test_a_program_that_would_compile_for_too_long_is_a_row_that_says_so():
    def long(x):
        for _ in range(20):
            x = jnp.sin(x)
        return x

    x = jnp.ones((1, 300, 2))
    result = tdjax.compare(long, x, strategies=("vmap", "unroll"), rounds=1, timeout=0.05)
    _, unroll = result.entries
    assert unroll.status == "timeout" and unroll.samples_s == ()
    assert unroll.error.startswith("not compiled: its 6,") and "operations would" in unroll.error
