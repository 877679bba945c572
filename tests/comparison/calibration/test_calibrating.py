"""What was calibrated is kept, taken by `auto` and explained; what is damaged is left out."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest
from damaging import random_damage

import tdjax
from tdjax.cli import main
from tdjax.comparison.api import chooses
from tdjax.comparison.calibration import calibrate_first, calibrating, clock
from tdjax.comparison.targets.target import resolve
from tdjax.core import typed
from tdjax.core.kept_file import jax_versions
from tdjax.costs import machine as costs_machine
from tdjax.costs.machine import _machine, current_machine, machine_of
from tdjax.devices import calibration, shipped
from tdjax.devices.attached import assume, device_kind
from tdjax.devices.calibration import Calibration
from tdjax.devices.shipped import SPEEDS

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="a CPU is calibrated")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TDJAX_CACHE_DIR", str(tmp_path))
    return tmp_path / "calibration"


@pytest.fixture
def quickly(monkeypatch):
    """Measure programs on two rows, once each: what comes out means nothing."""

    def smaller(probe):
        parameter, (_, _, *step) = probe.shapes
        return dataclasses.replace(probe, shapes=(parameter, (1, 2, *step)))

    monkeypatch.setattr(calibrating, "PROBES", tuple(map(smaller, calibrating.PROBES)))
    monkeypatch.setattr(clock, "_SAMPLES", 1)
    monkeypatch.setattr(clock, "_SAMPLE_S", 0.0)
    monkeypatch.delenv("TDJAX_CALIBRATE")


class Said:
    """A progress that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def update(self, text, fraction):
        assert 0 <= fraction <= 1

    def log(self, text):
        self.lines.append(text)


def pretended(**changed):
    speeds = {**dict.fromkeys(SPEEDS, 3.0), **changed}
    return Calibration("cpu", device_kind(), "2026-01-02", jax_versions(), speeds)


def why():
    return " ".join(tdjax.explain(jnp.tanh, jax.ShapeDtypeStruct((4, 6, 8), jnp.float32)).reasons)


