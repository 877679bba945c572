"""The options of `tdjax compare`, each by what it changes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tdjax
from tdjax.cli import _parser, main
from tdjax.cli.compare import _limits
from tdjax.comparison import Comparison, Entry
from tdjax.comparison.session import Limits
from tdjax.comparison.subjects.strategy_list import parse_strategies
from tdjax.comparison.targets.target import installed
from tdjax.comparison.verdicts.verdict import judge

MODULE = """
import signal
import jax.numpy as jnp

def total(x):
    return x.sum()

def first_axis(x):
    assert x.shape == (2, 6), x.shape
    return jnp.tanh(x)

def stop(x):
    raise KeyboardInterrupt

def swallow(x):
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        pass
    return x

def disguise(x):
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        raise RuntimeError("a callback failed")
"""

# What a shell runs in its background ignores SIGINT, and all that it starts does.
LISTENING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from tdjax.cli import main
sys.exit(main())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a module of the user's; nothing is drawn, which takes a second."""
    for drawing in ("plot", "report"):
        monkeypatch.setattr(Comparison, drawing, lambda comparison, path, *kind: path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "steps.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "steps", raising=False)
    return tmp_path


def compared(capsys, *words):
    """Return what a run printed as JSON."""
    assert main(["compare", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_strategies_rounds_mode_and_json(folder, capsys):
    words = ("dense", "--quick", "--rounds", "3", "--mode", "forward", "--out", "here")
    printed = compared(capsys, *words, "--strategies", "vmap, Fold(5, unroll)")
    entries = printed["entries"]
    assert [entry["strategy"] for entry in entries] == ["vmap", "Fold(chunk_size=5, unroll=True)"]
    assert {entry["mode"] for entry in entries} == {"forward"}
    assert {len(entry["samples_s"]) for entry in entries} == {3}
    assert json.loads((folder / "here" / "comparison.json").read_text()) == printed
    assert printed["workloads"]["dense"].startswith("a small version of it")


def test_a_dtype_is_in_the_workload_s_description(folder, capsys):
    words = ("dense", "--quick", "--rounds", "3", "--mode", "forward", "--strategies", "vmap")
    printed = compared(capsys, *words, "--dtype", "bfloat16")
    assert printed["workloads"]["dense"].endswith(", in bfloat16")


def test_in_axes_and_out_axes(folder, capsys):
    words = (
        "--shape",
        "3,2,6",
        "--rounds",
        "3",
        "--mode",
        "forward",
        "--strategies",
        "vmap,unroll",
    )
    for what, *axes in (("steps:first_axis", "--in-axes", "0"), ("steps:total", "--out-axes", "0")):
        printed = compared(capsys, what, *words, *axes)
        assert [entry["status"] for entry in printed["entries"]] == ["ok", "ok"]
        assert main(["compare", what, *words]) == 2
        assert capsys.readouterr().err.startswith(f"error: {what}: ")


def test_a_call_beyond_its_timeout_is_a_row_that_says_so(folder, capsys):
    words = ("dense", "--quick", "--mode", "forward", "--strategies", "vmap,fold")
    printed = compared(capsys, *words, "--timeout", "1e-9")
    assert {entry["status"] for entry in printed["entries"]} == {"timeout"}
    assert all("the timeout is 1e-09 s" in entry["error"] for entry in printed["entries"])


@pytest.mark.parametrize(
    ("words", "targets", "measuring", "everything"),
    [
        ("", "cpu", 180, 320),
        ("", "cpu,tpu:v5e", 180, 320),
        ("--within 650", "cpu", 650, 650),
        ("--within 650", "cpu,tpu:v5e", 365.6, 650),
    ],
)
def test_within_limits_a_run(words, targets, measuring, everything):
    limits = limits_of(words, targets)
    assert (limits.measuring, limits.all) == pytest.approx((measuring, everything), rel=1e-3)


@pytest.mark.parametrize("words", ["--within none", "--rounds 5"])
def test_a_run_without_limits(words):
    assert limits_of(words, "cpu") is None


def limits_of(words, targets):
    found, _ = installed(targets.split(","))
    return _limits(_parser().parse_args(["compare", *words.split()]), found, Limits, 0.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--dtype float31", "'float31' is not a dtype"),
        ("--dtype float64", "float64: JAX works with 32 bits here; set JAX_ENABLE_X64=1"),
        ("--dtype int32", "one floating point dtype"),
        ("--dtype float32,bfloat16", "one floating point dtype"),
        ("--in-axes 0", "--in-axes is for MODULE:NAME"),
        ("--out-axes 0", "--out-axes is for MODULE:NAME"),
        ("--timeout nan", "timeout: got nan"),
        ("--timeout 0", "timeout: got 0"),
        ("--rounds two", "--rounds"),
        ("--within 0", "'0' is not a time; write seconds above 0, or none"),
    ],
)
def test_wrong_options_are_one_line_and_exit_2(folder, capsys, words, said):
    assert main(["compare", "dense", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and re.search(said, line), line


def test_strategies_read_as_tables_show_them():
    said = "vmap, Fold(512, unroll), tdjax.Vmap(chunk_size=2, remat=True), Packed(8), Auto(), vmap,"
    assert parse_strategies(said) == [
        tdjax.Vmap(),
        tdjax.Fold(chunk_size=512, unroll=True),
        tdjax.Vmap(chunk_size=2, remat=True),
        tdjax.Packed(chunk_size=8),
        tdjax.Auto(),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one"),
        ("Nope", "'Nope'"),
        ("fold fold", "'fold fold', which is not known"),
        ("Fold(8", r"'Fold\(8', which is not known"),
        ("Fold(8, flip)", "Fold.8, flip.: .*'flip'"),
        ("Fold(0)", "at least 1"),
        ("Fold(print())", "Fold.print"),
        ("Fold(**{})", "Fold"),
        ("vmap(3)", "'vmap' takes no arguments; Vmap, Fold, Packed, Auto do"),
    ],
)
def test_strategies_that_cannot_be_read(text, said):
    with pytest.raises(ValueError, match=said):
        parse_strategies(text)


def test_the_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"tdjax {tdjax.__version__}\n"


@pytest.mark.parametrize("command", [[], ["compare"], ["show"], ["targets"]])
def test_help_fits_80_columns(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert out.startswith("usage: tdjax")


@pytest.fixture
def saved(tmp_path):
    """The file of a run."""
    known = {"samples_s": (1e-3,) * 9, "median_s": 1e-3, "median_low_s": 9e-4}
    entry = Entry("net", "cpu", "measured", "forward", "vmap", "ok", median_high_s=2e-3, **known)
    comparison = Comparison((entry,), judge((entry,)), "vmap", {"net": "for 10 µs"}, {})
    return comparison.save(tmp_path / "saved.json")


def as_installed(**variables):
    """Return the environment of a process that finds tdjax in any folder."""
    return {**os.environ, "PYTHONPATH": str(Path(tdjax.__file__).parents[1]), **variables}


def show(file, stdout, **variables):
    return subprocess.run(
        [sys.executable, "-m", "tdjax", "show", str(file)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=as_installed(COLUMNS="80", **variables),
        timeout=60,
    )


def test_a_stream_that_knows_ascii_only_gets_question_marks(saved):
    done = show(saved, subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "for 10 ?s" in done.stdout


def test_a_reader_that_goes_away_gets_no_traceback(saved):
    reading, writing = os.pipe()
    os.close(reading)
    done = show(saved, writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_ctrl_c_before_anything_is_measured_leaves_nothing(folder, capsys):
    assert main(["compare", "steps:stop", "--shape", "2,3"]) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "interrupted\n")
    assert not list(folder.glob("tdjax-results/*"))


@pytest.mark.parametrize("step", ["swallow", "disguise"])
def test_ctrl_c_and_a_kill_are_heeded_where_others_catch_them(folder, step):
    words = ["compare", f"steps:{step}", "--shape", "2,3"]
    done = subprocess.run(
        [sys.executable, "-c", LISTENING, *words],
        capture_output=True,
        text=True,
        env=as_installed(),
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_ctrl_c_saves_and_shows_what_was_measured(folder):
    words = "compare dense mlp conv_net vit_block layer_norms --quick --strategies vmap,fold"
    running = subprocess.Popen(
        [sys.executable, "-c", LISTENING, *words.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=as_installed(),
        start_new_session=True,
    )
    assert running.stderr.readline().startswith("[1/10] dense forward on cpu")
    # A terminal sends it to the whole group, the helpers' processes included.
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert "Traceback" not in err and err.endswith("interrupted\n")
    assert "interrupted: this is what was measured until then" in out
    saved = Comparison.load(folder / "tdjax-results" / "comparison.json")
    assert saved.interrupted
    done = [entry for entry in saved.entries if entry.status == "ok"]
    assert {(entry.workload, entry.mode) for entry in done} >= {("dense", "forward")}
    assert "layer_norms" not in saved.workloads
