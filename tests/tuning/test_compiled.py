"""`tune` for a chip that is not here, by its compiler; and where `auto` takes what that says."""

import dataclasses
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, NamedSharding, PartitionSpec

import tdjax
from tdjax import Auto, Fold, Vmap, explain, time_distributed, tune
from tdjax.cli import main
from tdjax.core.recent import Recent
from tdjax.devices import compiled_result
from tdjax.devices.attached import assume
from tdjax.devices.compiled_result import BYTES, CYCLES, ORDERED, CompiledResult, RankedCandidate
from tdjax.devices.tuned_result import Tuned, TunedCandidate, level
from tdjax.strategies import to_data
from tdjax.strategies.choosing import decision, tuned
from tdjax.strategies.choosing.measured import Measured

pytestmark = pytest.mark.usefixtures("optimised")

LONG = 300
KIND = "TPU v5 lite"
WEIGHTS = jnp.ones((8, 8))
CLIPS = np.ones((4, 6, 8), np.float32)
FEW = (Vmap(), Fold(), Vmap(chunk_size=1))
FORWARD = Auto(mode="forward")


def step(x):
    return jnp.tanh(x @ WEIGHTS)


class Wrong(tdjax.Vmap):
    def run(self, call, proven=None):
        return super().run(call, proven) * 1.5


class Told:
    """Keeps what is told."""

    def __init__(self):
        self.lines = []

    def update(self, text, fraction):
        assert 0 <= fraction <= 1

    def log(self, text):
        self.lines.append(text)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TDJAX_CACHE_DIR", str(tmp_path))
    return tmp_path / "tuning"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Have a few candidates compiled, once for all tests; return that, and what was told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TDJAX_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        told = Told()
        tuning = tune(
            step, CLIPS, target="tpu:v5e", strategies=(*FEW, Wrong(chunk_size=2)), mode="both",
            timeout=LONG, progress=told,
        )  # fmt: skip
    return tuning, told.lines


@pytest.fixture
def kept(compiled, cache):
    """Return the files that keep these results in the test's own cache, forward first."""
    cache.mkdir()
    return [Path(shutil.copy(path, cache)) for path in compiled[0].paths]


def pretend(path, figures, **other):
    """Give what was compiled other cycles."""
    content = json.loads(path.read_text()) | other
    for each in content["candidates"]:
        each["estimated_cycles"] = figures.get(each["strategy"], each["estimated_cycles"])
    path.write_text(json.dumps(content))
    tuned._kept_compiled.forget(path)  # Within the clock's resolution the file looks unchanged.


def test_every_candidate_is_compiled_checked_and_told(compiled):
    tuning, lines = compiled
    assert [(e.mode, e.strategy, e.status) for e in tuning.entries] == [
        (mode, strategy, status)
        for mode in ("forward", "grad")
        for strategy, status in [
            ("vmap", "ok"), ("fold", "ok"), ("map", "ok"), ("Wrong(chunk_size=2)", "failed"),
        ]
    ]  # fmt: skip
    for entry in tuning.entries:
        assert (entry.target, entry.evidence, entry.samples_s) == ("tpu:v5e", "compiled", ())
        if entry.status == "ok":
            assert entry.estimated_cycles > 0 and entry.max_rel_error < 1e-5
        else:
            assert "on a CPU, it disagrees with vmap" in entry.error
            assert entry.estimated_cycles is None
    assert sum("] map: " in line and line.endswith(" k cycles") for line in lines) == 2
    assert any("step forward on tpu:v5e [1/" in line for line in lines)


def test_the_words_say_what_is_known_and_by_whom(compiled):
    tuning, _ = compiled
    text = str(tuning)
    version = tuned.installed(["libtpu"])["libtpu"]
    for said in (
        f"for {KIND} (tpu:v5e, ", f"libtpu {version}", "never compared with times of a TPU",
        "Answers were checked on a CPU", "not the chip's code", "cycles",
    ):  # fmt: skip
        assert said in text, text
    assert "fastest." not in text.splitlines()[0] and "verified" not in text
    assert tuning.best in tuning.level and "<table" in tuning._repr_html_()
    (result, _) = tuning.results
    assert (result.device, result.target, result.topology) == (KIND, "tpu:v5e", "v5e:2x2")
    assert {"jax", "jaxlib", "libtpu", "tdjax"} == set(result.versions)


def test_a_loop_s_body_counts_as_often_as_it_runs(compiled):
    """Six steps of a loop take more than one that computes as much as all of them."""
    by_name = {(e.mode, e.strategy): e.estimated_cycles for e in compiled[0].entries}
    for mode in ("forward", "grad"):
        assert by_name[mode, "map"] > 3 * by_name[mode, "vmap"]