def test_what_was_measured_is_kept_and_taken_and_explained(cache, quickly, capsys, tmp_path):
    assert "were calibrated" not in why() and "`tdjax calibrate` measures" in why()
    out = tmp_path / "device.json"
    assert main(["calibrate", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "dot_flops_s" in said.out and str(cache.name) in said.err
    (path,) = cache.iterdir()
    kept = calibration.find(device_kind())
    assert kept.speeds.keys() == set(SPEEDS)
    assert current_machine().speeds == pytest.approx(kept.speeds)
    assert current_machine() is current_machine()
    assert f"Speeds were calibrated on this machine, {kept.date}, jax {jax.__version__}." in why()
    device = typed.load(shipped.Device, out, shipped.FORMAT, shipped.VERSION)
    assert device.kind == device_kind() and device.speeds == pytest.approx(kept.speeds, rel=0.01)
    path.unlink()
    assert "were calibrated" not in why()


def test_comparing_and_tuning_calibrate_first_once_and_say_so(cache, quickly, monkeypatch):
    x, said = jnp.ones((2, 3, 4)), Said()
    monkeypatch.setenv("TDJAX_CALIBRATE", "never")
    calibrate_first(said)
    monkeypatch.delenv("TDJAX_CALIBRATE")
    tdjax.tune(jnp.tanh, x, strategies=("vmap", "fold"), calibrate=False, progress=said)
    assert not (cache.exists() or any("calibrating" in text for text in said.lines))
    tdjax.compare(jnp.tanh, x, strategies=("vmap", "auto"), rounds=1, progress=said)
    tdjax.tune(jnp.tanh, x, strategies=("vmap", "fold"), progress=said)
    assert sum("calibrating this machine once" in text for text in said.lines) == 1
    assert len(list(cache.iterdir())) == 1


def test_only_what_chooses_here_is_calibrated_for():
    here = resolve("cpu")
    assert chooses([tdjax.Fold(), tdjax.Auto()], here) and not chooses([tdjax.Fold()], here)
    assert not chooses([tdjax.Auto()], [])


def test_a_call_calibrates_nothing(cache, monkeypatch):
    monkeypatch.delenv("TDJAX_CALIBRATE")
    wrapped = tdjax.time_distributed(jnp.tanh)
    jax.block_until_ready(jax.jit(wrapped)(wrapped(jnp.ones((2, 3)))))
    assert not cache.exists()


def test_what_is_kept_holds_for_its_device_and_versions(cache):
    calibration.keep(pretended())
    assert current_machine().turn_s == 3.0
    assert machine_of("gpu").turn_s != 3.0
    with assume("cpu"):
        assert current_machine().turn_s != 3.0
    (path,) = cache.iterdir()
    content = json.loads(path.read_text())
    for change in ({"kind": "another"}, {"versions": {"jax": "0.1", "jaxlib": "0.1"}}):
        path.write_text(json.dumps({**content, **change}))
        assert calibration.find(device_kind()) is None and current_machine().turn_s != 3.0
    for version in (5, calibration.VERSION + 1):  # 5: convolutions were priced otherwise
        path.write_text(json.dumps({**content, "version": version}))
        calibration._kept.forget(path)
        with pytest.warns(UserWarning, match="no calibration that can be read .*`tdjax calibrate`"):
            assert current_machine().turn_s != 3.0


@pytest.mark.filterwarnings("ignore:.*holds no calibration that can be read")
def test_whatever_is_damaged_is_left_out_or_taken(cache):
    path = calibration.keep(pretended())
    whole, left_out = path.read_text(), 0
    for seed in range(100):
        path.write_bytes(random_damage(whole, seed))
        calibration._kept.forget(path)
        left_out += calibration.find(device_kind()) is None
        assert current_machine().bytes_s(1e6) > 0
    assert 50 < left_out <= 100


def test_what_cannot_be_kept_is_said(cache, quickly, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TDJAX_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be kept in .*TDJAX_CACHE_DIR"):
        assert tdjax.calibrate().speeds.keys() == set(SPEEDS)


def test_accelerators_keep_what_tells_them(cache):
    speeds = {"dot_flops_s": 1e14, "memory_bytes_s": 1e12}
    own = Calibration("gpu", "some GPU", "2026-01-02", jax_versions(), speeds)
    machine = _machine("gpu", "some GPU", own)
    assert (machine.dot_flops_s, machine.memory_bytes_s) == (1e14, 1e12)
    assert machine.near_bytes == 0 and "calibrated on this machine" in machine.source
    with pytest.raises(ValueError, match="not known: warp"):
        dataclasses.replace(own, speeds={"warp": 9.0})
    with pytest.raises(ValueError, match=r"missing or not known: .*turn_s"):
        dataclasses.replace(own, platform="cpu")


def test_of_an_accelerator_what_limits_it_is_measured_kept_and_taken(cache, quickly, monkeypatch):
    kind = "NVIDIA H100 80GB HBM3"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for module in (calibrating, costs_machine):
        monkeypatch.setattr(module, "device_kind", lambda: kind)
    found = tdjax.calibrate()
    assert (found.platform, found.kind) == ("gpu", kind)
    assert found.speeds.keys() == found.probed.keys() == {*SPEEDS} - {*calibrating._OF_CPUS}
    assert calibration.find(kind).speeds == found.speeds
    machine = current_machine()
    assert found.speeds.items() <= machine.speeds.items()
    # Nothing there is sized for caches, or left to one of several cores.
    assert (machine.near_bytes, machine.cores, machine.takes_apart) == (0, 1, False)
    assert machine.fresh_s(1e12) == 0


def test_of_a_busy_machine_nothing_is_kept_unasked(cache, quickly, monkeypatch):
    measured = calibrating.measured
    monkeypatch.setattr(
        calibrating, "measured", lambda *programs: measured(*programs)._replace(unrest=1.5)
    )
    said = Said()
    calibrate_first(said)
    assert not cache.exists() and "busy" in said.lines[-1] and "1.50 times" in said.lines[-1]
    found = tdjax.calibrate(said)
    assert "calibrate again" in said.lines[-1] and len(list(cache.iterdir())) == 1
    assert found.probed.keys() == found.speeds.keys() == {*SPEEDS}


def test_a_usual_call_is_set_beside_the_shortest(monkeypatch):
    class Timed:
        def __init__(self, *samples):
            self._sample = iter(samples).__next__

    monkeypatch.setattr(clock, "_SAMPLES", 3)
    times = clock.measured(Timed(1.0, 3.0, 2.0), Timed(4.0, 4.0, 4.0), Timed(1.0, 1.5, 9.0))
    assert times == ([1.0, 4.0, 1.0], 1.5)
