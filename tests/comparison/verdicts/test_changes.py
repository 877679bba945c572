"""Two runs side by side."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tdjax.cli import main
from tdjax.comparison import Comparison, Entry
from tdjax.comparison.rendering.terminal.changes import renderable
from tdjax.comparison.rendering.terminal.console import plain
from tdjax.comparison.verdicts.changes import changes
from tdjax.comparison.verdicts.verdict import judge

HERE = {"date": "2026-01-01", "devices": "cpu", "processor": "Epyc", "cores": 2, "jax": "0.10.2"}
THERE = {**HERE, "processor": "Xeon", "cores": 8}


def measured(strategy, seconds, workload="net", rounds=15, **other):
    noise = np.random.default_rng([rounds, *strategy.encode()]).standard_normal(rounds)
    samples = tuple(float(s) for s in seconds * (1 + 0.002 * noise))
    known = {"median_s": float(np.median(samples)), "program": strategy, "compile_s": 0.25,
             "temp_bytes": 2_000_000, "ratio": 1 / seconds, **other}  # fmt: skip
    return Entry(workload, "cpu", "measured", "forward", strategy, "ok", samples_s=samples, **known)


def compiled(strategy, cycles, **other):
    figures = {"bytes_accessed": 1e6, "temp_bytes": 4096, **other}
    return Entry(
        "net", "tpu:v5e", "compiled", "forward", strategy, "ok", program=strategy,
        estimated_cycles=cycles, **figures,
    )  # fmt: skip


def cut(strategy):
    reason = "cut after one call: 9x the leader"
    return Entry("net", "cpu", "measured", "forward", strategy, "timeout", reason, samples_s=(9.0,))


def run(*entries, environment=HERE, about="float32[4,8]"):
    names = dict.fromkeys((entry.workload for entry in entries), about)
    return Comparison(entries, judge(entries), "vmap", names, environment)


def outcomes(old, new):
    (group,) = changes(run(*old), run(*new)).groups
    return dict(group.outcomes)


def said(both, width=100):
    return " ".join(plain(renderable(both), width).split())


FOLD_WINS = (measured("vmap", 1.0), measured("fold", 0.5))
VMAP_WINS = (measured("vmap", 0.5), measured("fold", 1.0))
LEVEL = (measured("vmap", 1.0), measured("fold", 1.001))
OPEN = (measured("vmap", 1.0, rounds=3), measured("fold", 0.9, rounds=3))
AUTO = (*FOLD_WINS, measured("auto", 0.5, program="fold", same_as="fold"))


@pytest.mark.parametrize(
    ("old", "new", "fold", "fastest"),
    [
        (FOLD_WINS, FOLD_WINS, "agrees", "agrees"),
        (FOLD_WINS, VMAP_WINS, "reversed", "reversed"),
        (FOLD_WINS, LEVEL, "changed", "changed"),
        (LEVEL, FOLD_WINS, "changed", "changed"),
        (LEVEL, (measured("vmap", 1.001), measured("fold", 1.0)), "agrees", "agrees"),
        (FOLD_WINS, OPEN, "open", "open"),
        ((*LEVEL, measured("map", 1.001)), (*LEVEL, measured("map", 2.0)), "agrees", "changed"),
    ],
)
def test_answers_agree_change_reverse_or_are_open(old, new, fold, fastest):
    assert outcomes(old, new) == {"fold": fold, "fastest": fastest}


def test_all_three_questions_are_compared_where_both_runs_answer_them():
    assert outcomes(AUTO, AUTO) == dict.fromkeys(("fold", "auto", "fastest"), "agrees")
    assert outcomes(AUTO, FOLD_WINS) == {"fold": "agrees", "fastest": "agrees"}
    assert outcomes((cut("map"),), (cut("map"),)) == {}


def test_another_name_for_the_same_program_is_no_reversal():
    slow = measured("map", 3.0)
    old = (measured("vmap", 1.0, program="p"), measured("fold", 1.0, program="p", same_as="vmap"))
    new = (measured("vmap", 1.1), measured("fold", 1.0))
    assert outcomes((*old, slow), (*new, slow))["fastest"] == "agrees"
    other = (measured("vmap", 1.0), measured("fold", 1.1), slow)
    assert outcomes(other, (*new, slow))["fastest"] == "reversed"


def test_outcomes_are_counted():
    old = run(*FOLD_WINS, *(replace(entry, workload="other") for entry in FOLD_WINS))
    new = run(*VMAP_WINS, *(replace(entry, workload="other") for entry in LEVEL))
    both = changes(old, new)
    assert both.counts == {"agrees": 0, "changed": 2, "reversed": 2, "open": 0}
    assert said(both).startswith("0 of 4 answers agree, 2 changed, 2 reversed")
    assert changes(new, new).summary == "4 of 4 answers agree, none changed"


def test_a_reference_that_moved_is_said_whatever_the_answers():
    """Everything else as fast as before: the reader's 4x became 2x."""
    slow = (measured("vmap", 2.0), measured("fold", 0.5))
    both = changes(run(*slow), run(*FOLD_WINS))
    assert set(both.groups[0].outcomes.values()) == {"agrees"}
    assert "vmap itself took 2.00 s and then 999 ms" in said(both)
    near = (measured("vmap", 1.4), measured("fold", 0.5))
    assert changes(run(*near), run(*FOLD_WINS)).groups[0].warning is None


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_tables_fit_and_say_it_all(width):
    old = run(*FOLD_WINS, measured("Fold(chunk_size=512, unroll=True)", 0.9), cut("map"))
    new = run(
        measured("vmap", 1.0),
        measured("fold", 1.5),
        measured("map", 1.2),
        environment={**HERE, "jax": "0.12.0"},
    )
    both = changes(old, new)
    text = plain(renderable(both), width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    for words in ("jax: 0.10.2 → 0.12.0", "Fold(512, unroll)", "not run", "timeout", "0.67x",
                  "old speed / vmap", "new speed / vmap", "reversed: fold → vmap",
                  "net, forward, measured on cpu: float32[4,8]"):  # fmt: skip
        assert words in said(both, width), text
    assert ("old median" in text) == (width >= 100)


def test_what_only_one_run_has_is_said():
    old = run(*FOLD_WINS, measured("vmap", 1.0, workload="older"))
    new = run(*FOLD_WINS, measured("vmap", 1.0, workload="newer"))
    both = changes(old, new)
    assert [group.workload for group in (*both.only_old, *both.only_new)] == ["older", "newer"]
    assert "only the old run has: older forward on cpu" in said(both)
    assert "only the new run has: newer forward on cpu" in said(both)
    apart = changes(run(*FOLD_WINS), run(*both.new.entries[2:]))
    assert "nothing in common" in said(apart)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ({"processor": "Xeon"}, "processor: Epyc → Xeon"),
        ({"cores": None}, "cores: 2 → none"),
        ({"devices": "gpu (H100)"}, "devices: cpu → gpu (H100)"),
        ({"jax": "0.12.0"}, "jax: 0.10.2 → 0.12.0"),
        ({"xla_flags": "--a"}, "xla_flags: none → --a"),
    ],
)
def test_what_differs_of_machine_versions_and_flags_is_said(there, words):
    here = {**HERE, "xla_flags": None}
    both = changes(
        run(*FOLD_WINS, environment=here), run(*VMAP_WINS, environment={**here, **there})
    )
    assert [setting.name for setting in both.settings] == list(there)
    assert words in said(both) and "differs" in said(both)
    assert both.groups[0].outcomes["fold"] == "reversed"


