"""What is in the charts of memory against time and of rooflines, and where it lies."""

import dataclasses
import itertools
import random

import pytest

from tdjax.comparison import Comparison, Entry
from tdjax.comparison.charts import axis, memory_time, roofline
from tdjax.comparison.charts.labels import Box, place_along, place_labels
from tdjax.comparison.rendering.pictures.kinds import kinds
from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.verdicts.verdict import judge

MEASURED = ("conv <net>", "cpu", "measured", "forward")
COMPILED = ("conv <net>", "tpu:v5e", "compiled", "forward")
CPU = Ceilings(1e11, 1e10, "measured here")
V5E = Ceilings(2e14, 8e11, "published <there>")


def entry(strategy, time, memory, *, flops=1e9, bytes_accessed=1e9, group=MEASURED, **more):
    common = {"flops": flops, "bytes_accessed": bytes_accessed, "program": strategy, **more}
    if group is COMPILED:
        figures = {"estimated_cycles": time, "temp_bytes": memory}
        return Entry(*COMPILED, strategy, "ok", **figures, **common)
    spread = {"median_low_s": 0.9 * time, "median_high_s": 1.1 * time}
    samples = {"median_s": time, "samples_s": (time,) * 6}
    return Entry(*group, strategy, "ok", peak_bytes=memory, **samples, **spread, **common)


def measured():
    twin = entry("fold", 0.02, 500, same_as="vmap")
    again = entry("vmap (again)", 0.0202, 700, control=True)
    cut = dataclasses.replace(entry("map", 0.9, 100), status="timeout", error="cut: far slower")
    failed = Entry(*MEASURED, "Fold(chunk_size=2)", "failed", error="out of memory")
    return [entry("vmap", 0.02, 500), twin, again, cut, failed, entry("unroll", 0.01, 900),
            entry("Fold(chunk_size=8)", 0.03, 600)]  # fmt: skip


def compiled():
    rows = (("vmap", 900, 10, 1e9), ("fold", 600, 30, 2e8), ("map", 5000, 0, 1e12))
    return [entry(name, c, m, flops=f, group=COMPILED) for name, c, m, f in rows]


def chart_of(entries, ceilings=None):
    (verdict,) = judge(entries)
    if ceilings is not None:
        return roofline.chart(entries, verdict, ceilings)
    return memory_time.chart(entries, verdict)


def test_points_on_the_pareto_front_are_beaten_by_none():
    points = [(random.Random(3).random(), random.Random(s).random()) for s in range(40)]
    points += [(1.0, 1.0), points[0]]
    front = memory_time.pareto(points)
    for point in set(points):
        beaten = any(x <= point[0] and y <= point[1] and (x, y) != point for x, y in points)
        assert (point in front) == (not beaten)
    assert front == sorted(front) and len(front) == len(set(front))


def test_memory_against_time_has_a_point_for_each_program():
    chart = chart_of(measured())
    points = {point.label: point for point in chart.points}
    assert set(points) == {"vmap = fold", "unroll", "map", "Fold(8)"}
    assert (points["vmap = fold"].x, points["vmap = fold"].y) == (0.02, 500)
    assert points["unroll"].kind == "lead" and points["map"].kind == "cut"
    assert points["Fold(8)"].kind == "plain"
    # A candidate that was cut is no choice: the front leaves it out.
    assert chart.lines[0].corners == ((0.01, 900), (0.02, 900), (0.02, 500))
    assert "Without a point: Fold(2)." in chart.caption
    assert "peak memory" in chart.y.title and "median time, ms" in chart.x.title and chart.x.log


def test_without_a_peak_it_is_the_temporary_memory_and_says_so():
    entries = [dataclasses.replace(e, peak_bytes=None, temp_bytes=i * 10**6)
               for i, e in enumerate(measured())]  # fmt: skip
    chart = chart_of(entries)
    assert chart.title == "Temporary memory against time"
    assert chart.y.title == "temporary memory, MB"
    assert chart_of([dataclasses.replace(e, temp_bytes=None) for e in entries]) is None
    assert chart_of([dataclasses.replace(e, temp_bytes=0) for e in entries]) is None


