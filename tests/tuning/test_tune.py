"""`tune`: what is measured, kept and taken from then on; and what is done with damaged files."""

import collections
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from damaging import SCRIPT, random_damage

import tdjax
from tdjax import Auto, Fold, Packed, Vmap, explain, time_distributed, tune
from tdjax.cli import main
from tdjax.comparison.subjects.subject import subject
from tdjax.core import typed
from tdjax.devices import shipped
from tdjax.devices.attached import device_kind
from tdjax.devices.tuned_result import Tuned, TunedCandidate
from tdjax.independence import proof
from tdjax.strategies.choosing import tuned
from tdjax.tuning.tune import _decision, _promising, tune_subject

WEIGHTS = jnp.ones((8, 8))
CLIPS = jnp.ones((4, 6, 8))
FORWARD = Auto(mode="forward")
FEW = ("vmap", "fold", Fold(chunk_size=6))


def step(x):
    return jnp.tanh(x @ WEIGHTS)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TDJAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("tdjax.tuning.tune._BUDGET_S", 0.5)  # no test needs a sure winner
    return tmp_path / "tuning"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Measure the few candidates once, for all tests that only need a result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TDJAX_CACHE_DIR", str(tmp_path_factory.mktemp("measured")))
        return tune(step, CLIPS, strategies=FEW)


@pytest.fixture
def kept(measured, cache):
    """Return the file that keeps this result in the test's own cache."""
    cache.mkdir()
    (path,) = measured.paths
    return Path(shutil.copy(path, cache))


def timed(candidates, times, part=0.1):
    """Give candidates of a file other times, each known to a tenth."""
    bounds = {"low": 1 - part, "high": 1 + part}
    return [{**each, "median_s": times[each["strategy"]], **bounds} for each in candidates]


def pretend(path, part=0.1, **times):
    """Give a result other times."""
    content = json.loads(path.read_text())
    content["candidates"] = timed(content["candidates"], times, part)
    path.write_text(json.dumps(content))
    tuned._kept._known.clear()  # Within the clock's resolution the file looks unchanged.


def test_candidates_are_measured_and_the_fastest_is_named(measured):
    assert [entry.status for entry in measured.entries] == ["ok"] * 3
    assert measured.best in (Vmap(), Fold(), Fold(chunk_size=6))
    if len(measured.level) == 1:
        assert str(measured).startswith(f"{measured.best} is fastest.")
    else:
        assert "cannot be told apart by their speed; auto takes " in str(measured)
    assert measured.best in measured.level


def test_auto_takes_what_was_measured():
    auto = explain(step, CLIPS).strategy
    assert auto == Fold()
    (path,) = tune(step, CLIPS, strategies=FEW).paths
    pretend(path, **{"vmap": 3.0, "fold": 2.0, "Fold(chunk_size=6)": 1.0})
    found = explain(step, CLIPS)
    assert found.strategy == Fold(chunk_size=6)
    assert "measured to be the fastest here" in found.reasons[0]
    assert "nan" not in str(found)
    blocks = time_distributed(step)(CLIPS)
    np.testing.assert_allclose(blocks, time_distributed(step, strategy="vmap")(CLIPS), rtol=1e-6)
    # Another program, other sizes: nothing is known of them.
    assert explain(lambda x: jnp.sin(x @ WEIGHTS), CLIPS).strategy == Fold()
    assert explain(step, jnp.ones((4, 7, 8))).strategy == Fold()


@pytest.mark.parametrize(
    ("part", "taken", "said"),
    [
        (0.04, Fold(chunk_size=6), "measured to be the fastest here"),
        (0.06, Vmap(), "of those that were measured to be level here (tuned on {}): vmap, Fold("),
        (0.2, Fold(), "level here (tuned on {}): fold, vmap, Fold(chunk_size=6)."),
    ],
)
def test_the_prediction_chooses_among_what_cannot_be_told_apart(kept, part, taken, said):
    pretend(kept, part, **{"vmap": 1.1, "fold": 1.4, "Fold(chunk_size=6)": 1.0})
    found = explain(time_distributed(step, strategy=FORWARD), CLIPS)
    date = json.loads(kept.read_text())["date"]
    assert found.strategy == taken and said.format(date) in found.reasons[0]


def test_the_same_program_twice_is_no_win_and_changes_nothing():
    before = explain(time_distributed(jnp.tanh, strategy=FORWARD), CLIPS).strategy
    tuning = tune(jnp.tanh, CLIPS, strategies=("vmap", "fold"))
    assert set(tuning.level) == {Vmap(), Fold()} and tuning.best == before == Fold()
    after = explain(time_distributed(jnp.tanh, strategy=FORWARD), CLIPS)
    assert after.strategy == before and "level here" in after.reasons[0]


