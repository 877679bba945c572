"""Saving, loading, printing and drawing a comparison."""

import dataclasses
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from damaging import SCRIPT, damaged, random_damage

import tdjax
from tdjax.comparison import Comparison, Entry
from tdjax.comparison.hlo import Movement
from tdjax.comparison.hlo.place import Place
from tdjax.comparison.rendering.html import report
from tdjax.comparison.rendering.terminal.console import plain
from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.verdicts.density import Density
from tdjax.comparison.verdicts.records import VERSION
from tdjax.comparison.verdicts.verdict import judge
from tdjax.core import whole_file


def made():
    common = ("conv <net>", "cpu", "measured", "forward")
    entries = (
        Entry(
            *common, "vmap", "ok", samples_s=(0.02,) * 6, median_s=0.02, median_low_s=0.019,
            median_high_s=0.021, ratio=1.0, ratio_low=1.0, ratio_high=1.0, compile_s=0.5,
            temp_bytes=2_000_000, max_rel_error=0.0, program="a", hlo={"transpose": 2},
        ),
        Entry(
            *common, "Fold(chunk_size=8, unroll=True)", "ok", samples_s=(0.01,) * 6,
            median_s=0.01, median_low_s=0.009, median_high_s=0.011, ratio=2.0, ratio_low=1.96,
            ratio_high=2.04, program="b", max_rel_error=3e-7, temp_bytes=1_000_000,
        ),
        Entry(*common, "fold", "ok", samples_s=(0.02,) * 6, median_s=0.02, same_as="vmap",
              program="a"),
        Entry(*common, "map", "timeout", error="cut after one call: 83x the leader",
              samples_s=(0.83,), median_s=0.83, ratio=0.024),
        Entry(*common, "unroll", "failed", error="StrategyError: it <cannot>"),
    )  # fmt: skip
    return Comparison(
        entries, judge(entries), "vmap", {"conv <net>": "float32[4,8]"}, {"cores": 2, "jax": "1"},
        ceilings={"cpu": Ceilings(1e11, 1e10, "measured <here>")},
    )  # fmt: skip


def test_a_comparison_survives_saving(tmp_path):
    path = made().save(tmp_path / "new" / "result.json")
    assert Comparison.load(path) == made()
    assert json.loads(path.read_text())["version"] == VERSION


# A run of each version, saved by the tdjax of its time.
SAVED = sorted((Path(__file__).parent / "data").glob("version-*.json"))
SHIPPED = sorted((Path(tdjax.__file__).parents[1] / "examples/results").glob("*.json"))


# What is computed from the samples when a file of before version 5 is read.
ANEW = {f"{name}{end}" for name in ("median", "ratio") for end in ("", "_low", "_high", "_low_s",
                                                                  "_high_s")}  # fmt: skip


def test_every_version_has_a_saved_run():
    assert [path.stem for path in SAVED] == [f"version-{n}" for n in range(1, VERSION + 1)]


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_a_run_of_every_version_is_read(path, tmp_path):
    found = Comparison.load(path)
    content = json.loads(path.read_text())
    assert f"version-{content['version']}" == path.stem
    for entry, saved in zip(found.entries, content["entries"], strict=True):
        written = json.loads(json.dumps(entry, default=vars))
        kept = {name for name in saved if content["version"] == 5 or name not in ANEW}
        assert {name: written[name] for name in kept} == {name: saved[name] for name in kept}
        lacked = {name: value for name, value in written.items() if name not in saved}
        assert (
            lacked
            == {
                1: {"movements": None, "control": False, "chose": None},
                2: {"control": False, "chose": None},
                3: {"chose": None},
                4: {},
                5: {},
            }[content["version"]]
        )
    assert {verdict.metric for verdict in found.verdicts} == {"time"}
    assert found.answers[0].text in " ".join(str(found).split())
    again = found.save(tmp_path / "again.json")
    assert json.loads(again.read_text())["version"] == VERSION
    assert Comparison.load(again) == found


@pytest.mark.parametrize(
    ("older", "newer"), [("tie", "level"), ("unstable", "unclear"), ("win", "win")]
)
def test_the_kinds_of_older_files_are_read_as_those_of_today(tmp_path, older, newer):
    path = tmp_path / "older.json"
    path.write_text(damaged(json.loads(SAVED[3].read_text()), ("verdicts", 0, "kind"), older))
    assert Comparison.load(path).verdicts[0].kind == newer


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_results_beside_the_examples_are_read(path):
    found = Comparison.load(path)
    assert found.verdicts and {entry.workload for entry in found.entries} == set(found.workloads)


def test_a_change_of_fields_makes_a_new_version():
    """Adding, renaming or removing a field needs a new VERSION and a saved run of it."""
    written, saved = (
        json.loads(text) for text in (Comparison.load(SAVED[-1]).to_json(), SAVED[-1].read_text())
    )
    # Answers are computed from the samples, and said in words that may change.
    computed = [(each.pop("summary"), each.pop("answers")) for each in (written, saved)]
    fields = [[list(answer) for answer in found] for _, found in computed]
    assert (written, fields[0]) == (saved, fields[1]), (
        "a saved comparison does not hold the fields of the last version: raise VERSION in "
        "verdicts/records.py, say there what earlier files mean without the new fields, and save "
        "a small run as data/version-N.json beside this test"
    )


def test_a_newer_file_is_refused(tmp_path):
    path = made().save(tmp_path / "result.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "version": 99, "entries": "otherwise"}))
    with pytest.raises(ValueError, match=r"newer tdjax.*99.*Upgrade"):
        Comparison.load(path)


@pytest.mark.parametrize("version", [None, 0, "4"])
def test_a_version_that_no_tdjax_writes_is_refused(tmp_path, version):
    path = made().save(tmp_path / "result.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": version}))
    with pytest.raises(ValueError, match=f"not a saved comparison: its version is {version!r}"):
        Comparison.load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', "\ud800"])
