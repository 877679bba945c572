"""Files of devices: those of the first release are read, other versions are left out."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from tdjax.costs.machine import SPEEDS, _machine
from tdjax.devices import shipped
from tdjax.strategies.choosing import tuned

# Written by `tdjax tune dense --out FILE` of the first release, 0.1.0.
FIRST = Path(__file__).parent / "data" / "version-2.json"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of device files in the place of the package's own, which is empty yet."""
    monkeypatch.setattr(shipped, "_FOLDER", tmp_path)
    caches = shipped.devices, shipped.results, _machine
    for cache in caches:
        cache.cache_clear()
    yield tmp_path
    for cache in caches:
        cache.cache_clear()


def test_a_file_of_the_first_release_is_read(folder, monkeypatch):
    content = json.loads(FIRST.read_text())
    (folder / "first.json").write_text(FIRST.read_text())
    assert shipped.devices() == (content,)
    machine = _machine("cpu", content["kind"])
    assert {name: getattr(machine, name) for name in SPEEDS} == content["speeds"]
    assert machine.source == f"Speeds are those of this kind of device, {content['date']}."
    monkeypatch.setattr(tuned, "device_kind", lambda: content["kind"])
    (result,) = content["results"]
    (found,) = tuned.find_shipped(result["program"])
    assert found.sizes == (32, 10) and tuned.anything_known((32, 10))
    assert found.times == {each["strategy"]: each["median_s"] for each in result["candidates"]}
    assert tuned.find_shipped("another") == []


def test_a_change_of_fields_makes_a_new_version():
    """Adding, renaming or removing a speed or a result's field needs a new VERSION."""
    content = json.loads(FIRST.read_text())
    assert (content["format"], content["version"]) == (shipped.FORMAT, shipped.VERSION)
    assert list(content["speeds"]) == list(SPEEDS)
    (result,) = content["results"]
    assert list(result) == [field.name for field in fields(tuned.Tuned)]


@pytest.mark.parametrize("change", [{"version": 1}, {"version": 3}, {"format": "other"}])
def test_other_files_are_left_out_with_a_warning(folder, change):
    content = json.loads(FIRST.read_text())
    (folder / "a-first.json").write_text(json.dumps(content))
    (folder / "b-other.json").write_text(json.dumps({**content, **change}))
    with pytest.warns(UserWarning, match=r"b-other.json is left out: .*needed tdjax-device 2"):
        assert shipped.devices() == (content,)
