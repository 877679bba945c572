"""Files of tuning results: those of this version are read, other versions are left out."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
from damaging import damaged

from tdjax import Fold, Vmap
from tdjax.strategies.choosing import tuned
from tdjax.strategies.choosing.measured import Measured

# Written by `tdjax tune dense`.
FIRST = Path(__file__).parent / "data" / "version-4.json"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TDJAX_CACHE_DIR", str(tmp_path))
    (tmp_path / "tuning").mkdir()
    return tmp_path / "tuning"


def test_results_of_this_version_are_read(cache):
    shutil.copy(FIRST, cache)
    (found,) = tuned.everything().values()
    content = json.loads(FIRST.read_text())
    assert (found.title, found.mode, found.sizes) == ("dense", "forward", (32, 10))
    assert found.program == content["program"] and found.versions == content["versions"]
    assert found.times == {each["strategy"]: each["median_s"] for each in content["candidates"]}
    assert [each.strategy for each in Measured([found]).complete([])] == [Vmap(), Fold()]


def test_a_change_of_fields_makes_a_new_version(cache):
    """Adding, renaming or removing a field needs a new VERSION here and in devices/shipped.py."""
    content = json.loads(FIRST.read_text())
    assert (content.pop("format"), content.pop("version")) == (tuned.FORMAT, tuned.VERSION)
    assert list(content) == [field.name for field in dataclasses.fields(tuned.Tuned)]


@pytest.mark.parametrize("version", [1, 3, 5])
def test_other_versions_are_left_out_with_a_warning(cache, version):
    content = {**json.loads(FIRST.read_text()), "version": version}
    (cache / "other.json").write_text(json.dumps(content))
    said = rf"other.json .*it is of tdjax-tuning {version}, needed tdjax-tuning 4.*--clear"
    with pytest.warns(UserWarning, match=said):
        assert tuned.everything() == {}


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("title",), ..., "title: is missing"),
        (("sizes",), 3, "sizes: got 3, needed a list of 2"),
        (("program",), "../key", "program: got '../key', needed letters and digits"),
        (("candidates", 1, "median_s"), "1", "candidates[1].median_s: got '1', needed a number"),
        (("candidates", 0, "low"), None, "candidates[0]: it ran to the end, and its time or its"),
    ],
)
def test_a_result_that_is_damaged_is_left_out_with_a_warning(cache, place, value, said):
    (cache / "damaged.json").write_text(damaged(json.loads(FIRST.read_text()), place, value))
    said = rf"damaged.json holds no result of tuning that can be read \({re.escape(said)}"
    with pytest.warns(UserWarning, match=said):
        assert tuned.everything() == {}
