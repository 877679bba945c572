"""A new kind of chart takes one file that draws it and one line that registers it."""

from types import SimpleNamespace

import pytest

from tdjax.comparison import Comparison, Entry
from tdjax.comparison.rendering.pictures.kinds import KINDS, ChartKind, kinds, register
from tdjax.comparison.verdicts.entry import Group
from tdjax.comparison.verdicts.verdict import judge

CPU = Group("net", "cpu", "measured", "forward")


def comparison():
    entries = tuple(
        Entry(*CPU, name, "ok", median_s=time, samples_s=(time,) * 6, compile_s=seconds)
        for name, time, seconds in (("vmap", 0.02, 1.5), ("fold", 0.01, 0.5))
    )
    return Comparison(entries, judge(entries), "vmap", {"net": "a <small> net"}, {"cores": 2})


# One file would have these two functions ...
def compile_times(comparison):
    points = [(entry.compile_s, entry.median_s) for entry in comparison.entries]
    return {CPU: SimpleNamespace(points=points, title="Toy <chart>", caption="Left is better.")}


def draw_compile_times(axes, chart):
    axes.plot(*zip(*chart.points, strict=True), color="#0f8a7e")
    axes.set_xlabel("time to compile, s")
    return lambda: axes.text(1.0, 0.015, "written last")


@pytest.fixture
def toy():
    # ... and this is the line.
    register(ChartKind("toy", "toys of {reference}", "no toys", compile_times, draw_compile_times))
    yield
    del KINDS["toy"]


@pytest.mark.usefixtures("toy")
def test_a_new_kind_is_drawn_by_name_and_listed_where_the_name_is_unknown(tmp_path):
    assert kinds(comparison()) == ("time", "toy")
    drawn = comparison().plot(tmp_path / "toy.svg", kind="toy").read_text()
    for said in ("toys of vmap", "net, forward", "time to compile, s", "written last"):
        assert said in drawn
    assert comparison().plot(tmp_path / "toy.png", "toy").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"got kind='car', needed one of time, .*, toy\."):
        comparison().plot(tmp_path / "car.png", kind="car")


@pytest.mark.usefixtures("toy")
def test_a_new_kind_is_in_the_report_below_the_table_of_its_group(tmp_path):
    page = comparison().report(tmp_path / "toy.html").read_text()
    assert page.count("<figure>") == 1 and "<h4>Toy &lt;chart&gt;</h4>" in page
    assert 'aria-label="net, Toy &lt;chart&gt;: toys of vmap"' in page
    assert page.index("</table>") < page.index("written last") < page.index("Left is better.")
    assert "stroke: var(--lead)" in page and "stroke: #0f8a7e" not in page


def test_it_is_gone_afterwards(tmp_path):
    assert "toy" not in KINDS and kinds(comparison()) == ("time",)
    assert "<figure>" not in comparison().report(tmp_path / "toy.html").read_text()


def test_pictures_are_the_same_each_time(tmp_path):
    for name, draw in (("a.svg", comparison().plot), ("a.html", comparison().report)):
        first = draw(tmp_path / name).read_bytes()
        assert draw(tmp_path / f"again-{name}").read_bytes() == first
        assert b"matplotlib" not in first and b"<metadata" not in first
