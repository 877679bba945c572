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
             "temp_bytes": 2_000_000, "ratio": seconds, "ratio_low": 0.99 * seconds,
             "ratio_high": 1.01 * seconds, **other}  # fmt: skip
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


def outcome(old, new):
    (group,) = changes(run(*old), run(*new)).groups
    return group.outcome


FOLD_WINS = (measured("vmap", 1.0), measured("fold", 0.5))
VMAP_WINS = (measured("vmap", 0.5), measured("fold", 1.0))
LEVEL = (measured("vmap", 1.0), measured("fold", 1.001))


def test_new_over_old_is_the_ratio_of_medians_with_the_interval_of_independent_samples():
    (group,) = changes(run(*FOLD_WINS), run(measured("vmap", 2.0, rounds=9), *FOLD_WINS[1:])).groups
    vmap, fold = group.strategies
    assert vmap.ratio.low < 2.0 < vmap.ratio.high
    assert vmap.ratio.value == vmap.new.median_s / vmap.old.median_s
    assert vmap.ratio.low > 1.99 and vmap.ratio.high < 2.01
    assert fold.ratio.low < 1.0 == fold.ratio.value < fold.ratio.high


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        sides = [scale * random.lognormal(sigma=0.1, size=25) for scale in (1.0, 1.3)]
        old, new = (
            run(replace(measured("vmap", 1.0), samples_s=tuple(side), median_s=1.0))
            for side in sides
        )
        ratio = changes(old, new).groups[0].strategies[0].ratio
        covered += ratio.low < 1.3 < ratio.high
    assert covered >= 52


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (FOLD_WINS, FOLD_WINS, "agrees"),
        (FOLD_WINS, VMAP_WINS, "reversed"),
        (FOLD_WINS, LEVEL, "changed"),
        (LEVEL, FOLD_WINS, "changed"),
        (LEVEL, (measured("vmap", 1.001), measured("fold", 1.0)), "agrees"),
        ((*LEVEL, measured("map", 1.001)), (*LEVEL, measured("map", 2.0)), "changed"),
        ((cut("map"),), (cut("map"),), "agrees"),
    ],
)
def test_verdicts_agree_change_or_reverse(old, new, said):
    assert outcome(old, new) == said


def test_a_win_of_another_name_for_the_same_program_is_no_reversal():
    slow = measured("map", 3.0)
    old = (measured("vmap", 1.0, program="p"), measured("fold", 1.0, program="p", same_as="vmap"))
    new = (measured("vmap", 1.1), measured("fold", 1.0))
    assert judge((*new, slow))[0].leader == "fold"
    assert outcome((*old, slow), (*new, slow)) == "agrees"
    assert outcome((measured("vmap", 1.0), measured("fold", 1.1), slow), (*new, slow)) == "reversed"


def test_wins_are_counted_and_times_averaged_once_for_each_program():
    old = run(*FOLD_WINS, *(replace(entry, workload="other") for entry in FOLD_WINS))
    twins = (measured("vmap", 4.0), measured("fold", 4.0, same_as="vmap", program="vmap"))
    new = run(measured("vmap", 2.0), measured("fold", 4.0),
              *(replace(entry, workload="other") for entry in twins))  # fmt: skip
    both = changes(old, new)
    assert (both.wins, both.agreeing, both.reversed) == (2, 1, 1)
    assert len(both.ratios) == 4
    assert both.mean_ratio == pytest.approx((2 * 8 * 4 * 8) ** 0.25, rel=0.01)
    again = changes(new, new)
    assert (again.wins, again.agreeing, again.reversed) == (2, 2, 0)
    assert again.mean_ratio == 1.0 and len(again.ratios) == 3
    assert "win verdicts: 1 of 2 agree, 1 reversed" in plain(renderable(both), 100)
    assert "win verdicts: 2 of 2 agree, none reversed" in plain(renderable(again), 100)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_tables_fit_and_say_it_all(width):
    old = run(*FOLD_WINS, measured("Fold(chunk_size=512, unroll=True)", 0.9), cut("map"))
    new = run(
        measured("vmap", 1.0, compile_s=0.5, temp_bytes=3_000_000),
        measured("fold", 1.5, temp_bytes=999_000, peak_bytes=5_000_000),
        measured("map", 1.2),
        environment={**HERE, "jax": "0.12.0"},
    )
    text = plain(renderable(changes(old, new)), width)
    assert max(map(len, text.splitlines())) <= width
    for said in ("0.25 → 0.50", "2.00 → 3.00 MB", "3.00", "jax: 0.10.2 → 0.12.0",
                 "Fold(512, unroll): only in the old run", "map: old: cut after one call",
                 "reversed: win: fold → win: vmap", "net, forward, measured on cpu: float32[4,8]",
                 "times, new/old: 1.7", "(geometric mean of 2)"):  # fmt: skip
        assert said in " ".join(text.split()), text
    assert ("95% interval" in text) == (width >= 100)
    assert ("- → 5.00 MB" in text) == (width >= 120)
    assert "…" not in text


