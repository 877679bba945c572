"""Every shipped result at every width of a terminal: no figure, unit or heading is lost."""

import re
from pathlib import Path

import pytest

import tdjax
from tdjax.comparison import Comparison
from tdjax.comparison.charts.points import judged_groups
from tdjax.comparison.rendering.terminal.changes import renderable
from tdjax.comparison.rendering.terminal.console import Column, plain, table
from tdjax.comparison.verdicts.changes import changes

SHIPPED = sorted((Path(tdjax.__file__).parents[1] / "examples/results").glob("*.json"))
WIDTHS = (60, 80, 100, 120, 160)
MARKS = ("…", "...", "⋯")


@pytest.fixture(scope="module", params=SHIPPED, ids=lambda path: path.stem)
def shipped(request):
    return Comparison.load(request.param)


def whole(text, width):
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert not any(mark in text for mark in MARKS)
    return lines


@pytest.mark.parametrize("width", WIDTHS)
def test_a_shipped_result_is_whole(shipped, width):
    lines = whole(plain(shipped, width), width)
    words = " ".join(lines)
    for entry in shipped.entries:
        if entry.ratio is not None:
            assert f"{entry.ratio:.2f}" in words
    for answer in shipped.answers:
        for sentence in answer.said.values():
            assert sentence.split(": ")[0].split()[0] in words
    assert not re.search(r"\(([^()]*)\) to \(\1\)", words)
    assert any(heading in words for heading in ("speed / vmap", "vmap / it"))


@pytest.mark.parametrize("width", WIDTHS)
def test_two_shipped_results_side_by_side_are_whole(shipped, width):
    whole(plain(renderable(changes(shipped, shipped)), width), width)


def test_columns_are_left_out_and_names_wrapped_but_figures_stay_whole():
    columns = [
        Column("strategy", ["auto: Fold(512, remat) = Fold(512)", "vmap"], names=True),
        Column("median ms", ["1234567", "2"]),
        Column("temp", ["18.9 MB", "2 kB"], spare=2),
        Column("error", ["3e-07", "exact"], spare=1),
    ]
    wide, middle, narrow = (plain(table(columns, width), width) for width in (70, 44, 31))
    assert "auto: Fold(512, remat) = Fold(512)" in wide and "18.9 MB" in wide
    assert "temp" not in middle and "error" in middle and "auto: Fold(512,\n" not in wide
    assert "error" not in narrow and "1234567" in narrow
    for text, width in ((wide, 70), (middle, 44), (narrow, 31)):
        whole(text, width)
        assert "Fold(512)" in text


def test_a_time_that_is_shown_fits_the_speed_beside_it(shipped):
    for _, entries, _ in judged_groups(shipped):
        base = next((each for each in entries if each.strategy == shipped.reference), None)
        for entry in entries:
            if base is not None and entry.measured and entry.ratio is not None:
                assert entry.median_s * entry.ratio == pytest.approx(base.median_s)
                assert entry.median_low_s <= entry.median_s * (1 + 1e-9)
                assert entry.median_s <= entry.median_high_s * (1 + 1e-9)
