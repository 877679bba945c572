"""Ranking what was compiled and not run."""

import dataclasses

import pytest

from tdjax.comparison import Comparison
from tdjax.comparison.rendering.terminal.console import plain
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.verdict import judge

pytestmark = pytest.mark.usefixtures("optimised")


def entry(strategy, cycles=None, size=1e8, **other):
    known = {"program": strategy, "status": "ok", "compile_s": 1.0, "flops": 3e9, **other}
    group = ("net", "tpu:v5e", "compiled", "forward")
    return Entry(
        *group, strategy, estimated_cycles=cycles, bytes_accessed=size, temp_bytes=0, **known
    )


def verdict(*entries):
    (only,) = judge(entries)
    return only


def test_cycles_rank_a_tpu_s_programs_and_are_called_an_estimate():
    said = verdict(entry("vmap", 596_452), entry("fold", 697_563), entry("map", 1_087_608))
    assert (said.kind, said.leader, said.metric) == ("win", "vmap", "estimated_cycles")
    assert said.text == (
        "vmap leads by the compiler's estimate, 596 k cycles; "
        "next is fold, which takes 1.17x as many"
    )
    assert (said.saving, said.speedup, said.advice) == (1.0, None, None)


def test_bytes_rank_the_others_and_the_reference_is_told():
    said = verdict(entry("vmap", size=3e8), entry("fold", size=1e8), entry("map", size=2e8))
    assert said.metric == "bytes_accessed"
    assert said.text == (
        "fold moves least, 100 MB; next is map, which moves 2.00x as much; vmap moves 3.00x as much"
    )
    assert said.saving == pytest.approx(3)


def test_bytes_rank_a_tpu_s_programs_if_one_of_them_has_no_estimate():
    known = entry("vmap", 1000, size=3e8), entry("fold", 900, size=2e8)
    said = verdict(*known, entry("unroll", None, size=1e8))
    assert (said.leader, said.metric) == ("unroll", "bytes_accessed")
    late = entry("unroll", None, size=None, status="timeout", error="not compiled")
    assert verdict(*known, late).metric == "estimated_cycles"


def test_figures_within_three_percent_are_level():
    said = verdict(entry("vmap", 1000), entry("fold", 1029), entry("map", 2000))
    assert (said.kind, said.leader, said.tied) == ("level", "vmap", ("fold",))
    assert "vmap and fold are level in cycles, as the compiler estimates: 1.00 k" in said.text


def test_the_same_program_is_not_ranked_against_itself():
    twin = entry("fold", 1000, program="vmap", same_as="vmap")
    assert verdict(entry("vmap", 1000), twin).text == (
        "vmap = fold: the compiler made the same program of them"
    )


def test_a_figure_that_is_not_known_is_named_and_not_ranked():
    said = verdict(entry("vmap", size=2e8), entry("fold", size=1e8), entry("map", size=None))
    assert said.leader == "fold"
    assert said.text.endswith("; without this figure, and not ranked: map")
    assert verdict(entry("vmap", size=None)).kind == "none"


def test_what_failed_is_not_ranked():
    late = entry("fold", 10, status="timeout", error="not compiled")
    assert verdict(entry("vmap", 1000), late).leader == "vmap"
    assert verdict(late).text == "nothing was compiled"


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_has_the_figures_and_keeps_the_two_kinds_apart(width):
    measured = Entry(
        "net", "cpu", "measured", "forward", "vmap", "ok", samples_s=(0.02,) * 6, median_s=0.02
    )
    entries = (
        measured,
        entry("vmap", 596_452, 156e6),
        entry("fold", 697_563, 208e6),
        entry("map", 1, status="failed", error="its compiler ended with code -9"),
        entry("unroll", 596_452, 156e6, program="vmap", same_as="vmap"),
    )
    whole = Comparison(entries, judge(entries), "vmap", {}, {})
    text = plain(whole, width)
    assert max(map(len, text.splitlines())) <= width
    for said in ("compiled on tpu:v5e", "est. cycles", "596 k", "698 k", "1.17", "208 MB", "0.75",
                 "3.00 G", "= vmap", "map: failed: its compiler ended with code -9",
                 "least cycles or bytes", "speed / vmap"):  # fmt: skip
        assert said in text, text
    only = dataclasses.replace(whole, entries=entries[:1], verdicts=whole.verdicts[:1])
    assert "least cycles" not in plain(only, width)


def test_the_table_sums_up_whose_compilers_were_not_waited_for():
    note = "optimised, but its code was not generated in 4 s: no estimate of cycles"
    entries = (
        entry("vmap", 596_452, 156e6),
        entry("unroll", None, 150e6, error=note),
        dataclasses.replace(entry("vmap", 1000), mode="grad"),
    )
    text = plain(Comparison(entries, judge(entries), "vmap", {}, {}), 100)
    assert f"unroll: {note}" in text and "failed" not in text
    assert "1 of 3 programs have no estimate of cycles" in " ".join(text.split())
