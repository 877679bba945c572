"""Fitting speeds: those that made the times are found again, and choices become better."""

import dataclasses
import json
import random

import jax
import pytest

from tdjax import Fold, Vmap
from tdjax.cli import main
from tdjax.comparison import Comparison, Entry
from tdjax.costs import machine
from tdjax.costs.machine import Machine, machine_of
from tdjax.costs.predict import forward_s, gradient_s
from tdjax.costs.traffic import Traffic
from tdjax.costs.work import Convolutions, Product, Work
from tdjax.devices import shipped
from tdjax.devices.attached import assume, device_kind
from tdjax.devices.shipped import FORMAT, SPEEDS, VERSION
from tdjax.strategies import candidates
from tdjax.tuning.fit import MeasuredWorkload, fit, measured

pytestmark = pytest.mark.usefixtures("optimised")

TRUE = Machine(
    platform="cpu", dot_flops_s=1e11, conv_flops_s=1e11, transcendentals_s=1e10,
    near_bytes=2e6, far_bytes=32e6, near_bytes_s=8e10, far_bytes_s=2e10, memory_bytes_s=3e9,
    operation_s=2e-5, turn_s=2e-6, fresh_above=32e6, fresh_bytes_s=1e10,
)  # fmt: skip
WORKS = {
    "norms": Work(traffic=(Traffic(50e3, 4e3, 0, 2e3),), live_bytes=4e3, kept_bytes=20e3,
                  input_bytes=2e3, output_bytes=2e3, operations=20),
    "mlp": Work(products=(Product(8e6, 2e6),), traffic=(Traffic(1e5, 8e3, 17e6, 4e3),),
                live_bytes=8e3, kept_bytes=5e4, weight_bytes=17e6, operations=12),
    "convs": Work(convolutions=(Convolutions(2e8, narrow=True),),
                  traffic=(Traffic(2e6, 1e6, 0, 1e6),), live_bytes=1e6, kept_bytes=1e6,
                  patch_bytes=5e6, largest_patch_bytes=2e6, operations=6),
}  # fmt: skip


def pretended(name, batch, time):
    noise = random.Random(name)
    seconds = {"forward": {}, "grad": {}}
    for strategy in candidates(batch, time, remat=True):
        blocks = strategy.blocks(batch, time)
        for mode, predict in (("forward", forward_s), ("grad", gradient_s)):
            true = predict(blocks, WORKS[name], TRUE)
            seconds[mode][strategy] = true * (1 + 0.01 * noise.random())
    return MeasuredWorkload(name, batch, time, WORKS[name], seconds)


def test_a_fit_finds_speeds_that_choose_better():
    data = [pretended("norms", 256, 64), pretended("mlp", 16, 32)]
    start = dataclasses.replace(TRUE, memory_bytes_s=8e10, far_bytes_s=8e10, operation_s=1e-7)
    true, before, after = fit(data, TRUE, 0), fit(data, start, 0), fit(data, start, 400)
    assert after.regret < true.regret + 0.01 and true.regret + 0.05 < before.regret
    assert after.error < before.error / 2
    assert after == fit(data, start, 400)


def test_one_core_is_never_taken_to_be_faster_than_all():
    data = [pretended("convs", 4, 8)]
    slower = dataclasses.replace(TRUE, conv_flops_s=1e10)
    assert fit(data, slower, 400).machine.narrow_conv >= 1.0
    accelerator = dataclasses.replace(slower, platform="gpu")
    assert fit(data, accelerator, 400).machine.narrow_conv == 1.0


ENVIRONMENT = {
    "date": "2026-01-02T03:04:05+00:00", "devices": "cpu", "processor": "Z80", "cores": 1,
    "jax": "1.0", "jaxlib": "1.0", "tdjax": "1.0",
}  # fmt: skip


def entry(workload, strategy, seconds):
    return Entry(workload, "cpu", "measured", "forward", strategy, "ok", samples_s=(seconds,) * 5,
                 median_s=seconds)  # fmt: skip