def test_a_program_ahead_in_both_is_named():
    chart = chart_of([entry("vmap", 0.02, 500), entry("fold", 0.01, 400)])
    assert chart.lines == () and "fold is ahead in both" in chart.caption


def test_a_roofline_sets_what_was_reached_against_the_intensity():
    entries = [entry("vmap", 0.02, 1, flops=1e9, bytes_accessed=4e8), entry("fold", 0.2, 1),
               entry("map", 0.01, 1, flops=None)]  # fmt: skip
    chart = chart_of(entries, CPU)
    points = {point.label: (point.x, point.y) for point in chart.points}
    assert points == {"vmap": (2.5, pytest.approx(5e10)), "fold": (1.0, pytest.approx(5e9))}
    slope, flat = chart.lines
    assert slope.corners[1] == flat.corners[0] == (10.0, 1e11) and flat.corners[1][1] == 1e11
    assert (slope.text, flat.text) == ("10.0 GB/s", "100 Gflop/s")
    for said in ("above the slope", "All are bound by memory", "Without a point: map"):
        assert said in chart.caption


def test_what_did_not_run_is_placed_on_the_roof_as_a_bound():
    chart = chart_of(compiled(), V5E)
    assert chart.title == "Roofline: bounds, not speeds"
    assert {point.kind for point in chart.points} == {"bound"}
    for point in chart.points:
        assert point.y == V5E.at(point.x) and "at most" in point.said
    assert "Nothing ran" in chart.caption
    assert "Bound by memory: vmap, fold. Bound by compute: map." in chart.caption


def test_a_target_without_ceilings_has_no_roofline():
    (verdict,) = judge(measured())
    assert roofline.chart(measured(), verdict, None) is None
    assert chart_of([entry("vmap", 0.02, 1, flops=None)], CPU) is None


@pytest.mark.parametrize(
    ("values", "log"),
    [([1e-3], False), ([0, 0], False), ([0, 5e6], False), ([100, 101], False),
     ([1e-3, 2e-3, 4e-3], False), ([1e-6, 3], True), ([3e-5, 3e-4], True), ([1, 7e11], True)],
)  # fmt: skip
def test_an_axis_has_room_for_its_values_and_ticks_between_its_ends(values, log):
    found = axis.around(values, "time", axis.TIMES)
    assert found.log == log
    assert all(0 < found.at(value) < 1 for value in values)
    ticks = [found.at(value) for value, _ in found.ticks]
    assert ticks == sorted(ticks) and 2 <= len(ticks) <= 7 and ticks[0] >= 0 and ticks[-1] <= 1
    assert len({text for _, text in found.ticks}) == len(ticks)
    assert not any(text.startswith("-") for _, text in found.ticks)


def test_a_difference_of_one_percent_does_not_fill_an_axis():
    found = axis.around([100, 101], "memory", axis.MEMORY)
    assert found.at(101) - found.at(100) < 0.06
    assert found.title == "memory, B"
    assert axis.around([2e-3, 3e-3], "time", axis.TIMES).title == "time, ms"


@pytest.mark.parametrize("seed", range(20))
def test_labels_cover_neither_each_other_nor_points(seed):
    draw = random.Random(seed)
    crowd = 1 if seed % 2 else 0.1
    points = [(150 + crowd * draw.uniform(-140, 140), 100 + crowd * draw.uniform(-90, 90))
              for _ in range(10)]  # fmt: skip
    sizes = [(draw.uniform(20, 100), 13) for _ in points]
    within = Box(0, 0, 346, 206)
    note = Box(280, 0, 346, 14)
    found = [place.box for place in place_labels(points, sizes, within, [note])]
    for box, other in itertools.combinations([note, *found], 2):
        assert not box.covers(other)
    for box, (width, height) in zip(found, sizes, strict=True):
        assert box.left >= 0 and box.top >= 0 and box.right <= 346 and box.bottom <= 206
        assert (box.right - box.left, box.bottom - box.top) == pytest.approx((width, height))
        assert not any(box.left < x < box.right and box.top < y < box.bottom for x, y in points)