def test_a_tuning_shows_each_candidate_with_its_interval(measured):
    (result,) = measured.results
    times = {"vmap": 2.0, "fold": 4.0, "Fold(chunk_size=6)": 1.0}
    candidates = timed([vars(each) for each in result.candidates], times)
    candidates = tuple(typed.read(TunedCandidate, json.loads(json.dumps(c))) for c in candidates)
    result = dataclasses.replace(result, candidates=candidates)
    best = Fold(chunk_size=6)
    tuning = dataclasses.replace(measured, best=best, level=(best,), results=(result,))
    first, _, headings, *rows = str(tuning).splitlines()
    assert first == "Fold(chunk_size=6) is fastest." and "speed / fastest" in headings
    assert [row.split()[0] for row in rows] == ["Fold(6)", "vmap", "fold"]
    assert "2.00 s" in rows[1] and "0.50x" in rows[1] and "0.45 - 0.56" in rows[1]
    page = tuning._repr_html_()
    assert "<b>Fold(chunk_size=6) is fastest.</b>" in page and ">0.45 - 0.56</td>" in page
    odd = dataclasses.replace(candidates[0], strategy=SCRIPT)
    result = dataclasses.replace(result, candidates=(odd,))
    assert SCRIPT not in dataclasses.replace(tuning, results=(result,))._repr_html_()


def test_what_was_measured_cannot_make_auto_fold_what_mixes_rows():
    def center(x):
        return x - x.mean(0)

    tuning = tune(center, CLIPS, strategies=("vmap", "fold", "map"))
    assert [entry.status for entry in tuning.entries] == ["ok", "failed", "ok"]
    pretend(tuning.paths[0], vmap=2.0, fold=1.0, map=3.0)
    assert explain(center, CLIPS).strategy == Vmap()


def test_a_tuned_fold_that_fits_no_longer_is_explained(kept, monkeypatch):
    pretend(kept, **{"vmap": 2.0, "fold": 3.0, "Fold(chunk_size=6)": 1.0})
    # On one step it is the same program, on other rows it is not; and the earlier proof is gone.
    monkeypatch.setattr(proof, "_known", collections.OrderedDict())

    def mixing(x):
        return step(x) if len(x) == 4 else step(x)[::-1]

    found = explain(mixing, CLIPS)
    assert found.strategy == Vmap()
    assert found.reasons[0].startswith("Fold(chunk_size=6) was measured to be among the fastest")
    assert "does not fit this function" in found.reasons[0]
    assert "It was measured to be the fastest of the rest here" in found.reasons[0]


def test_each_mode_counts_where_it_runs_unless_the_forward_pass_alone_is_asked_for():
    tuning = tune(step, CLIPS, strategies=FEW, mode="both")
    forward, grad = tuning.paths
    pretend(forward, **{"vmap": 1.0, "fold": 2.0, "Fold(chunk_size=6)": 3.0})
    pretend(grad, **{"vmap": 9.0, "fold": 4.0, "Fold(chunk_size=6)": 5.0})
    found = explain(step, CLIPS)
    assert (found.strategy, found.gradient_strategy) == (Vmap(), Fold())
    found = explain(time_distributed(step, strategy=Auto(mode="forward")), CLIPS)
    assert (found.strategy, found.gradient_strategy) == (Vmap(), Vmap())


def test_a_wrong_answer_cannot_win():
    class Wrong(tdjax.Vmap):
        def run(self, call, proven=None):
            return super().run(call, proven) * 1.5

    tuning = tune(step, CLIPS, strategies=("vmap", Wrong(chunk_size=2)))
    assert tuning.best == Vmap()
    assert "disagrees with vmap" in tuning.entries[1].error


def test_modules_are_tuned_as_they_are_called():
    layer = nn.Dense(3)
    (path,) = tune(layer, CLIPS, strategies=FEW).paths
    pretend(path, **{"vmap": 1.0, "fold": 2.0, "Fold(chunk_size=6)": 3.0})
    assert explain(layer, CLIPS).strategy == Vmap()
    jitted = jax.jit(tdjax.linen.TimeDistributed(layer).init_with_output)
    assert jitted(jax.random.key(0), CLIPS)[0].shape == (4, 6, 3)


def hungry(x):
    for _ in range(3):
        x = jnp.sin(jnp.outer(x.ravel(), jnp.ones(64)).reshape(*x.shape, 64)).sum(-1)
        x = jnp.cumsum(x, -1)
    return x