def comparison(*entries):
    return Comparison(entries, (), "vmap", {}, ENVIRONMENT)


def test_measurements_are_read_from_comparisons(tmp_path, capsys):
    names = ("auto", "fold", "vmap", "Fold(chunk_size=40, unroll=True)")
    run = comparison(*(entry("dense", name, 1e-3 * (i + 1)) for i, name in enumerate(names)))
    (found,) = measured(run.entries)
    assert (found.name, found.batch, found.time) == ("dense", 32, 10)
    assert found.in_all == [Fold(), Vmap(), Fold(chunk_size=40, unroll=True)]
    assert found.seconds["forward"][Vmap()] == pytest.approx(3e-3)
    path = run.save(tmp_path / "run.json")
    assert main(["fit", str(path)]) == 0
    assert "shipped: choices take 1.000x the best" in capsys.readouterr().out
    out = tmp_path / "z80.json"
    assert main(["fit", str(path), "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert (written["kind"], written["date"]) == ("cpu, Z80, 1 cores", "2026-01-02")


def test_a_file_in_the_folder_makes_a_machine_known(tmp_path, monkeypatch):
    speeds = dict.fromkeys(SPEEDS, 2.0)
    own = {"format": FORMAT, "version": VERSION, "platform": "cpu", "kind": device_kind(),
           "evidence": "measured", "date": "2026-01-02", "results": [],
           "versions": {"jax": "1.2"},
           "regret": 1.0, "says": None, "speeds": speeds}  # fmt: skip
    others = {**own, "kind": "another", "speeds": dict.fromkeys(SPEEDS, 7.0)}
    newer = {"format": FORMAT, "version": VERSION + 1}
    for name, content in (("a", others), ("b", own), ("c", newer)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr(shipped, "_FOLDER", tmp_path)
    caches = shipped.devices, shipped.results, machine._machine
    for cache in caches:
        cache.cache_clear()
    try:
        with pytest.warns(UserWarning, match=rf"c.json is left out: .* needed {FORMAT} {VERSION}"):
            assert machine_of("cpu").turn_s == 2.0
        said = "Speeds are those of this kind of device, 2026-01-02, jax 1.2."
        assert machine_of("cpu").source.startswith(said)
        with assume("cpu"):
            assert machine_of("cpu").turn_s == 7.0  # the first one, where the kind is not known
        closer = {**own, "versions": {"jax": jax.__version__}, "speeds": dict.fromkeys(SPEEDS, 3.0)}
        (tmp_path / "e.json").write_text(json.dumps(closer))
        for cache in caches:
            cache.cache_clear()
        with pytest.warns(UserWarning, match=r"c.json is left out"):
            assert machine_of("cpu").turn_s == 3.0  # measured with this version of jax
        near = "cpu, EPYC (AMD, family 25, model 17; AVX2 AVX-512), 8 cores, L2 1024 KiB"
        (tmp_path / "d.json").write_text(json.dumps({**own, "kind": near}))
        for cache in caches:
            cache.cache_clear()
        with pytest.warns(UserWarning, match=r"c.json is left out"):
            found = machine._machine("cpu", near.replace("8 cores", "2 cores"))
        assert (
            f"the nearest one that was measured ({near}: the same design, 8 cores)" in found.source
        )
    finally:
        for cache in caches:
            cache.cache_clear()


def test_shipped_files_name_what_they_are_from():
    assert {each.platform for each in shipped.devices()} >= {"cpu"}
    for each in shipped.devices():
        assert each.kind and each.date and each.versions["jax"]
        if each.evidence == "measured":
            assert each.speeds and each.regret >= 1
        else:
            assert "compiler" in each.says and not each.speeds


def test_other_comparisons_are_refused(tmp_path, capsys):
    path = comparison(entry("mine", "vmap", 1.0)).save(tmp_path / "run.json")
    assert main(["fit", str(path)]) == 2
    assert "no workload of the suite was measured" in capsys.readouterr().err
