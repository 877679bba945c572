"""Saving, loading, printing and drawing a comparison."""

import dataclasses
import itertools
import json
import os
from html.parser import HTMLParser

import pytest

from tdjax.comparison import Comparison, Entry
from tdjax.comparison.rendering.terminal.console import plain
from tdjax.comparison.targets.ceilings import Ceilings
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
            median_s=0.01, median_low_s=0.009, median_high_s=0.011, ratio=0.5, ratio_low=0.49,
            ratio_high=0.51, program="b", max_rel_error=3e-7, temp_bytes=1_000_000,
        ),
        Entry(*common, "fold", "ok", samples_s=(0.02,) * 6, median_s=0.02, same_as="vmap",
              program="a"),
        Entry(*common, "map", "timeout", error="cut after one call: 83x the leader",
              samples_s=(0.83,), median_s=0.83, ratio=41.5),
        Entry(*common, "unroll", "failed", error="StrategyError: it <cannot>"),
    )  # fmt: skip
    return Comparison(
        entries, judge(entries), "vmap", {"conv <net>": "float32[4,8]"}, {"cores": 2, "jax": "1"},
        ceilings={"cpu": Ceilings(1e11, 1e10, "measured <here>")},
    )  # fmt: skip


def test_a_comparison_survives_saving(tmp_path):
    path = made().save(tmp_path / "new" / "result.json")
    assert Comparison.load(path) == made()
    assert json.loads(path.read_text())["version"] == 3


@pytest.mark.parametrize(("version", "without"), [(1, ["movements", "control"]), (2, ["control"])])
def test_a_file_of_an_older_format_is_read_without_what_it_did_not_have(tmp_path, version, without):
    path = made().save(tmp_path / "result.json")
    content = json.loads(path.read_text())
    del content["ceilings"]
    for entry, name in itertools.product(content["entries"], without):
        del entry[name]
    path.write_text(json.dumps({**content, "version": version}))
    assert Comparison.load(path) == dataclasses.replace(made(), ceilings={})


@pytest.mark.parametrize(
    "known", [{"flops_per_s": 1.0}, {**made().ceilings["cpu"].to_json(), "bytes_per_s": 0}]
)
def test_damaged_ceilings_are_said_to_be_damaged(tmp_path, known):
    path = made().save(tmp_path / "result.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "ceilings": {"cpu": known}}))
    with pytest.raises(ValueError, match=r"damaged.*ceilings"):
        Comparison.load(path)


def test_a_newer_file_is_refused(tmp_path):
    path = made().save(tmp_path / "result.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "version": 99}))
    with pytest.raises(ValueError, match=r"newer tdjax.*99.*Upgrade"):
        Comparison.load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', "\ud800"])
def test_another_file_is_not_a_comparison(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match=r"result\.json: not a saved comparison"):
        Comparison.load(path)


@pytest.mark.parametrize("lost", ["entries", "reference", "verdicts"])
def test_a_damaged_file_is_said_to_be_damaged(tmp_path, lost):
    path = made().save(tmp_path / "result.json")
    content = json.loads(path.read_text())
    del content[lost]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"damaged.*{lost}"):
        Comparison.load(path)


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
    for said in ("Fold(8, unroll)", "10.0", "0.50", "2.00 MB", "3e-07", "= vmap",
                 "map: cut after one call: 83x the leader", "unroll: failed: StrategyError",
                 "win: Fold(8, unroll) leads"):  # fmt: skip
        assert said in text, text
    assert ("9.00 - 11.0" in text) == (width >= 100)


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
