"""Bytes that were counted without a GPU, against times that an H200 took: why they may rank.

`data/h200-bytes.json` was compiled for `gpu:h200` on a machine without one, with another version of
JAX than that of the measurement.
"""

import itertools
import json
from collections import defaultdict
from pathlib import Path

import pytest

import tdjax
from tdjax.comparison import Comparison
from tdjax.devices.compiled_result import BYTES, LEVEL, ORDERED

COUNTED = json.loads((Path(__file__).parent / "data" / "h200-bytes.json").read_text())
EXAMPLES = Path(tdjax.__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def pairs():
    """Return the times and the bytes of pairs of strategies, by workload and mode."""
    measured = Comparison.load(EXAMPLES / "results" / "h200.json").entries
    times = {(e.workload, e.mode, e.strategy): (e.device_s, e.median_s) for e in measured}
    groups = defaultdict(list)
    for workload, mode, strategy, size in COUNTED["bytes_accessed"]:
        if (workload, mode, strategy) in times:
            groups[workload, mode].append((times[workload, mode, strategy], size))
    return [pair for each in groups.values() for pair in itertools.combinations(each, 2)]


def told_apart(pairs, kind):
    """Return the bytes of pairs whose times differ by 5%, those of the faster one first."""
    for (first, size), (second, other) in pairs:
        a, b = first[kind], second[kind]
        if a and b and max(a, b) >= 1.05 * min(a, b):
            yield (size, other) if a < b else (other, size)


@pytest.mark.parametrize(("kind", "count"), [(0, 94), (1, 85)], ids=["device", "wall"])
def test_whatever_takes_longer_moves_more(pairs, kind, count):
    found = list(told_apart(pairs, kind))
    assert len(found) == count
    assert all(less < more for less, more in found)


def test_the_words_say_how_many_pairs_these_are(pairs):
    count = len(list(told_apart(pairs, 0)))
    assert f"{count} of {count} pairs" in ORDERED


def test_few_of_them_are_so_near_in_bytes_that_they_are_called_level(pairs):
    near = [pair for pair in told_apart(pairs, 0) if pair[1] < LEVEL[BYTES] * pair[0]]
    assert len(near) == 8
