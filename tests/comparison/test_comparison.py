"""A comparison in a notebook, and as a data frame."""

import base64
import dataclasses
import importlib.util
import re
import sys
import types

import pytest
from damaging import SCRIPT

from tdjax.comparison import Comparison, Entry
from tdjax.comparison.verdicts.verdict import judge


def made(workload="net"):
    group = workload, "cpu", "measured", "forward"
    entries = tuple(
        Entry(*group, name, "ok", samples_s=(seconds,) * 6, median_s=seconds, ratio=0.01 / seconds)
        for name, seconds in (("vmap", 0.01), ("fold", 0.02), ("auto", 0.005))
    )
    return Comparison(entries, judge(entries), "vmap", {workload: "float32[4,8]"}, {"jax": "1"})


def without(patch, package):
    found = importlib.util.find_spec
    patch.setattr(importlib.util, "find_spec", lambda n: None if n == package else found(n))
    patch.setattr(
        "tdjax.comparison.rendering.html.notebook.find_spec",
        lambda n: None if n == package else found(n),
    )


def test_a_notebook_shows_the_summary_the_answers_and_a_chart():
    found = made()
    page = found._repr_html_()
    assert f"<p><b>{found.summary}</b></p>" in page
    for said in ("net", "fold: 0.50x vmap", "auto: 2.00x vmap", "the fastest?"):
        assert said in page, said
    picture = re.search('src="data:image/svg.xml;base64,([^"]*)"', page)[1]
    drawn = base64.b64decode(picture).decode()
    assert ">net</text>" in drawn and ">forward</text>" in drawn and ">2.00x</text>" in drawn
    assert "prefers-color-scheme:dark" in drawn


def test_a_notebook_without_matplotlib_shows_the_answers(monkeypatch):
    without(monkeypatch, "matplotlib")
    page = made(SCRIPT)._repr_html_()
    assert "auto: 2.00x vmap" in page and "<img" not in page and SCRIPT not in page
    nothing = dataclasses.replace(made(), entries=(), verdicts=())
    assert "nothing was compared" in nothing._repr_html_()


def test_a_data_frame_has_a_row_an_entry(monkeypatch):
    frame = types.SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns))
    frame.__spec__ = importlib.util.spec_from_loader("pandas", None)
    monkeypatch.setitem(sys.modules, "pandas", frame)
    rows, columns = made().to_dataframe()
    assert columns == [field.name for field in dataclasses.fields(Entry)]
    assert [(row["strategy"], row["median_s"]) for row in rows] == [
        ("vmap", 0.01), ("fold", 0.02), ("auto", 0.005),
    ]  # fmt: skip


def test_a_data_frame_without_pandas_says_how_to_get_it(monkeypatch):
    without(monkeypatch, "pandas")
    with pytest.raises(ImportError, match=r'pandas is needed .*: pip install "pandas"'):
        made().to_dataframe()
