"""Files of tuning results: those of the first release are read, other versions are left out."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from tdjax import Fold, Vmap
from tdjax.strategies.choosing import tuned
from tdjax.strategies.choosing.measured import Measured

# Written by `tdjax tune dense` of the first release, 0.1.0.
FIRST = Path(__file__).parent / "data" / "version-3.json"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TDJAX_CACHE_DIR", str(tmp_path))
    (tmp_path / "tuning").mkdir()
    return tmp_path / "tuning"


def test_results_of_the_first_release_are_read(cache):
    shutil.copy(FIRST, cache)
    (found,) = tuned.everything()
    content = json.loads(FIRST.read_text())
    assert (found.title, found.mode, found.sizes) == ("build.<locals>.dense", "forward", (32, 10))
    assert found.program == content["program"] and found.versions == content["versions"]
    assert found.times == {each["strategy"]: each["median_s"] for each in content["candidates"]}
    assert [each.strategy for each in Measured([found]).first([])] == [Vmap(), Fold()]


def test_a_change_of_fields_makes_a_new_version(cache):
    """Adding, renaming or removing a field needs a new VERSION here and in devices/shipped.py."""
    content = json.loads(FIRST.read_text())
    assert (content.pop("format"), content.pop("version")) == (tuned.FORMAT, tuned.VERSION)
    assert list(content) == [field.name for field in dataclasses.fields(tuned.Tuned)]


@pytest.mark.parametrize("version", [1, 2, 4])
def test_other_versions_are_left_out_with_a_warning(cache, version):
    content = {**json.loads(FIRST.read_text()), "version": version}
    (cache / "other.json").write_text(json.dumps(content))
    said = rf"other.json .*it is of tdjax-tuning {version}, needed tdjax-tuning 3.*--clear"
    with pytest.warns(UserWarning, match=said):
        assert tuned.everything() == []


@pytest.mark.parametrize("change", [{"title": None}, {"sizes": 3}, {"more": 1}, {"candidates": 1}])
def test_a_result_that_is_damaged_is_left_out_with_a_warning(cache, change):
    content = {**json.loads(FIRST.read_text()), **change}
    if content["title"] is None:
        del content["title"]
    (cache / "damaged.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"damaged.json holds no result of tuning"):
        assert tuned.everything() == []