def test_a_budget_leaves_out_what_takes_more():
    x = jnp.ones((8, 32, 16))
    sizes = [e.temp_bytes for e in tune(hungry, x, strategies=("vmap", Fold(chunk_size=8))).entries]
    assert sizes[1] < sizes[0] / 2
    tuning = tune(hungry, x, strategies=("vmap", Fold(chunk_size=8)), memory_budget=sizes[1])
    assert tuning.best == Fold(chunk_size=8)
    assert tuning.entries[0].status == "failed" and "the budget is" in tuning.entries[0].error
    assert explain(time_distributed(hungry, strategy=Auto(sizes[1], "forward")), x).strategy == (
        Fold(chunk_size=8)
    )
    with pytest.raises(ValueError, match=r"nothing fits 1\.00 kB; the least .* by Fold\(chunk"):
        tune(hungry, x, strategies=("vmap", Fold(chunk_size=8)), memory_budget=1000)


def test_under_a_budget_all_rows_at_once_are_tried_however_much_they_may_take():
    """The bound may be far above what they take: weights count several times in it."""
    predicted = _decision(subject(hungry, (jnp.ones((8, 32, 16)),)), "forward").predicted
    tried = _promising(predicted, "forward", 1000)
    assert Vmap() in tried and Fold() in tried


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "tdjax-tuning", "version": 1}'])
def test_a_file_of_something_else_is_left_out_with_a_warning(kept, text):
    kept.write_text(text)
    tuned._kept._known.clear()
    with pytest.warns(UserWarning, match="no result of tuning that can be read"):
        assert explain(step, CLIPS).strategy == Fold()
    assert explain(step, CLIPS).strategy == Fold()  # it warns once


@pytest.mark.filterwarnings("ignore:.*holds no result of tuning that can be read")
def test_whatever_is_damaged_is_left_out_or_taken(kept):
    whole, left_out = kept.read_text(), 0
    for seed in range(150):
        kept.write_bytes(random_damage(whole, seed))
        tuned._kept._known.clear()
        found = tuned.everything()
        left_out += not found
        # What is damaged into another strategy's options is that strategy: the meaning is the same.
        assert isinstance(explain(step, CLIPS).strategy, Fold | Vmap)
        assert all(str(each.title) for each in found.values())
    assert 75 < left_out < 150


def test_a_file_of_another_version_is_left_alone_with_a_warning(kept):
    kept.write_text('{"format": "tdjax-tuning", "version": 99, "more": 1}')
    tuned._kept._known.clear()
    with pytest.warns(
        UserWarning, match=f"it is of tdjax-tuning 99, needed tdjax-tuning {tuned.VERSION}"
    ):
        assert explain(step, CLIPS).strategy == Fold()
    assert kept.exists()


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TDJAX_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="results of tuning cannot be kept in .*file/tuning"):
        tuning = tune(step, CLIPS, strategies=("vmap", "fold"))
    assert tuning.best in (Vmap(), Fold()) and not tuning.paths
    again = tune(step, CLIPS, strategies=("vmap", "fold"))
    assert again.results[0].program == tuning.results[0].program
    assert explain(step, CLIPS).strategy == Fold()


def ship(tuning, **times):
    """Return what a device's file would hold of a result, with other times and another jax."""
    (result,) = json.loads(json.dumps(tuning.results, default=vars))
    result |= {"candidates": timed(result["candidates"], times), "versions": {"jax": "0.9"}}
    return typed.read(Tuned, result)


@pytest.mark.usefixtures("kept")
def test_what_is_shipped_for_the_device_counts_where_nothing_was_tuned_here(measured, monkeypatch):
    result = ship(measured, **{"vmap": 2.0, "fold": 3.0, "Fold(chunk_size=6)": 1.0})
    known = {device_kind(): (result,)}
    monkeypatch.setattr(shipped, "results", lambda kind: known.get(kind, ()))
    forward = time_distributed(step, strategy=Auto(mode="forward"))
    assert "here (tuned on " in explain(forward, CLIPS).reasons[0]
    tuned.clear()
    found = explain(forward, CLIPS)
    assert found.strategy == Fold(chunk_size=6)
    assert f"on a device like this one ({device_kind()}, " in found.reasons[0]
    assert "jax 0.9)" in found.reasons[0]
    known["another"] = known.pop(device_kind())
    assert explain(forward, CLIPS).strategy == Fold()


def test_packed_steps_are_taken_where_they_were_measured_to_be_fastest():
    mask = jnp.ones((4, 6), bool)
    forward = time_distributed(step, strategy=Auto(mode="forward"))
    tuning = tune(step, CLIPS, strategies=("vmap", Packed(chunk_size=8)), mask=mask)
    pretend(tuning.paths[0], **{"vmap": 2.0, "Packed(chunk_size=8)": 1.0})
    assert explain(forward, CLIPS, mask=mask).strategy == Packed(chunk_size=8)
    assert explain(forward, CLIPS).strategy == Fold()  # without a mask it is another call
    np.testing.assert_allclose(forward(CLIPS, mask=mask), step(CLIPS), rtol=1e-6)
    pretend(tuning.paths[0], **{"vmap": 1.0, "Packed(chunk_size=8)": 2.0})
    few = jnp.zeros((4, 6), bool).at[0, 0].set(True)
    assert explain(forward, CLIPS, mask=few).strategy == Vmap()