def test_another_file_is_not_a_comparison(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match=r"result\.json: not a saved comparison"):
        Comparison.load(path)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("entries",), ..., "entries: is missing"),
        (("entries", 2), None, "entries[2]: got None, needed a table"),
        (("entries", 3, "median_s"), "x", "entries[3].median_s: got 'x', needed a number"),
        (("entries", 0, "hlo", "transpose"), 0.5, "entries[0].hlo.transpose: got 0.5, needed a"),
        (("verdicts", 0, "kind"), "draw", "verdicts[0].kind: got 'draw', needed one of 'win', "),
        (("ceilings", "cpu", "bytes_per_s"), 0, "ceilings.cpu.bytes_per_s: got 0, needed a number"),
        (("environment", "jax"), [], "environment.jax: got [], needed text or a whole number or"),
        (("reference",), ..., "reference: is missing"),
    ],
)
def test_a_damaged_file_is_said_to_be_damaged_and_where(tmp_path, place, value, said):
    path = made().save(tmp_path / "result.json")
    path.write_text(damaged(json.loads(path.read_text()), place, value))
    with pytest.raises(ValueError, match=re.escape(f"result.json: a damaged comparison: {said}")):
        Comparison.load(path)


def everything(tmp_path):
    """Return a comparison that has each kind of group and each field."""
    place = {"workload": "net", "mode": "grad", "evidence": "compiled", "target": "tpu:v5e"}
    moved = Movement("copy", "", Place("dot", "net", "net.py:1"), 2, 4096)
    compiled = [
        Entry(**place, strategy=name, status="ok", flops=1e6, bytes_accessed=size, temp_bytes=9,
              movements=(moved,) * (size > 1e3))
        for name, size in (("vmap", 2e3), ("fold", 1e3))
    ]  # fmt: skip
    entries = (*made().entries, *compiled)
    densities = {"conv <net>": Density("conv", 0.5)}
    return dataclasses.replace(
        made(), entries=entries, verdicts=judge(entries), densities=densities
    )


def test_whatever_is_damaged_ends_in_that_error_or_is_shown(tmp_path, capsys):
    whole = everything(tmp_path).save(tmp_path / "whole.json").read_text()
    path, read = tmp_path / "damaged.json", 0
    for seed in range(120):
        path.write_bytes(random_damage(whole, seed))
        try:
            found = Comparison.load(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: "), error
            continue
        read += 1
        page = text_of_report(found)
        assert str(found) and SCRIPT not in page and 'onload="alert' not in page
    assert 8 < read < 60


def text_of_report(comparison):
    """Return a report without its charts, which take most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_figures", lambda *unused: ())
        return report.html(comparison)


def test_names_that_look_like_markup_are_drawn_as_they_are(tmp_path):
    hostile = f'style="x{SCRIPT}" $\\frac$ [/b]'
    entries = [dataclasses.replace(each, workload=hostile) for each in made().entries[:2]]
    found = dataclasses.replace(made(), entries=tuple(entries), verdicts=judge(entries))
    page = report.html(found)
    assert SCRIPT not in page and "<style>" in page
    assert "alert" not in page.partition("<style>")[2].partition("</style>")[0]
    assert "[/b]" in str(found)
    found.plot(tmp_path / "picture.svg")


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = whole_file.write(tmp_path / "result.json", "old")

    def full(*arguments):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="no space"):
            made().save(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_table_fits_and_says_it_all(width):
    text = plain(made(), width)
    assert max(len(line) for line in text.splitlines()) <= width
    for said in ("Fold(8, unroll)", "10.0", "2.00", "2.00 MB", "3e-07", "fold = vmap",
                 "map: cut after one call: 83x the leader", "unroll: failed: StrategyError",
                 "win: Fold(8, unroll) leads"):  # fmt: skip
        assert said in text, text
    assert ("9.00 - 11.0" in text) == (width >= 100) and "1.96 - 2.04" in text


def test_the_answer_comes_first_wherever_it_is_read(tmp_path):
    summary = made().summary
    assert summary == "fold: 1.00x vmap"
    assert str(made()).startswith(summary)
    page = made().report(tmp_path / "result.html").read_text()
    assert page.index(summary) < page.index("<table")
    content = json.loads(made().to_json())
    assert content["summary"] == summary
    assert content["answers"][0]["fold_over_vmap"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_an_interrupted_comparison_says_so():
    assert "interrupted" in plain(dataclasses.replace(made(), interrupted=True), 80)
    assert "interrupted" not in str(made())


class Reader(HTMLParser):
    """Checks that tags close, and keeps the text and what would be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.fetched, self.ids = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br", "wbr"):
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.fetched += [value for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_is_one_whole_file_that_fetches_nothing(tmp_path):
    reader = Reader()
    path = made().report(tmp_path / "result.html")
    reader.feed(path.read_text())
    text = " ".join(reader.text)
    assert reader.open == []
    assert reader.fetched and {f"#{name}" for name in reader.ids} >= set(reader.fetched)
    assert "<script" not in path.read_text()
    assert "url(" not in text and "prefers-color-scheme: dark" in text
    for said in ("conv <net>", "it <cannot>", "83x the leader", "= vmap", "10.0 ms", "3e-07"):
        assert said in text


def test_the_plot_is_a_picture(tmp_path):
    path = made().plot(tmp_path / "result.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in made().plot(tmp_path / "result.svg").read_bytes()
