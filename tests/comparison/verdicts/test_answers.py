"""vmap or fold, auto or not, and the fastest: from synthetic samples, and from the saved ones."""

import json
from pathlib import Path
from statistics import geometric_mean, median

import numpy as np
import pytest

import tdjax
from tdjax.comparison import Comparison, Entry
from tdjax.comparison.verdicts.answers import answers, summary

SHIPPED = sorted((Path(tdjax.__file__).parents[1] / "examples/results").glob("*.json"))


def entry(strategy, center, rounds=15, noise=0.004, **other):
    random = np.random.default_rng([rounds, *strategy.encode()])
    samples = tuple(center * (1 + noise * random.standard_normal(rounds)))
    known = {"median_s": float(np.median(samples)), "program": strategy, **other}
    group = (other.pop("workload", "net"), "cpu", "measured", "forward")
    known.pop("workload", None)
    return Entry(*group, strategy, "ok", samples_s=samples, **known)


def answer(*entries):
    (only,) = answers(entries)
    return only


def test_the_three_questions_are_answered_by_medians_of_paired_ratios():
    vmap, fold = entry("vmap", 2.0), entry("fold", 1.6)
    auto = entry("auto", 1.0, chose="Fold(chunk_size=8)")
    said = answer(vmap, fold, auto, entry("map", 4.0))
    pairs = [a / b for a, b in zip(vmap.samples_s, fold.samples_s, strict=True)]
    assert said.fold_over_vmap.value == median(pairs)
    assert said.fold_over_vmap.low < 1.25 < said.fold_over_vmap.high
    assert said.auto_over_vmap.value == pytest.approx(2.0, rel=0.01)
    assert said.auto_behind_best == (0.0, 0.0, 0.0)
    assert (said.kind, said.clear, said.fastest, said.open) == ("win", True, ("auto",), ())
    assert said.said["fold"].startswith("fold: 1.25x vmap (1.2")
    assert said.said["auto"].startswith("auto took Fold(8): 2.0")
    assert said.said["auto"].endswith("; nothing measured here is faster")
    assert said.said["fastest"].startswith("auto leads; next is fold, 0.6")


def test_what_auto_leaves_is_a_share_of_the_best_speed():
    said = answer(entry("vmap", 2.0), entry("auto", 1.25), entry("map", 1.0))
    assert said.auto_behind_best.value == pytest.approx(0.2, abs=0.01)
    assert 0 < said.auto_behind_best.low < 0.2 < said.auto_behind_best.high < 0.3
    assert "map is 1.25x (1.24 to 1.2" in said.said["auto"]
    close = answer(entry("vmap", 2.0), entry("auto", 1.0), entry("map", 1.003, noise=0.03))
    assert "nothing measured here is more than " in close.said["auto"]
    assert close.auto_behind_best.low == 0 < close.auto_behind_best.high


def test_level_and_open_are_told_apart():
    level = answer(entry("vmap", 1.0), entry("fold", 1.005))
    assert level.said["fold"] == "fold: level with vmap within 3%" and level.open == ()
    open_ = answer(entry("vmap", 1.0, noise=0.1), entry("fold", 1.02, noise=0.1))
    assert open_.open == ("fold", "fastest") and open_.kind == "unclear" and not open_.clear
    assert open_.said["fold"].startswith("fold: between 0.")
    assert open_.said["fold"].endswith("x vmap, not told apart in 15 rounds")
    assert open_.advice == "ask for more rounds than 15: --rounds 60, or rounds=60 in Python"
    few = answer(entry("vmap", 1.3, 3), entry("fold", 1.0, 3))
    assert few.said["fold"].endswith("in 3 rounds, too few to be sure")


def test_a_set_is_level_with_how_far_apart_it_can_be_and_never_unclear():
    noisy = [entry(name, 1.0, noise=0.05) for name in ("map", "unroll", "auto")]
    said = answer(entry("vmap", 2.0), entry("fold", 1.99), *noisy)
    assert said.kind == "level" and set(said.fastest) == {"map", "unroll", "auto"}
    assert said.open == () and 0.03 < said.apart < 0.2
    assert f"within {said.apart:.0%} of each other" in said.text


