"""The examples run as a reader would run them, and leave what they promise."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script, *arguments, **environment):
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    variables = {**os.environ, **environment}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=EXAMPLES.parent, env=variables
    )


def test_dense_shows_both_ways():
    done = run("dense.py", JAX_LOGGING_LEVEL="DEBUG")
    assert done.returncode == 0, done.stderr
    # libtpu, which the tests install, is not asked for a TPU where there is none.
    asked = set(re.findall(r"Initializing backend '(\w+)'", done.stderr))
    assert asked == {"cpu"} or jax.config.jax_platforms != "cpu"
    assert done.stdout.count("(32, 10, 16) -> (32, 10, 64)") == 2


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_no_example_asks_for_devices_that_are_not_there(script):
    assert re.search(r"^ *leave_out_absent\(\)", script.read_text(), re.MULTILINE)


def test_ragged_documents_says_what_was_saved():
    done = run("ragged_documents.py", "--steps", 1, "--pages", 4)
    assert done.returncode == 0, done.stderr
    for words in ("4 pages of", "of its steps are real", "packed", "saved: ", "to their page: "):
        assert words in done.stdout


def test_faster_rcnn_head_saves_its_picture(tmp_path):
    out = tmp_path / "new" / "folder"
    done = run("faster_rcnn_head.py", "--out", out, "--num-rois", 12, "--copies", 0)
    assert done.returncode == 0, done.stderr
    assert (out / "rois.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in out.iterdir()] == ["rois.png"]
    for shape in ("(1, 12, 14, 14, 1024)", "(1, 12, 21)", "(1, 12, 80)"):
        assert shape in done.stdout


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "--out"),
        (("--out", "{file}"), "file"),
        (("--out", "{folder}", "--num-rois", "0"), "at least 1"),
        (("--out", "{folder}", "--num-rois", "many"), "invalid int"),
        (("--out", "{folder}", "--copies", "-1"), "needed 0 or more"),
    ],
)
def test_faster_rcnn_head_refuses_wrong_usage(tmp_path, monkeypatch, capsys, arguments, words):
    (tmp_path / "file").write_text("")
    places = {"file": tmp_path / "file", "folder": tmp_path / "folder"}
    script = str(EXAMPLES / "faster_rcnn_head.py")
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [script, *(word.format(**places) for word in arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(script, run_name="__main__")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
