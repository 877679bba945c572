"""The picture of speeds: what is in it, and that nothing in it overlaps or is cut off."""

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from tdjax.comparison import Comparison, Entry
from tdjax.comparison.rendering.pictures import style
from tdjax.comparison.rendering.pictures.bars import all_bars, overview
from tdjax.comparison.rendering.pictures.beside import plot_beside
from tdjax.comparison.verdicts.intervals import figures
from tdjax.comparison.verdicts.verdict import judge

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "examples/results").glob("*.json"))


def entry(strategy, seconds, workload="net", mode="forward", **more):
    samples = tuple(seconds * (1 + 0.001 * i) for i in range(8))
    base = tuple(0.01 * (1 + 0.001 * i) for i in range(8))
    found = figures(samples, base)
    known = {"samples_s": samples, "program": strategy, **found, **more}
    return Entry(workload, "cpu", "measured", mode, strategy, "ok", **known)


def made(*entries):
    return Comparison(entries, judge(entries), "vmap", {}, {"cores": 2, "jax": "1"})


def four(workload, mode="forward"):
    times = {"vmap": 0.01, "fold": 0.02, "map": 0.03, "Fold(chunk_size=8)": 0.004, "auto": 0.005}
    return [entry(name, seconds, workload, mode) for name, seconds in times.items()]


def labels(chart):
    return [bar.label for bar in chart.bars]


def test_several_workloads_have_the_three_that_are_asked_about_and_the_best_of_the_others():
    charts = all_bars(made(*four("net"), *four("other", "grad")))
    assert len(charts) == 2
    for chart in charts.values():
        assert labels(chart) == ["vmap", "fold", "auto", "best other"]
        assert [bar.said for bar in chart.bars] == ["10.0 ms", "0.50x", "2.00x", "2.50x"]
        assert [bar.kind for bar in chart.bars] == ["plain", "plain", "plain", "lead"]
        assert chart.notes == ("best other: Fold(8)",) and chart.heading == "speed / vmap"


def test_one_workload_has_all_its_strategies():
    (chart,) = all_bars(made(*four("net"))).values()
    assert labels(chart) == ["vmap", "fold", "map", "Fold(8)", "auto"] and chart.notes == ()


def test_the_best_other_is_another_program():
    twin = entry("Fold(chunk_size=8)", 0.005, same_as="auto")
    entries = [*four("net")[:3], entry("auto", 0.005), twin]
    chart = next(iter(all_bars(made(*entries, *four("other"))).values()))
    assert chart.notes == ("best other: map",)


def test_what_has_no_time_says_why_and_what_nobody_ran_has_no_bar():
    failed = Entry("net", "cpu", "measured", "forward", "auto", "failed", error="out of memory")
    chart = next(iter(all_bars(made(entry("vmap", 0.01), failed, entry("vmap", 1, "b"))).values()))
    assert [(bar.label, bar.value, bar.said) for bar in chart.bars] == [
        ("vmap", 1.0, "10.0 ms"),
        ("auto", None, "failed"),
    ]


def test_without_a_reference_the_first_has_length_one():
    charts = all_bars(made(*four("net")[1:], *four("other")[1:]))
    chart = next(iter(charts.values()))
    assert labels(chart)[0] == "fold" and chart.bars[0].value == pytest.approx(0.5)


def boxes(figure):
    """Return the boxes of all texts, and of all intervals, in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    found = [(t.get_text(), t.get_window_extent(renderer)) for t in texts if t.get_text()]
    lines = [
        line.get_window_extent(renderer)
        for axes in figure.axes
        for line in axes.lines
        if line.get_color() == style.INK
    ]
    return found, lines, figure.bbox


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_no_text_of_a_shipped_result_covers_another_or_an_interval_or_leaves_the_page(path):
    comparison = Comparison.load(path)
    texts, intervals, page = boxes(overview(all_bars(comparison), ["cpu", "AMD EPYC"]))
    for text, box in texts:
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and box.y0 >= page.y0, text
        for line in intervals:
            apart = box.x0 >= line.x1 or box.x1 <= line.x0 or box.y0 >= line.y1 or box.y1 <= line.y0
            assert apart, text
    for (text, box), (other, its) in itertools.combinations(texts, 2):
        inner = box.padded(-2)
        assert not inner.overlaps(its.padded(-2)), (text, other)
    assert all(page.x0 <= line.x0 and line.x1 <= page.x1 for line in intervals)


def test_letters_are_of_twelve_points_and_no_wider_than_a_readme():
    figure = overview(all_bars(made(*four("net"), *four("net", "grad"), *four("b"))), [])
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    assert min(text.get_fontsize() for text in texts) == 12
    assert figure.get_size_inches()[0] < 9


def test_long_names_are_broken_and_long_notes_wrapped():
    name = "a rival of another library with a long name"
    best = dataclasses.replace(
        entry(name, 0.001), workload="package.module:a_very_long_function_name"
    )
    base = dataclasses.replace(entry("vmap", 0.01), workload=best.workload)
    charts = all_bars(made(base, best, entry("vmap", 0.01)))
    assert next(iter(charts.values())).notes == (
        "best other: a rival of another",
        "library with a long name",
    )
    texts, _, page = boxes(overview(charts, ["a processor " * 20]))
    assert all(box.x1 <= page.x1 for _, box in texts)
    assert {"package.module:", "a_very_long_"} <= {text for text, _ in texts}


def test_dark_pages_find_dark_colors(tmp_path):
    drawn = made(*four("net")).plot(tmp_path / "bars.svg").read_text()
    assert f'[style*="fill: {style.LEAD}"]{{fill:{style.IN_DARK[style.LEAD]}!important}}' in drawn
    page = (ROOT / "tdjax/comparison/rendering/html/report.css").read_text()
    light, dark = page.split("prefers-color-scheme: dark")
    for color, other in style.IN_DARK.items():
        names = [] if color == style.PAGE else re.findall(f"--([a-z]+): {color}", light)
        assert all(f"--{name}: {other}" in dark for name in names if name != "mark")


def test_a_workloads_picture_stands_beside_its_answers(tmp_path):
    seen = []

    def picture(axes, quick):
        seen.append(quick)
        axes.plot([0, 1], [0, 1])
        return "A $ line."

    comparison = made(*four("net"), *four("net", "grad"), *four("b"))
    path = plot_beside(comparison, "net", picture, True, tmp_path / "net.svg")
    drawn = path.read_text()
    assert (seen == [True] and drawn.count("<text") == 0) or "A $ line." in drawn
    png = plot_beside(comparison, "net", picture, False, tmp_path / "net.png")
    assert png.read_bytes().startswith(b"\x89PNG")
