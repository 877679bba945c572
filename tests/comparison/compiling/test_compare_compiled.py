"""`compare` for devices that are not here, by their own compilers."""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
from convolutions import convolutions

import tdjax
from tdjax.comparison import Comparison
from tdjax.comparison.measuring.rounds import Effort
from tdjax.comparison.session import Limits, Session
from tdjax.comparison.subjects.benchmark import Benchmark
from tdjax.comparison.subjects.subject import subject
from tdjax.comparison.targets.target import resolve
from tdjax.strategies import parse

pytestmark = pytest.mark.usefixtures("optimised")

LONG = 300
X = jnp.ones((4, 6, 8))  # (batch, time, features)
W = jnp.ones((8, 5))


def dense(w, x):
    return jnp.tanh(x @ w)


@pytest.fixture(scope="module")
def both():
    return tdjax.compare(
        dense, W, X, in_axes=(None, 1), strategies=("vmap", "fold", "map"), mode="both",
        targets=("cpu", "tpu:v5e", "tpu:v6e"), rounds=5, timeout=LONG,
    )  # fmt: skip


def of(result, **wanted):
    return [e for e in result.entries if all(getattr(e, k) == v for k, v in wanted.items())]


def test_every_target_has_every_strategy_in_every_mode(both):
    assert [(e.target, e.mode, e.strategy, e.status) for e in both.entries] == [
        (target, mode, strategy, "ok")
        for target in ("cpu", "tpu:v5e", "tpu:v6e")
        for mode in ("forward", "grad")
        for strategy in ("vmap", "fold", "map")
    ]
    assert {(e.target, e.evidence) for e in both.entries} == {
        ("cpu", "measured"), ("tpu:v5e", "compiled"), ("tpu:v6e", "compiled"),
    }  # fmt: skip


def test_what_is_compiled_has_the_compiler_s_facts_and_no_time(both):
    for entry in of(both, evidence="compiled"):
        assert entry.samples_s == () and entry.median_s is None and entry.ratio is None
        assert entry.first_run_s is None and entry.max_rel_error is None
        assert min(entry.trace_s, entry.lower_s, entry.compile_s) > 0
        assert entry.flops >= 2 * X.size * 5 and entry.bytes_accessed > 0
        assert entry.estimated_cycles > 0 and entry.temp_bytes >= 0 and entry.comm_bytes == 0
        assert entry.program and (entry.hlo["while"] > 0) == (entry.strategy == "map")


def test_what_is_compiled_is_ranked_apart_and_called_what_it_is(both):
    for verdict in both.verdicts:
        if verdict.evidence == "measured":
            assert verdict.metric == "time" and verdict.saving is None
            continue
        assert verdict.metric == "estimated_cycles" and verdict.kind in ("win", "level")
        assert verdict.speedup is None and verdict.saving >= 1
        assert "estimate" in verdict.text
    assert len(both.verdicts) == 6


def test_it_is_saved_shown_and_drawn(both, tmp_path):
    assert Comparison.load(both.save(tmp_path / "both.json")) == both
    text = str(both)
    for said in ("compiled on tpu:v5e", "est. cycles", "least cycles or bytes"):
        assert said in text
    report = both.report(tmp_path / "both.html").read_text()
    assert "estimate of cycles" in report and "compiled on tpu:v6e" in report
    assert both.plot(tmp_path / "both.png").stat().st_size > 10_000


def test_why_names_the_loop_and_its_trips(both):
    said = both.why("vmap", "map", target="tpu:v5e", mode="forward")
    assert any("around the steps" in s and "map runs a loop 6 times" in s for s in said), said
    everywhere = both.why("vmap", parse("map"))
    assert any(s.startswith("dense grad on cpu: ") for s in everywhere)
    with pytest.raises(ValueError, match=r"mode='forward'.*'unroll'.*vmap, fold, map"):
        both.why("vmap", "unroll", mode="forward")


def test_three_convolutions_on_v5e_are_vmap_s():
    kernels = [jnp.ones((3, 3, 64, 64), jnp.bfloat16)] * 3
    clip = jnp.ones((8, 16, 28, 28, 64), jnp.bfloat16)
    result = tdjax.compare(
        convolutions, kernels, clip, in_axes=(None, 1), strategies=("vmap", "fold"),
        targets="tpu:v5e", timeout=LONG,
    )  # fmt: skip
    vmap, fold = result.entries
    assert vmap.bytes_accessed == pytest.approx(156e6, rel=0.02)
    assert fold.bytes_accessed == pytest.approx(208e6, rel=0.02)
    assert vmap.estimated_cycles < fold.estimated_cycles
    assert result.verdicts[0].leader == "vmap"
    assert vmap.flops == fold.flops
    said = " ".join(result.why("vmap", "fold"))
    assert "convolution" in said and "convolutions.py:" in said
    assert "vmap moves time before batch, 1 transpose of 25.7 MB; fold has none" in said