def test_what_only_one_run_has_is_said():
    old = run(*FOLD_WINS, measured("vmap", 1.0, workload="older"))
    new = run(*FOLD_WINS, measured("vmap", 1.0, workload="newer"))
    both = changes(old, new)
    assert [group.workload for group in (*both.only_old, *both.only_new)] == ["older", "newer"]
    text = plain(renderable(both), 100)
    assert "only the old run has: older forward on cpu" in text
    assert "only the new run has: newer forward on cpu" in text
    apart = changes(run(*FOLD_WINS), run(*both.new.entries[2:]))
    assert "nothing in common" in plain(renderable(apart), 100)


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize(
    "there",
    [THERE, {**HERE, "devices": "cpu x 8"}, {**HERE, "cores": None}, {**HERE, "processor": "Xeon"}],
)
def test_times_of_different_devices_are_never_compared(there, width):
    old, new = run(*FOLD_WINS), run(*VMAP_WINS, environment=there)
    both = changes(old, new)
    assert both.groups[0].outcome is None
    assert both.mean_ratio is None and both.wins == 0
    assert all(row.ratio is None for row in both.groups[0].strategies)
    text = " ".join(plain(renderable(both), width).split())
    assert "measured on different devices: cpu (Epyc, 2 cores) and cpu" in text
    assert "times are not compared" in text and "new/old" not in text
    assert "old / vmap" in text and "new / vmap" in text
    assert "old: win: fold; new: win: vmap" in text
    content = json.loads(both.to_json())
    assert content["groups"][0]["strategies"][0]["ratio"] is None
    assert content["not_compared"] == list(both.apart)


def test_a_target_that_only_one_run_compiled_for_does_not_part_them():
    there = {**HERE, "devices": "cpu, tpu:v5e (TPU v5e)", "libtpu": "0.0.40"}
    both = changes(run(*FOLD_WINS), run(*FOLD_WINS, environment=there))
    assert both.apart == () and both.settings == ()
    assert both.mean_ratio == 1.0
    later = {**there, "libtpu": "0.0.41", "xla_flags": None}
    flagged = {**there, "xla_flags": "--xla_cpu_use_onednn=false"}
    both = changes(run(*FOLD_WINS, environment=later), run(*FOLD_WINS, environment=flagged))
    assert [(s.name, s.old, s.new) for s in both.settings] == [
        ("libtpu", "0.0.41", "0.0.40"),
        ("xla_flags", None, "--xla_cpu_use_onednn=false"),
    ]
    assert "xla_flags: none → --xla_cpu_use_onednn=false" in plain(renderable(both), 80)