def test_a_label_beside_its_point_needs_no_line_and_keeps_off_lines():
    (alone,) = place_labels([(50, 50)], [(30, 10)], Box(0, 0, 100, 100))
    assert alone.line is None and alone.box.left == 57 and alone.text(50) == (57, "left")
    drawn = (50, 50, 100, 50)
    (moved,) = place_labels([(50, 50)], [(30, 10)], Box(0, 0, 100, 100), drawn=[drawn])
    assert not moved.box.crossed(drawn) and moved.text(50) == (43, "right")


def test_text_along_a_line_is_left_out_where_the_line_is_too_short():
    assert place_along((0, 0), (30, 0), "200 Gflop/s", 60, 13) is None
    text = place_along((0, 100), (100, 0), "10 GB/s", 50, 13)
    assert text.turn == pytest.approx(-45)
    assert all(box.top < 100 - (box.left + box.right) / 2 for box in text.boxes)


def comparison():
    entries = (*measured(), *compiled())
    return Comparison(
        entries, judge(entries), "vmap", {}, {"cores": 2, "jax": "1"},
        ceilings={"cpu": CPU, "tpu:v5e": V5E},
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["memory", "roofline"])
def test_a_picture_shows_the_charts(tmp_path, kind):
    drawn = comparison().plot(tmp_path / "new.svg", kind=kind).read_text()
    assert comparison().plot(tmp_path / "new.png", kind=kind).read_bytes().startswith(b"\x89PNG")
    said = ["conv &lt;net&gt;, forward, tpu:v5e", "vmap = fold", "unroll", "Fold(8)"]
    said += ["peak memory, B"] if kind == "memory" else ["200 Tflop/s", "their points are bounds"]
    for text in said:
        assert text in drawn


def test_the_kinds_of_picture_are_those_that_something_is_known_of():
    assert kinds(comparison()) == ("time", "memory", "roofline")
    assert kinds(dataclasses.replace(comparison(), ceilings={})) == ("time", "memory")
    without = [dataclasses.replace(e, peak_bytes=None, temp_bytes=None, flops=None)
               for e in comparison().entries]  # fmt: skip
    assert kinds(dataclasses.replace(comparison(), entries=tuple(without))) == ("time",)


def test_a_picture_of_what_is_not_known_is_refused(tmp_path):
    unknown = dataclasses.replace(comparison(), ceilings={})
    with pytest.raises(ValueError, match=r"nothing to draw for kind='roofline'.*ceilings"):
        unknown.plot(tmp_path / "roofline.png", kind="roofline")
    with pytest.raises(ValueError, match=r"kind='speed'.*time, memory, roofline"):
        unknown.plot(tmp_path / "speed.png", kind="speed")
    assert not list(tmp_path.iterdir())


def test_the_report_has_the_charts_and_a_matrix_that_links_to_them(tmp_path):
    html = comparison().report(tmp_path / "new.html").read_text()
    assert html.count("<figure>") == 4 and html.count('class="front"') == 2
    assert html.count('class="roof"') == 4 and html.count(" bound") >= 3
    assert 'href="#group-1"' in html and 'id="group-2"' in html
    assert "conv &lt;net&gt;" in html and "<net>" not in html
    assert "published &lt;there&gt;" in html and "<there>" not in html
    for said in ("vmap = fold", "Roofline: bounds, not speeds", "20.0 ms, 500 B", "200 Tflop/s"):
        assert said in html
    without = dataclasses.replace(comparison(), ceilings={})
    assert "Roofline" not in without.report(tmp_path / "new.html").read_text()


def test_the_report_shows_the_time_on_the_device_where_it_is_known(tmp_path):
    assert "on the device" not in comparison().report(tmp_path / "new.html").read_text()
    entries = tuple(dataclasses.replace(e, device_s=0.0042) for e in measured())
    known = dataclasses.replace(comparison(), entries=entries, verdicts=judge(entries))
    html = known.report(tmp_path / "new.html").read_text()
    assert "<th>on the device</th>" in html and "<td>4.20 ms</td>" in html
