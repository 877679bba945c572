"""Sentences on what moves data in one program and not in another, from synthetic movements."""

import dataclasses

import pytest

from tdjax.comparison import Comparison
from tdjax.comparison.hlo import Movement, Place
from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.verdicts.answers import answers
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.verdict import judge
from tdjax.comparison.verdicts.why import of_answer, why

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
        "convolution of Conv_0 (net.py:12): vmap moves time before batch, "
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
            "gradient of matrix product: vmap has 1 all-gather of 12.0 MB; fold has none.",
        ),
        (
            Movement("custom call", "__cublas$gemm", CONV, 16, 12_000_000),
            "convolution of Conv_0 (net.py:12): vmap has 16 calls of __cublas$gemm, "
            "12.0 MB in all; fold has none.",
        ),
        (
            Movement("gather", "gather", Place("gather", "Embed_0"), 2, 12_000_000),
            "gather of Embed_0: vmap has 2 gathers of 12.0 MB in all; fold has none.",
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
    assert [s.partition(":")[0] for s in said] == ["op8", "op7", "op6"]
    assert len(why(entry("vmap", *many), entry("fold"), most=2)) == 3


def test_where_nothing_differs_it_says_so():
    (said,) = differences(MOVED, than=(MOVED,))
    assert "move data by the same operations" in said
    (same,) = why(entry("vmap", MOVED), entry("fold", program="vmap"))
    assert "the compiler made the same program" in same
    tiny = Movement("copy", "as it lies", CONV, 1, 1000)
    assert "No operation explains it" in differences(tiny)[0]


def test_what_was_not_compiled_or_not_kept_is_not_explained():
    failed = Entry("net", "cpu", "measured", "forward", "fold", "failed", error="no memory")
    assert why(entry("vmap"), failed) == (
        "fold: nothing is known of its program (failed: no memory).",
    )
    old = dataclasses.replace(entry("fold"), movements=None)
    assert "its operations were not kept" in why(entry("vmap"), old)[0]


def reasons(*entries, ceilings=None):
    (answer,) = answers(entries)
    return of_answer(entries, answer, "vmap", ceilings)


def test_an_answer_is_explained_by_the_reference_or_else_by_the_next():
    vmap = entry("vmap", MOVED, estimated_cycles=2000)
    fold, other = entry("fold"), entry("map", COPIED, estimated_cycles=1500)
    (said,) = reasons(vmap, fold, other)
    assert "vmap moves" in said and said.endswith("fold has none.")
    (said,) = reasons(dataclasses.replace(vmap, estimated_cycles=500), other, fold)
    assert "fold moves no data that vmap does not" in said  # vmap leads, and moves more
    assert reasons(vmap, entry("fold", estimated_cycles=2001)) == ()


KERNELS = [
    Movement("transpose", "(3,3,512,512) to (3,3,512,512) in memory",
             Place("conv_general_dilated", f"res5{part}/branch2b/Conv_0", "resnet.py:60"), 1, 10**8)
    for part in "abc"
]  # fmt: skip


def test_layers_of_one_kind_are_told_in_one_sentence():
    (said,) = differences(*KERNELS)
    assert said == (
        "the 3x3 convolutions of res5a, res5b, res5c (resnet.py:60): vmap reorders kernels, "
        "3 transposes of 300 MB in all; fold has none."
    )
    assert "res5a, res5b, res5c and" not in said and "(3,3,512,512)" not in said
    five = [
        dataclasses.replace(KERNELS[0], place=Place("dot_general", f"layer{n}/Dense_0"))
        for n in range(5)
    ]
    (said,) = differences(*five)
    assert said.startswith("the matrix products of layer0, layer1, layer2 and 2 more: vmap")


def test_two_axes_of_one_size_are_not_said_to_become_each_other():
    same = dataclasses.replace(KERNELS[0], place=Place("add", "Conv_0"))
    assert "vmap reorders (3,3,512,512) in memory, 1 transpose" in differences(same)[0]


def test_a_difference_is_told_in_time_where_memory_has_a_speed():
    group = ("net", "cpu", "measured", "forward")
    slow, fast = (
        dataclasses.replace(
            entry(name, *moved), **dict(zip(("workload", "target", "evidence", "mode"), group,
                                            strict=True)),
            samples_s=(seconds,) * 6, median_s=seconds,
        )
        for name, moved, seconds in (("vmap", KERNELS, 0.030), ("fold", (), 0.010))
    )  # fmt: skip
    (said,) = reasons(slow, fast, ceilings=Ceilings(1e12, 1e11, "here"))
    assert said.endswith("fold has none: about 3 ms of the 20 ms between them.")
    (said,) = reasons(slow, fast, ceilings=Ceilings(1e12, 1e10, "here"))
    assert said.endswith("as much as all of the 20 ms between them.")
    # What the faster one moves more is no reason.
    fast = dataclasses.replace(fast, movements=tuple(KERNELS))
    slow = dataclasses.replace(slow, movements=())
    (said,) = reasons(slow, fast, ceilings=Ceilings(1e12, 1e11, "here"))
    assert said.startswith("vmap moves no data that fold does not")


def test_a_comparison_is_asked_by_names_and_answers_by_group():
    rows = [entry("vmap", MOVED), entry("fold")]
    rows += [dataclasses.replace(row, mode="grad") for row in rows]
    whole = Comparison(tuple(rows), judge(rows), "vmap", {}, {})
    assert all(s.startswith("net ") for s in whole.why("vmap", "fold"))
    assert whole.why("vmap", "fold", mode="grad") == why(*rows[:2])
    with pytest.raises(ValueError, match=r"workload='dense'.*'vmap' and 'fold'"):
        whole.why("vmap", "fold", workload="dense")