def test_gpus_of_different_kinds_are_different_devices():
    gpu = [replace(entry, target="gpu") for entry in FOLD_WINS]
    first, second = (
        run(*gpu, environment={**HERE, "devices": f"cpu, gpu ({kind})"})
        for kind in ("A100", "H100")
    )
    (reason,) = changes(first, second).apart
    assert "gpu (A100; Epyc, 2 cores) and gpu (H100; Epyc, 2 cores)" in reason


def test_another_workload_of_the_same_name_is_not_compared():
    both = changes(run(*FOLD_WINS, compiled("vmap", 7)),
                   run(*FOLD_WINS, compiled("vmap", 8), about="bfloat16[4,8]"))  # fmt: skip
    assert [group.outcome for group in both.groups] == [None, None]
    assert "net is not the same work: float32[4,8] and bfloat16[4,8]" in both.apart[0]
    text = plain(renderable(both), 80)
    assert "new/old" not in text and "…" not in text
    assert "old est. cycles / vmap   new est. cycles / vmap" in text


@pytest.mark.parametrize("width", [80, 100, 140])
def test_compiled_figures_are_compared_whichever_machine_compiled_them(width):
    old = run(compiled("vmap", 1000), compiled("fold", 900), compiled("map", 5000))
    new = run(compiled("vmap", 1000), compiled("fold", 1800, temp_bytes=8192),
              compiled("map", 5000, bytes_accessed=2e6), environment=THERE)  # fmt: skip
    both = changes(old, new)
    assert both.groups[0].outcome == "reversed"
    assert [row.same for row in both.groups[0].strategies] == [True, False, False]
    assert dict(both.groups[0].strategies[1].figures) == {
        "estimated_cycles": 2.0, "bytes_accessed": 1.0, "temp_bytes": 2.0,
    }  # fmt: skip
    assert both.groups[0].strategies[2].figures["bytes_accessed"] == 2.0
    text = plain(renderable(both), width)
    assert max(map(len, text.splitlines())) <= width
    assert "compiled: 1 of 3 programs have the same figures" in text
    vmap, fold, _ = (
        line.split() for line in text.splitlines() if line[:4] in ("vmap", "fold", "map ")
    )
    assert vmap.count("same") == (3 if width >= 100 else 1)
    assert fold.count("2.000") == (2 if width >= 100 else 1)
    assert "900 → 1.80 k" in text and "4.10 → 8.19 kB" in text and "…" not in text


def test_show_sets_two_files_side_by_side(tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("old.json", "new.json")]
    run(*FOLD_WINS).save(files[0])
    run(*VMAP_WINS).save(files[1])
    assert main(["show", *files]) == 0
    assert "reversed: win: fold → win: vmap" in capsys.readouterr().out
    assert main(["show", *files, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    (group,) = content["groups"]
    assert group["outcome"] == "reversed" and content["reversed"] == 1
    assert group["verdicts"]["old"]["leader"] == "fold"
    ratio = group["strategies"][0]["ratio"]
    assert ratio["low"] < ratio["value"] == 0.5 < ratio["high"]
    assert main(["show", files[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "tdjax-comparison"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "bad.json: cannot be read"),
        ("{", "bad.json: not a saved comparison"),
        ('{"format": "tdjax-comparison", "version": 99}', "bad.json: written by a newer tdjax"),
        ('{"format": "tdjax-comparison", "version": 2}', "bad.json: a damaged comparison"),
    ],
)
def test_a_file_that_cannot_be_shown_is_named(tmp_path, monkeypatch, capsys, text, said):
    monkeypatch.chdir(tmp_path)
    run(*FOLD_WINS).save("good.json")
    if text is not None:
        (tmp_path / "bad.json").write_text(text)
    for files in (["good.json", "bad.json"], ["bad.json", "good.json"]):
        assert main(["show", *files]) == 2
        out, err = capsys.readouterr()
        (line,) = err.splitlines()
        assert line.startswith(f"error: {said}") and out == ""
    assert main(["show", "good.json", "good.json", "good.json"]) == 2
    assert "one file, or an old and a new one; got 3" in capsys.readouterr().err