def test_a_second_run_goes_on_where_the_first_one_ended(compiled, kept):
    told = Told()
    forward, _ = kept
    content = json.loads(forward.read_text())
    content["candidates"] = [c for c in content["candidates"] if c["strategy"] != "map"]
    forward.write_text(json.dumps(content))
    tuned._kept_compiled.forget(forward)
    again = tune(step, CLIPS, target="tpu:v5e", strategies=FEW, timeout=LONG, progress=told)
    assert told.lines[0] == "step forward on tpu:v5e: 2 candidates from before"
    assert len(told.lines) == 2 and "[1/1] map: " in told.lines[1]
    first = {e.strategy: e.estimated_cycles for e in compiled[0].entries if e.mode == "forward"}
    assert {e.strategy: e.estimated_cycles for e in again.entries}.items() <= first.items()


def test_auto_takes_it_on_that_kind_of_device_alone(kept):
    forward, grad = kept
    pretend(forward, {"vmap": 900, "fold": 500, "map": 300})
    pretend(grad, {"vmap": 900, "fold": 500, "map": 800})
    assert explain(step, CLIPS).strategy == Fold()
    with assume("tpu", KIND):
        found = explain(time_distributed(step, strategy=FORWARD), CLIPS)
        assert found.strategy == Vmap(chunk_size=1)
        assert f"It was compiled to the fewest cycles for {KIND} (tpu:v5e, " in found.reasons[0]
        blocks = time_distributed(step, strategy=FORWARD)(CLIPS)
        np.testing.assert_allclose(blocks, np.tanh(CLIPS @ np.ones((8, 8))), rtol=1e-6)
        # Of both modes together fold takes least; and nothing is known of other sizes.
        assert explain(step, CLIPS).strategy in (Fold(), Vmap(chunk_size=1))
        assert "predicted" in explain(step, CLIPS[:, :5]).reasons[0]
    with assume("tpu", "TPU v6 lite"):
        assert "predicted" in explain(step, CLIPS).reasons[0]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_auto_takes_it_on_meshes_of_that_device(kept, caplog, kind, monkeypatch):
    """A device's block is the program that was compiled for one of them."""
    monkeypatch.setattr(decision, "_said", Recent())
    pretend(kept[0], {"vmap": 900, "fold": 500, "map": 300})
    chips = AbstractDevice(device_kind=KIND, num_cores=1, platform="tpu")
    mesh = AbstractMesh((2, 2), ("data", "seq"), (kind, kind), abstract_device=chips)
    spread = NamedSharding(mesh, PartitionSpec("data", "seq"))
    made = time_distributed(step, strategy=FORWARD, partition=spread)
    x = jax.ShapeDtypeStruct((8, 12, 8), np.float32, sharding=spread)
    with caplog.at_level(logging.DEBUG, "tdjax"):
        jax.jit(made).trace(x)
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"4 x 6 rows: map. It was compiled to the fewest cycles for {KIND} (" in said


JOB = """
import sys
import numpy as np
sys.path[:0] = sys.argv[1:]
from test_compiled import CLIPS, FORWARD, KIND, step
from tdjax import explain, time_distributed
from tdjax.devices.attached import assume

with assume("tpu", KIND):
    print(explain(time_distributed(step, strategy=FORWARD), CLIPS).strategy)
"""


def test_a_job_that_starts_there_takes_it_from_an_exported_file(kept, cache, tmp_path, capsys):
    pretend(kept[0], {"vmap": 900, "fold": 500, "map": 300})
    out = tmp_path / "chips.json"
    assert main(["tune", "--export", str(out)]) == 0
    assert main(["tune", "--clear"]) == 0 and not list(cache.iterdir())
    assert main(["tune", "--import", str(out)]) == 0
    assert "took in 2 results" in capsys.readouterr().out
    own = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    done = subprocess.run([sys.executable, "-c", JOB, *own], capture_output=True, text=True)
    assert done.stdout.split() == ["Vmap(chunk_size=1,", "unroll=False,", "remat=False)"] or (
        done.stdout.strip() == "map"
    ), done.stderr


def measured_there(result, **times):
    """Return what tuning on the chip itself would have kept of the same program."""
    candidates = [
        TunedCandidate(
            str(each), **to_data(each), status="ok", median_s=times[str(each)], low=0.99, high=1.01
        )
        for each in FEW
    ]
    own = {name: getattr(result, name) for name in ("program", "mode", "title", "sizes", "device")}
    return Tuned(**own, versions=tuned.versions(), date="2026-01-01", candidates=tuple(candidates))


