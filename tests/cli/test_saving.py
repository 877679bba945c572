"""What a run leaves when it is killed, when the disk is full, and without the extra packages."""

import contextlib
import errno
import importlib.util
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import tdjax
from tdjax.cli import main
from tdjax.comparison import Comparison
from tdjax.comparison.measuring.group import Measurement
from tdjax.comparison.session import Session

WORDS = "--quick --strategies vmap,fold --rounds 3 --mode forward --out here"
QUICK = WORDS.split()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working folder; nothing is drawn, nor memory measured, which takes seconds."""
    monkeypatch.setattr(Measurement, "find_peaks", lambda *unused: None)
    for drawing in ("plot", "report"):
        monkeypatch.setattr(Comparison, drawing, lambda comparison, path, *kind: path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Killed(BaseException):
    """What nothing catches, so that nothing more is written."""


def killed_before(workload, words):
    """Run until this workload's turn to be measured."""
    measure = Session._measure

    def measure_or_die(session, job, *rest):
        if job.name == workload:
            raise Killed
        return measure(session, job, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Session, "_measure", measure_or_die)
        main(["compare", *words])


def saved():
    return Comparison.load("here/comparison.json")


def test_what_was_measured_before_a_kill_is_there_and_resume_goes_on(capsys):
    killed_before("mlp", ["dense", "mlp", *QUICK])
    first = saved()
    assert first.interrupted and [entry.workload for entry in first.entries] == ["dense"] * 2
    assert main(["compare", "--out", "here", "--resume"]) == 0
    assert "[1/2] dense forward on cpu, from before" in capsys.readouterr().err
    found = saved()
    assert not found.interrupted and found.entries[:2] == first.entries
    assert [e.workload for e in found.entries] == ["dense", "dense", "mlp", "mlp"]
    assert list(found.workloads) == ["dense", "mlp"] and len(found.verdicts) == 2
    # Other words measure what is not there yet, and keep the rest.
    words = ["compare", "mlp", *QUICK, "--resume", "--strategies", "vmap,unroll"]
    assert main(words) == 0
    again = saved()
    assert again.entries[:2] == first.entries
    assert [entry.strategy for entry in again.entries[2:]] == ["vmap", "unroll"]


def test_resume_begins_where_nothing_is_and_measures_again_what_was_interrupted(capsys):
    assert main(["compare", "dense", *QUICK, "--resume"]) == 0
    assert "here holds no comparison: it begins now" in capsys.readouterr().err
    content = json.loads(Path("here/comparison.json").read_text())
    content["entries"][1]["error"] = "interrupted while it was measured"
    Path("here/comparison.json").write_text(json.dumps(content))
    assert main(["compare", "--resume", "--out", "here"]) == 0
    assert [entry.error for entry in saved().entries] == [None, None]


def test_another_machine_does_not_go_on(capsys):
    killed_before("mlp", ["dense", "mlp", *QUICK])
    content = json.loads(Path("here/comparison.json").read_text())
    content["environment"]["jax"] = "0.1"
    Path("here/comparison.json").write_text(json.dumps(content))
    assert main(["compare", "--resume", "--out", "here"]) == 2
    said = "error: --resume: what was measured before cannot go on here: jax was 0.1 and is "
    assert said in capsys.readouterr().err
    Path("here/comparison.json").write_text("{")
    assert main(["compare", "--resume", "--out", "here"]) == 2
    assert "here/comparison.json: not a saved comparison" in capsys.readouterr().err


@contextlib.contextmanager
def files_of_at_most(size):
    """Let the system refuse larger files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_that_says_what_is_saved(capsys):
    with files_of_at_most(6500):  # Room for one group.
        assert main(["compare", "dense", "mlp", *QUICK]) == 2
    out, err = capsys.readouterr()
    assert "mlp, forward, measured on cpu" in out  # What was measured is printed all the same.
    *_, line = err.splitlines()
    assert line == (
        "error: here: cannot be written: File too large; saved: here/comparison.json with 1 group"
    )
    assert [entry.workload for entry in saved().entries] == ["dense"] * 2


def test_a_disk_that_is_full_of_pictures_is_one_line_too(monkeypatch, capsys):
    def refuse(*unused):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Comparison, "report", refuse)
    assert main(["compare", "dense", *QUICK]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    said = "error: here: cannot be written: No space left on device; saved: here/comparison.json, "
    assert line.startswith(said) and line.endswith("comparison-roofline.png")


def test_output_that_cannot_be_written_is_one_line():
    result = Path(tdjax.__file__).parents[1] / "tests/comparison/verdicts/data/version-4.json"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tdjax", "show", str(result)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(Path(tdjax.__file__).parents[1])},
        )
    assert done.returncode == 2
    assert done.stderr == "error: standard output: No space left on device\n"


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_without_the_extra_the_table_is_printed_and_pip_is_named(missing, monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == missing else found(n))
    assert main(["compare", "dense", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert "dense, forward, measured on cpu" in out
    assert 'no pictures and no report; for these: pip install "tdjax[compare]"' in err
    assert err.splitlines()[-1] == "saved in here: comparison.json"
    assert [path.name for path in Path("here").iterdir()] == ["comparison.json"]