def test_what_only_one_run_needed_does_not_part_them():
    there = {**HERE, "date": "2026-02-02", "libtpu": "0.0.40"}
    assert changes(run(*FOLD_WINS), run(*FOLD_WINS, environment=there)).settings == ()


def test_another_workload_of_the_same_name_is_not_compared():
    both = changes(run(*FOLD_WINS), run(*FOLD_WINS, about="bfloat16[4,8]"))
    assert both.groups[0].outcomes == {}
    assert "not the same work, not compared: float32[4,8] and bfloat16[4,8]" in said(both)


@pytest.mark.parametrize("width", [80, 140])
def test_compiled_figures_are_compared_whichever_machine_compiled_them(width):
    old = run(compiled("vmap", 1000), compiled("fold", 900), compiled("map", 5000))
    new = run(compiled("vmap", 1000), compiled("fold", 1800), compiled("map", 5000),
              environment=THERE)  # fmt: skip
    both = changes(old, new)
    assert both.groups[0].outcomes == {"fastest": "reversed"}
    text = plain(renderable(both), width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    for words in ("old vmap / it", "1.11x", "0.56x", "reversed: fold → vmap"):
        assert words in text
    assert "1.80 k cycles" in text


def test_show_sets_two_files_side_by_side(tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("old.json", "new.json")]
    run(*FOLD_WINS).save(files[0])
    run(*VMAP_WINS).save(files[1])
    assert main(["show", *files]) == 0
    assert "reversed: fold → vmap" in capsys.readouterr().out
    assert main(["show", *files, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    (group,) = content["groups"]
    assert group["outcomes"] == {"fold": "reversed", "fastest": "reversed"}
    assert content["counts"]["reversed"] == 2 and group["old"]["fastest"] == ["fold"]
    assert main(["show", files[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "tdjax-comparison"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "bad.json: cannot be read"),
        ("{", "bad.json: not a saved comparison"),
        ('{"format": "tdjax-comparison", "version": 99}', "bad.json: written by a newer tdjax"),
        ('{"format": "tdjax-comparison", "version": 2}', "bad.json: a damaged comparison"),
    ],
)
def test_a_file_that_cannot_be_shown_is_named(tmp_path, monkeypatch, capsys, text, words):
    monkeypatch.chdir(tmp_path)
    run(*FOLD_WINS).save("good.json")
    if text is not None:
        (tmp_path / "bad.json").write_text(text)
    for files in (["good.json", "bad.json"], ["bad.json", "good.json"]):
        assert main(["show", *files]) == 2
        out, err = capsys.readouterr()
        (line,) = err.splitlines()
        assert line.startswith(f"error: {words}") and out == ""
    assert main(["show", "good.json", "good.json", "good.json"]) == 2
    assert "one file, or an old and a new one; got 3" in capsys.readouterr().err
