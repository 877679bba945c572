"""Win, level or unclear, from synthetic samples."""

import json
from dataclasses import replace

import numpy as np

from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.verdict import Verdict, judge
from tdjax.core import typed


def entry(strategy, center, rounds=15, noise=0.01, **other):
    random = np.random.default_rng([rounds, *strategy.encode()])
    samples = tuple(center * np.exp(noise * random.standard_normal(rounds)))
    known = {"median_s": float(np.median(samples)), "program": strategy, **other}
    return Entry("net", "cpu", "measured", "forward", strategy, "ok", samples_s=samples, **known)


def verdict(*entries):
    (only,) = judge(entries)
    return only


def test_a_clear_lead_is_a_win_with_its_speedup():
    said = verdict(entry("vmap", 1.0), entry("fold", 0.5), entry("map", 0.8))
    assert (said.kind, said.leader, said.tied) == ("win", "fold", ())
    assert said.speedup_low < 2.0 < said.speedup_high or abs(said.speedup - 2) < 0.05
    assert "fold leads; next is map" in said.text
    assert said.advice is None


def test_those_that_cannot_be_told_apart_are_level():
    said = verdict(entry("vmap", 1.0), entry("fold", 1.005), entry("map", 3.0))
    assert said.kind == "level" and said.advice is None
    assert {said.leader, *said.tied} == {"vmap", "fold"}


def test_wide_intervals_are_unclear_and_ask_for_a_quiet_machine():
    said = verdict(entry("vmap", 1.0, noise=0.6), entry("fold", 0.95, noise=0.6))
    assert said.kind == "unclear"
    assert "free the machine" in said.advice


def test_few_rounds_are_unclear_and_ask_for_more():
    said = verdict(entry("vmap", 1.0, rounds=3), entry("fold", 0.9, rounds=3))
    assert said.kind == "unclear"
    assert "rounds=20" in said.advice


def test_few_rounds_are_enough_for_a_candidate_far_behind():
    said = verdict(entry("vmap", 1.0), entry("map", 5.0, rounds=3))
    assert said.kind == "win"


def test_the_same_program_is_said_to_be_the_same_and_never_ranked():
    vmap = entry("vmap", 1.0, program="p")
    fold = entry("fold", 1.0, program="p", same_as="vmap")
    said = verdict(vmap, fold)
    assert "vmap = fold: the compiler made the same program" in said.text
    assert said.tied == ()
    with_third = verdict(vmap, fold, entry("map", 4.0))
    assert with_third.kind == "win"
    assert with_third.text.startswith("vmap = fold leads; next is map")


def test_cut_and_failed_candidates_are_not_ranked():
    cut = Entry("net", "cpu", "measured", "forward", "map", "timeout", samples_s=(0.1,))
    said = verdict(entry("vmap", 1.0), entry("fold", 0.5), cut)
    assert said.leader == "fold"


def test_nothing_measured_has_a_verdict_that_says_so():
    failed = Entry("net", "cpu", "measured", "forward", "vmap", "failed", error="no")
    said = verdict(failed)
    assert (said.kind, said.leader, said.text) == ("none", None, "nothing ran to the end")


def test_modes_and_evidence_are_never_ranked_together():
    compiled = Entry("net", "cpu", "compiled", "forward", "fold", "ok", samples_s=())
    grad = Entry("net", "cpu", "measured", "grad", "fold", "ok", samples_s=(1.0,), median_s=1.0)
    said = judge([entry("vmap", 1.0), compiled, grad])
    assert [(v.evidence, v.mode) for v in said] == [
        ("measured", "forward"),
        ("compiled", "forward"),
        ("measured", "grad"),
    ]


def test_a_verdict_survives_json():
    said = verdict(entry("vmap", 1.0), entry("fold", 1.001))
    assert typed.read(Verdict, json.loads(json.dumps(said.to_json()))) == said


def test_a_control_is_never_ranked():
    again = entry("vmap (again)", 0.99, program="vmap", control=True)
    said = verdict(entry("vmap", 1.0), entry("map", 2.0), again)
    assert (said.kind, said.leader, said.tied) == ("win", "vmap", ())
    alone = verdict(entry("vmap", 1.0), again)
    assert (alone.kind, alone.tied) == ("level", ("vmap (again)",))


def test_a_control_that_differs_from_its_like_makes_a_group_unclear():
    again = entry("vmap (again)", 1.3, program="vmap", control=True)
    said = verdict(entry("vmap", 1.0), entry("fold", 0.5), again)
    assert said.kind == "unclear"
    assert "vmap (again): 0.7" in said.advice and "the same program: free" in said.advice
    assert verdict(entry("vmap", 1.0), again).kind == "unclear"


def test_the_leader_is_found_in_the_rounds_that_the_best_took():
    """A reference that is far behind leaves early; its few rounds must not say who leads."""
    slow = entry("vmap", 9.0, rounds=3)
    first, second = entry("fold", 1.0, rounds=30), entry("map", 1.2, rounds=30)
    hurried = (0.5, 0.5, 0.5)  # what disturbed the first rounds was kind to one
    second = replace(second, samples_s=hurried + second.samples_s[3:])
    said = verdict(slow, first, second)
    assert (said.kind, said.leader) == ("win", "fold")