def test_a_strategy_of_a_later_version_is_left_out(kept):
    content = json.loads(kept.read_text())
    content["candidates"][0] |= {"kind": "Warp", "options": {"factor": 9}, "median_s": 1e-9}
    kept.write_text(json.dumps(content))
    tuned._kept._known.clear()
    assert explain(step, CLIPS).strategy in (Fold(), Fold(chunk_size=6))


WRITE_MANY = """
import sys
from tdjax.strategies.choosing import tuned

fixed = (4, 6), "cpu", tuned.versions(), "2026-01-01", ()
for _ in range(30):
    tuned.keep(tuned.Tuned("key", "forward", sys.argv[1], *fixed))
"""


def test_several_processes_can_write_at_once(cache):
    names = ("a", "b")
    writers = [subprocess.Popen([sys.executable, "-c", WRITE_MANY, name]) for name in names]
    assert [writer.wait() for writer in writers] == [0, 0]
    (found,) = tuned.find("key")
    assert found.title in names and len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "backward"}, "mode: got 'backward', needed 'forward', 'grad' or 'both'"),
        ({"memory_budget": 0}, "memory_budget: got 0, needed bytes above 0"),
        ({"strategies": ("vnap",)}, "'vnap', which is not known"),
        ({"timeout": 0}, "timeout: got 0"),
    ],
)
def test_wrong_options_are_named(options, said, cache):
    with pytest.raises(ValueError, match=said):
        tune(step, CLIPS, **options)
    assert not cache.exists()


def test_what_runs_in_one_way_has_nothing_to_tune():
    with pytest.raises(ValueError, match="step can be run in one way only: All steps are one"):
        tune(time_distributed(step, pooled=True), CLIPS)


def test_the_command_tunes_lists_exports_clears_and_takes_in(cache, tmp_path, capsys):
    def said(*words):
        assert main(["tune", *map(str, words)]) == 0
        return [" ".join(text.split()) for text in capsys.readouterr()]

    out = tmp_path / "all.json"
    assert "dense: " in said("dense", "--strategies", "vmap,fold", "--mode", "forward")[1]
    listed = said("--list")[0]
    assert f"dense forward, 32 x 10 rows, {device_kind()}" in listed
    assert said("--export", out)[0] == f"wrote 1 results to {out}"
    assert main(["tune", "--clear", "mlp"]) == 2
    assert "error: 'mlp' was not tuned; results are of dense" in capsys.readouterr().err
    assert f"deleted 1 results in {cache}" in said("--clear", "dense")[0]
    assert not list(cache.iterdir())
    assert said("--import", out)[0] == f"took in 1 results, to {cache}"
    assert said("--list")[0] == listed
    assert f"deleted 1 results in {cache}" in said("--clear")[0]
    out.write_text(out.read_text().replace('"forward"', '"sideways"'))
    assert main(["tune", "--import", str(out)]) == 2
    said_of_it = f"error: {out}: results[0].mode: got 'sideways', needed one of 'forward', 'grad'"
    assert capsys.readouterr().err == f"{said_of_it}\n" and not list(cache.iterdir())


def test_what_cannot_be_written_or_read_is_one_line(kept, tmp_path, capsys):
    for words in (["--export", kept / "below"], ["--import", tmp_path / "absent"]):
        assert main(["tune", *map(str, words)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and re.search("File exists|No such file", line)


def test_what_was_tuned_before_ctrl_c_is_written(tmp_path, monkeypatch, capsys):
    def tune_once(made, *options):
        if made.name != "dense":
            raise KeyboardInterrupt
        return tune_subject(made, *options)

    monkeypatch.setattr("tdjax.tuning.tune.tune_subject", tune_once)
    out = tmp_path / "mine.json"
    words = ["tune", "dense", "dense_wide", "--strategies", "vmap,fold", "--mode", "forward"]
    assert main([*words, "--out", str(out)]) == 130
    (result,) = json.loads(out.read_text())["results"]
    assert result["title"].endswith("dense") and "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["12", "0.5", "64 MB", "1GiB", "3kb"])
def test_sizes_are_read(size):
    from tdjax.cli.arguments import read_bytes

    expected = {"12": 12, "64 MB": 64 * 10**6, "1GiB": 2**30, "3kb": 3000}
    if size in expected:
        assert read_bytes(size) == expected[size]
    else:
        with pytest.raises(Exception, match=r"'0\.5' is not a size"):
            read_bytes(size)
