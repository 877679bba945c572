"""The command line, as a person calls it."""

import importlib.util
import json
import os
import re
import sys

import pytest

from tdjax.cli import main
from tdjax.comparison import Comparison

MODULE = """
import jax.numpy as jnp

STEPS = 3

def tanh(x):
    return jnp.tanh(x)

def affine(w, x):
    return x @ w

def broken(x):
    return x.no_such_thing
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a module of the user's, which no other test sees."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "required"),
        ("paint", "paint"),
        ("compare nothing", "nothing"),
        ("compare absent.module:f --shape 2,3", "absent"),
        ("compare mine:f --shape 2,3", "'mine' has no attribute 'f'"),
        ("compare mine:STEPS --shape 2,3", "needed a function"),
        ("compare mine:tanh", "--shape"),
        ("compare mine:tanh --shape 2,x", "'2,x' is not a shape"),
        ("compare mine:tanh --shape 2,-3", "'2,-3' is not a shape"),
        ("compare mine:tanh --shape 2", "rank"),
        ("compare mine:tanh dense --shape 2,3", "nothing beside it"),
        ("compare mine:tanh --shape 2,3 --dtype float31", "float31"),
        ("compare mine:tanh --shape 2,3 --in-axes one", "'one' is not an axis"),
        ("compare mine:tanh --shape 2,3 --in-axes 1,1", "--in-axes"),
        ("compare mine:broken --shape 2,3", r"mine:broken: AttributeError at mine.py:13:"),
        ("compare dense --shape 2,3", "--shape is for"),
        ("compare dense --strategies vmap,folded", "folded"),
        ("compare dense --strategies packed", "packed .* add --valid-fractions"),
        ("compare dense --strategy vmap", "--strategy vmap .see tdjax compare --help"),
        ("tune dense --strategies peers", "peers is for `tdjax compare`"),
        ("oracle json:loads", "json:loads"),
        ("compare dense --targets cpu,abacus", "'abacus' is unknown; known are cpu, gpu, tpu"),
        ("compare dense --targets tpu:v99", "'tpu:v99' is unknown.*tpu:v5e"),
        ("compare dense --targets tpu:v5e:3x3", "whole hosts"),
        ("compare dense --mode sideways", "sideways"),
        ("compare dense --rounds 0", "rounds"),
        ("compare dense --out mine.py/results", "--out mine.py/results: cannot write there"),
        ("show absent.json", "absent.json: cannot be read"),
        ("show mine.py", "mine.py: not a saved comparison"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_2(folder, capsys, arguments, said):
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert __import__("re").search(said, line), line
    assert out == ""
    assert not (folder / "tdjax-results" / "comparison.json").exists()


def test_a_quick_run_leaves_its_files_and_a_table(folder, capsys):
    words = "compare dense --quick --strategies vmap,fold --rounds 5 --out made/here"
    assert main(words.split()) == 0
    out, err = capsys.readouterr()
    assert "dense, forward + gradient, measured on cpu" in out
    assert "[2/2] dense grad on cpu" in err
    names = sorted(os.listdir(folder / "made" / "here"))
    assert names == [
        "comparison-memory.png",
        "comparison-roofline.png",
        "comparison.html",
        "comparison.json",
        "comparison.png",
    ]
    assert main(["show", "made/here/comparison.json"]) == 0
    assert "dense, forward, measured on cpu" in capsys.readouterr().out


def test_a_function_of_ones_own_is_compared(folder, capsys):
    words = "compare mine:affine --shape 6,5 --shape 2,3,6 --in-axes none,1 --mode grad"
    assert main([*words.split(), "--strategies", "vmap,unroll", "--json", "--rounds", "5"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [(e["strategy"], e["status"]) for e in printed["entries"]] == [
        ("vmap", "ok"),
        ("unroll", "ok"),
    ]
    saved = Comparison.load(folder / "tdjax-results" / "comparison.json")
    assert saved.workloads == {"mine:affine": "float32[6,5], float32[2,3,6]"}


def test_the_commands_are_those_that_the_module_names(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = re.findall(r"^ {4}(\w+)", capsys.readouterr().out, re.MULTILINE)
    named = re.findall(r"`(?:tdjax )?(\w+)`", sys.modules[main.__module__].__doc__)
    assert len(named) > 5 and named == listed


def test_targets_lists_what_is_attached(capsys):
    assert main(["targets"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cpu: attached")
    assert "by libtpu: tpu:v2," in out and "gpu:h100" in out


def test_a_missing_compiler_is_said_with_its_pip_line_and_the_rest_goes_on(
    folder, capsys, monkeypatch
):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "libtpu" else found(name)
    )
    assert main(["targets"]) == 0
    assert "after pip install 'tdjax[tpu]': tpu:v2," in capsys.readouterr().out
    assert main(["compare", "dense", "--targets", "tpu:v5e,tpu:v6e"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: tpu:v5e, tpu:v6e: ") and "pip install 'tdjax[tpu]'" in line

    words = "compare dense --quick --strategies vmap --rounds 5 --mode forward --json"
    assert main([*words.split(), "--targets", "tpu:v5e, cpu"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("left out: tpu:v5e: ") and "pip install 'tdjax[tpu]'" in err
    assert [entry["target"] for entry in json.loads(out)["entries"]] == ["cpu"]


def test_a_device_that_is_not_here_is_compiled_for(folder, capfd):
    words = "compare dense --quick --strategies vmap,map --targets tpu:v6e --mode forward"
    assert main([*words.split(), "--timeout", "300"]) == 0
    out, err = capfd.readouterr()
    assert "dense, forward, compiled on tpu:v6e" in out and "est. cycles" in out
    assert "around the steps: map runs a loop" in out
    # The compiler's own printing reaches no one.
    assert [
        line for line in err.splitlines() if line and not line.startswith(("[1/1]", "saved", "  "))
    ] == []


def test_python_dash_m_runs_the_same_program(folder):
    import subprocess
    import sys
    from pathlib import Path

    import tdjax

    done = subprocess.run(
        [sys.executable, "-m", "tdjax", "show", "absent.json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(tdjax.__file__).parents[1])},
    )
    assert done.returncode == 2
    assert done.stderr == "error: absent.json: cannot be read: No such file or directory\n"
