"""Entries, and the statistics on their samples."""

import dataclasses
import json

import pytest

from tdjax.comparison.verdicts.entry import Entry, grouped
from tdjax.comparison.verdicts.intervals import median_interval, paired_ratio
from tdjax.core import typed

ENTRY = Entry("net", "cpu", "measured", "grad", "vmap", "ok", samples_s=(0.5, 0.25), flops=3.0)


def carried(**changes):
    return {**json.loads(json.dumps(vars(ENTRY))), **changes}


def test_an_entry_survives_json():
    assert typed.read(Entry, carried()) == ENTRY


def test_an_entry_has_every_field_of_the_record():
    names = {field.name for field in dataclasses.fields(Entry)}
    assert names >= {
        "workload", "target", "evidence", "mode", "strategy", "status", "error", "samples_s",
        "median_s", "trace_s", "lower_s", "compile_s", "first_run_s", "device_s", "flops",
        "bytes_accessed", "temp_bytes", "peak_bytes", "comm_bytes", "estimated_cycles", "same_as",
        "hlo", "program", "max_rel_error",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "fine"}, "status: got 'fine', needed one of 'ok', 'failed', 'timeout'"),
        ({"color": "red"}, "color: is not known"),
        ({"samples_s": [0.5, "0.25"]}, r"samples_s\[1\]: got '0.25', needed a number"),
        ({"median_s": 0}, "median_s: got 0, needed a number above 0"),
        ({"median_s": 1.0, "median_low_s": 2.0, "median_high_s": 1.0}, "of its median goes from 2"),
        ({"ratio_low": 1.0}, "the interval of its ratio goes from 1.0 to None"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        typed.read(Entry, carried(**change))


def test_groups_keep_modes_apart_and_their_order():
    forward = dataclasses.replace(ENTRY, mode="forward")
    other = dataclasses.replace(ENTRY, strategy="fold")
    assert list(grouped([ENTRY, forward, other]).values()) == [[ENTRY, other], [forward]]


def test_the_median_interval_holds_the_median_and_is_reproducible():
    samples = [1.0, 1.1, 0.9, 1.05, 9.0, 0.95, 1.02]
    value, low, high = median_interval(samples)
    assert value == 1.02
    assert 0.9 <= low < value < high <= 9.0
    assert median_interval(samples) == (value, low, high)


def test_one_sample_has_no_interval():
    assert median_interval([2.0]) == (2.0, None, None)


def test_ratios_are_paired_by_round():
    slowing_down = [1.0, 2.0, 4.0, 8.0, 16.0]
    twice_as_slow = [2 * seconds for seconds in slowing_down]
    assert paired_ratio(twice_as_slow, slowing_down) == (2.0, 2.0, 2.0)
    assert paired_ratio([3.0, 6.0], slowing_down) == (3.0, 3.0, 3.0)