def test_unclear_is_left_for_where_all_that_is_asked_is_undecided():
    wild = [entry(name, 1.0, noise=0.1) for name in ("vmap", "fold", "auto")]
    assert answer(*wild).kind == "unclear"
    # Another one wins, whatever fold is.
    assert answer(*wild[:2], entry("map", 0.2)).kind == "win"
    # fold is not decided, auto is.
    assert answer(*wild[:2], entry("auto", 0.5, noise=0.1)).kind == "win"
    assert answer(entry("vmap", 1.0), entry("fold", 1.0), entry("map", 0.99, noise=0.1)).clear


def test_the_same_program_needs_no_rounds():
    vmap = entry("vmap", 1.0, rounds=2, program="p")
    fold = entry("fold", 1.0, rounds=2, program="p", same_as="vmap")
    auto = entry("auto", 1.0, rounds=2, program="p", same_as="vmap", chose="vmap")
    said = answer(vmap, fold, auto)
    assert said.fold_over_vmap == said.auto_over_vmap == (1.0, 1.0, 1.0)
    assert said.open == () and said.fastest == ("vmap", "fold", "auto") and said.kind == "win"
    assert said.said["auto"].startswith("auto took vmap: the same program as vmap")


def test_what_was_not_measured_is_not_answered():
    said = answer(entry("vmap", 1.0), entry("map", 2.0))
    assert said.fold_over_vmap is said.auto_over_vmap is said.auto_behind_best is None
    assert list(said.said) == ["fastest"]
    failed = Entry("net", "cpu", "measured", "forward", "vmap", "failed", error="no")
    assert (answer(failed).kind, answer(failed).fastest) == ("none", ())
    compiled = Entry("net", "tpu:v5e", "compiled", "forward", "vmap", "ok", estimated_cycles=9)
    assert answer(compiled).fold_over_vmap is None and answer(compiled).fastest == ("vmap",)


def run(*workloads):
    made = [entry(name, at, workload=work) for work, rows in workloads for name, at in rows.items()]
    return answers(made)


def test_a_run_is_summed_up_in_a_sentence():
    found = run(
        ("a", {"vmap": 2.0, "fold": 2.0, "auto": 1.0}),
        ("b", {"vmap": 1.0, "fold": 1.0, "auto": 2.0}),
        ("c", {"vmap": 4.0, "fold": 4.0, "auto": 1.0}),
    )
    ratios = [each.auto_over_vmap.value for each in found]
    assert summary(found) == (
        f"auto: {geometric_mean(ratios):.2f}x vmap over 3 groups (geometric mean; "
        f"{min(ratios):.2f} to {max(ratios):.2f}), at most 3% behind the best measured in 2"
    )
    unclear = answers([entry(n, 1.0, noise=0.2, workload="d") for n in ("vmap", "fold", "auto")])
    assert summary((*found, *unclear)).endswith("; unclear: d forward")
    assert summary(unclear).endswith("; nothing is clear yet")
    assert summary(found[:1]).startswith("auto: ") and "the best measured" in summary(found[:1])
    assert summary(run(("a", {"vmap": 2.0, "fold": 1.0}))).startswith("fold: ")
    assert summary(run(("a", {"map": 2.0}))) == "fastest: map in a forward"
    assert summary(()) == "nothing was compared"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_results_have_one_number_for_one_thing(path):
    found = Comparison.load(path)
    by_group = {each.group: each for each in found.answers}
    for each in found.entries:
        ratio = {"fold": "fold_over_vmap", "auto": "auto_over_vmap"}.get(each.strategy)
        if ratio is not None and each.measured and each.ratio is not None:
            said = getattr(by_group[each.group], ratio)
            assert tuple(said) == (each.ratio, each.ratio_low, each.ratio_high)
        if (each.max_rel_error or 0) > 1e-3:
            assert each.error
    content = json.loads(found.to_json())
    assert content["summary"] == found.summary
    for said, written in zip(found.answers, content["answers"], strict=True):
        assert written["fastest"] == list(said.fastest) and written["clear"] == said.clear
        assert written["auto_behind_best"] is None or 0 <= written["auto_behind_best"]["value"] < 1


def test_a_set_that_is_far_apart_is_said_by_how_many_times():
    said = answer(*(entry(name, 1.0, 7, noise=0.3) for name in ("vmap", "fold", "auto")))
    assert said.open == ("fold", "auto", "fastest") and said.apart > 1
    assert said.text.endswith("x apart") and said.said["auto"].endswith("x as fast as auto")