def test_what_was_measured_there_counts_first(compiled, kept):
    pretend(kept[0], {"vmap": 900, "fold": 500, "map": 300})
    made = time_distributed(step, strategy=FORWARD)
    tuned.keep(measured_there(compiled[0].results[0], vmap=1.0, fold=2.0, map=3.0))
    with assume("tpu", KIND):
        found = explain(made, CLIPS)
    assert found.strategy == Vmap() and "measured to be the fastest here" in found.reasons[0]


def test_what_another_version_s_compiler_said_is_said_to_be_so(kept):
    forward, _ = kept
    versions = json.loads(forward.read_text())["versions"]
    pretend(forward, {"map": 1}, versions={**versions, "libtpu": "0.0.1"})
    with assume("tpu", KIND):
        found = explain(time_distributed(step, strategy=FORWARD), CLIPS)
    assert found.strategy == Vmap(chunk_size=1)
    assert (
        f"libtpu 0.0.1; other versions are installed here, libtpu {versions['libtpu']};"
        in (found.reasons[0])
    )


def test_those_of_the_versions_that_are_here_come_before_others(compiled, cache):
    (result, _) = compiled[0].results

    def least(name, **versions):
        figures = {str(each): 100 if str(each) == name else 900 for each in FEW}
        candidates = [
            dataclasses.replace(each, estimated_cycles=figures[each.strategy])
            for each in result.candidates
            if each.strategy in figures
        ]
        return dataclasses.replace(
            result, versions={**result.versions, **versions}, candidates=tuple(candidates)
        )

    for each in (least("map", libtpu="9.9.9"), least("vmap"), least("fold", libtpu="0.0.1")):
        tuned.keep(each)
    assert len(list(cache.iterdir())) == 3
    with assume("tpu", KIND):
        assert explain(time_distributed(step, strategy=FORWARD), CLIPS).strategy == Vmap()


def ranked(**figures):
    """Return what was compiled of strategies, by what they move."""
    return tuple(
        RankedCandidate(str(each), **to_data(each), status="ok", bytes_accessed=figures[str(each)])
        for each in FEW
    )


def test_on_a_gpu_bytes_rank_and_within_five_percent_they_are_level():
    fixed = ("forward", "step", (4, 6), "NVIDIA H200", "gpu:h200", "h200 1x1x1", "XLA for CUDA")
    result = CompiledResult("key", *fixed, {"jax": "0.10"}, "2026-01-01", ())
    result = dataclasses.replace(result, candidates=ranked(vmap=104e6, fold=100e6, map=106e6))
    assert result.metric == BYTES and level(result.bounds(BYTES)) == ("fold", "vmap")
    known = Measured([result])
    assert known.words.first == "compiled to move the fewest bytes" and ORDERED in known.where
    assert "never compared" not in known.where
    with_cycles = dataclasses.replace(result.candidates[0], estimated_cycles=5)
    mixed = dataclasses.replace(result, candidates=(with_cycles, *result.candidates[1:]))
    assert mixed.metric == BYTES
    assert compiled_result.LEVEL == {CYCLES: 1.03, BYTES: 1.05}


def test_compare_shows_what_auto_would_take_there(kept):
    pretend(kept[0], {"vmap": 900, "fold": 500, "map": 300})
    found = tdjax.compare(
        step, CLIPS, strategies=("map", FORWARD), targets=("tpu:v5e", "tpu:v6e"), timeout=LONG
    )
    v5e, v6e = found.entries[1], found.entries[3]
    assert (v5e.same_as, v6e.same_as) == ("map", None)


def test_the_command_compiles_lists_and_refuses_what_it_cannot(cache, capsys):
    words = ["tune", "dense", "--strategies", "fold", "--mode", "forward", "--target"]
    assert main([*words, "tpu:v5e", "--timeout", str(LONG)]) == 0
    assert "dense forward on tpu:v5e [1/1] fold: " in capsys.readouterr().err
    assert main(["tune", "--list"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert f"dense forward, 32 x 10 rows, {KIND}, " in listed
    assert "fold has the fewest cycles, compiled for tpu:v5e by jax " in listed
    for target, said in (("tpu:v9", "is unknown"), ("gpu", "is not attached")):
        assert main([*words, target]) == 2
        assert said in capsys.readouterr().err
    assert main([*words, "tpu:v5e", "--out", str(cache / "x.json")]) == 2
    assert "--out writes speeds that were measured" in capsys.readouterr().err


def test_a_budget_leaves_out_what_takes_more(kept):
    with pytest.raises(ValueError, match=r"nothing fits 1 B; the least is .*, by "):
        for path in kept:
            content = json.loads(path.read_text())
            content["candidates"] = [c | {"temp_bytes": 10} for c in content["candidates"]]
            path.write_text(json.dumps(content))
        tuned._kept_compiled.forget(path)
        tune(step, CLIPS, target="tpu:v5e", strategies=FEW, memory_budget=1, timeout=LONG)
