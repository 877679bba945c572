"""Sentences on what moves data in one program and not in another, from synthetic movements."""

import dataclasses

import pytest

from tdjax.comparison import Comparison
from tdjax.comparison.hlo import Movement, Place
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.verdict import judge
from tdjax.comparison.verdicts.why import of_verdict, why

pytestmark = pytest.mark.usefixtures("optimised")

CONV = Place("conv_general_dilated", "Conv_0", "net.py:12")
AROUND = Place(around=True)
MOVED = Movement("transpose", "time before batch", CONV, 2, 103_000_000)
COPIED = Movement("copy", "as it lies", CONV, 1, 5_000_000)


def entry(strategy, *movements, **other):
    known = {
        "program": strategy, "bytes_accessed": 1e9, "flops": 2e9, "estimated_cycles": 1000, **other
    }  # fmt: skip
    group = ("net", "tpu:v5e", "compiled", "forward")
    return Entry(*group, strategy, "ok", movements=movements, **known)


def differences(*movements, than=()):
    return why(entry("vmap", *movements), entry("fold", *than))[1:]


def test_a_difference_is_told_with_its_place_count_and_bytes():
    assert differences(MOVED, COPIED, than=(COPIED,)) == (
        "conv_general_dilated in Conv_0 (net.py:12): vmap moves time before batch, "
        "2 transposes of 103 MB in all; fold has none.",
    )


def test_the_totals_come_first():
    first, *_ = why(entry("vmap", MOVED), entry("fold", bytes_accessed=5e8, flops=None))
    assert first == (
        "vmap accesses 1.00 GB, 2.00 GFLOP, 1.00 k estimated cycles; "
        "fold accesses 500 MB, 1.00 k estimated cycles."
    )


@pytest.mark.parametrize(
    ("movement", "said"),
    [
        (
            Movement("loop", "while", AROUND, 16, 110_000_000),
            "around the steps: vmap runs a loop 16 times over 110 MB in all; fold has none.",
        ),
        (
            Movement("loop", "while", AROUND, None, None),
            "around the steps: vmap runs a loop an unknown number of times; fold has none.",
        ),
        (
            Movement(
                "transpose", "(batch,9) to (9,batch) in memory", Place("input"), 1, 12_000_000
            ),
            "the inputs: vmap reorders (batch,9) to (9,batch) in memory, 1 transpose of 12.0 MB; "
            "fold has none.",
        ),
        (
            Movement("copy", "as it lies", Place(), 3, 12_000_000),
            "added by the compiler: vmap has 3 copies of 12.0 MB in all; fold has none.",
        ),
        (
            Movement(
                "collective", "all-gather", Place("dot_general", backward=True), 1, 12_000_000
            ),
            "gradient of dot_general: vmap has 1 all-gather of 12.0 MB; fold has none.",
        ),
        (
            Movement("custom call", "__cublas$gemm", CONV, 16, 12_000_000),
            "conv_general_dilated in Conv_0 (net.py:12): vmap has 16 calls of __cublas$gemm, "
            "12.0 MB in all; fold has none.",
        ),
        (
            Movement("gather", "gather", Place("gather", "Embed_0"), 2, 12_000_000),
            "gather in Embed_0: vmap has 2 gathers of 12.0 MB in all; fold has none.",
        ),
    ],
    ids=["loop", "endless", "order", "copy", "collective", "call", "gather"],
)
def test_every_kind_has_its_words(movement, said):
    assert differences(movement) == (said,)


def test_both_sides_are_told_where_both_differ():
    fewer = dataclasses.replace(MOVED, count=1, bytes=50_000_000)
    (said,) = differences(MOVED, than=(fewer,))
    assert said.endswith("2 transposes of 103 MB in all; fold moves time before batch, "
                         "1 transpose of 50.0 MB.")  # fmt: skip


def test_the_largest_come_first_small_ones_are_left_out_and_few_are_told():
    places = [Place(f"op{i}") for i in range(9)]
    many = [Movement("copy", "as it lies", p, 1, 10**7 * (i + 1)) for i, p in enumerate(places)]
    tiny = Movement("copy", "as it lies", Place("tiny"), 1, 1000)
    said = differences(*many, tiny)
    assert [s.partition(":")[0] for s in said] == ["op8", "op7", "op6", "op5", "op4"]
    assert len(why(entry("vmap", *many), entry("fold"), most=3)) == 3


def test_where_nothing_differs_it_says_so():
    (said,) = differences(MOVED, than=(MOVED,))
    assert "move data by the same operations" in said
    (same,) = why(entry("vmap", MOVED), entry("fold", program="vmap"))
    assert "the compiler made the same program" in same
    tiny = Movement("copy", "as it lies", CONV, 1, 1000)
    assert "no operation explains it" in differences(tiny)[0]


def test_what_was_not_compiled_or_not_kept_is_not_explained():
    failed = Entry("net", "cpu", "measured", "forward", "fold", "failed", error="no memory")
    assert why(entry("vmap"), failed) == (
        "fold: nothing is known of its program (failed: no memory).",
    )
    old = dataclasses.replace(entry("fold"), movements=None)
    assert "its operations were not kept" in why(entry("vmap"), old)[0]


def test_a_verdict_is_explained_by_the_reference_or_else_by_the_next():
    vmap = entry("vmap", MOVED, estimated_cycles=2000)
    fold, other = entry("fold"), entry("map", COPIED, estimated_cycles=1500)
    (verdict,) = judge([vmap, fold, other])
    assert "vmap moves" in of_verdict([vmap, fold, other], verdict, "vmap", 2)[1]
    (leads,) = judge([dataclasses.replace(vmap, estimated_cycles=500), fold, other])
    said = of_verdict(
        [dataclasses.replace(vmap, estimated_cycles=500), other, fold], leads, "vmap", 2
    )
    assert said[1].endswith("fold has none.")
    (level,) = judge([vmap, entry("fold", estimated_cycles=2001)])
    assert level.kind == "tie" and of_verdict([vmap, fold], level, "vmap", 2) == ()


def test_a_comparison_is_asked_by_names_and_answers_by_group():
    rows = [entry("vmap", MOVED), entry("fold")]
    rows += [dataclasses.replace(row, mode="grad") for row in rows]
    whole = Comparison(tuple(rows), judge(rows), "vmap", {}, {})
    assert all(s.startswith("net ") for s in whole.why("vmap", "fold"))
    assert whole.why("vmap", "fold", mode="grad") == why(*rows[:2])
    with pytest.raises(ValueError, match=r"workload='dense'.*'vmap' and 'fold'"):
        whole.why("vmap", "fold", workload="dense")