def test_a_program_that_takes_too_long_is_a_row_and_the_others_go_on():
    def session(limits, timeout):
        made = subject(dense, (W, X), in_axes=(None, 1))
        strategies = [parse("vmap"), parse("fold")]
        session = Session(
            resolve("tpu:v5e"), ("forward",), Effort(timeout_s=timeout), Silent(), limits
        )
        session.run([Benchmark("dense", lambda: (made, strategies))])
        return session.comparison()

    cut = session(None, 1e-3)
    assert {e.status for e in cut.entries} == {"timeout"}
    assert "its compiler was still running after 0.001 s" in cut.entries[0].error
    assert cut.verdicts[0].text == "nothing was compiled"
    late = session(Limits(measuring=60, all=0), LONG)
    assert all(
        entry.error == "not compiled: this comparison's time was used up" for entry in late.entries
    )
    assert all(entry.lower_s > 0 for entry in late.entries)


class Silent:
    def update(self, text, fraction):
        assert 0 <= fraction <= 1

    def log(self, text):
        pass


class Interrupted(Silent):
    """Presses Ctrl-C when the first program is compiled."""

    def update(self, text, fraction):
        if "compiled 1 of 2" in text:
            raise KeyboardInterrupt


def test_ctrl_c_keeps_what_is_compiled():
    made = subject(dense, (W, X), in_axes=(None, 1))
    session = Session(resolve("tpu:v5e"), ("forward",), Effort(timeout_s=LONG), Interrupted())
    with pytest.raises(KeyboardInterrupt):
        session.run([Benchmark("dense", lambda: (made, [parse("vmap"), parse("fold")]))])
    entries = session.comparison(interrupted=True).entries
    assert sorted(entry.status for entry in entries) == ["failed", "ok"]
    assert {entry.error for entry in entries} == {None, "interrupted before it was compiled"}


def test_a_strategy_that_cannot_run_is_a_row_and_a_function_s_own_error_passes():
    result = tdjax.compare(
        lambda x: x - x.mean(0), X, strategies=("vmap", "fold"), targets="tpu:v5e", timeout=LONG
    )
    vmap, fold = result.entries
    assert (vmap.status, fold.status) == ("ok", "failed")
    assert fold.error.startswith("StrategyError: ")

    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        tdjax.compare(broken, X, targets="tpu:v5e")


SPREAD = """
import jax, jax.numpy as jnp, numpy as np, tdjax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
mesh = Mesh(np.array(jax.devices()).reshape(8), ("data",))
x = jax.device_put(jnp.ones((8, 4, 16)), NamedSharding(mesh, P("data")))
w = jax.device_put(jnp.ones((16, 8)), NamedSharding(mesh, P()))
result = tdjax.compare(
    lambda w, x: jnp.tanh(x @ w), w, x, in_axes=(None, 1), strategies=("vmap",),
    targets=("tpu:v5e:2x4", "tpu:v5e"), mode="grad", timeout=300,
)
wide, small = result.entries
print(wide.status, wide.error or wide.hlo["collectives"], wide.comm_bytes, wide.flops)
print(small.status, small.error)
"""


def test_arrays_on_eight_devices_are_compiled_for_eight_chips():
    done = subprocess.run(
        [sys.executable, "-c", SPREAD],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
            "PYTHONPATH": str(Path(tdjax.__file__).parents[1]),
        },
    )
    assert done.returncode == 0, done.stderr
    wide, small = done.stdout.splitlines()
    status, collectives, comm_bytes, flops = wide.split()
    # The weights' gradient (16, 8) is summed over the chips; each computes its own row.
    assert status == "ok" and int(collectives) >= 1 and int(comm_bytes) >= 16 * 8 * 4
    assert 3 * 2 * 4 * 16 * 8 <= float(flops) < 2 * 3 * 2 * 4 * 16 * 8
    assert small == "failed ValueError: the arrays lie on 8 devices and the topology has 4"
