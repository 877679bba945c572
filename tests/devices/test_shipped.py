"""Files of devices: those of this version are read, other versions are left out."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from damaging import random_damage

from tdjax.costs.machine import _OF_PREDICTIONS, _machine
from tdjax.devices import shipped
from tdjax.strategies.choosing import tuned

# Written by `tdjax tune dense --out FILE`.
FIRST = Path(__file__).parent / "data" / "version-6.json"
OLDER = [FIRST.with_name(f"version-{number}.json") for number in (3, 4, 5)]


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


def test_a_file_of_this_version_is_read(folder, monkeypatch):
    content = json.loads(FIRST.read_text())
    (folder / "first.json").write_text(FIRST.read_text())
    (found,) = shipped.devices()
    read = json.loads(json.dumps(vars(found), default=vars))
    assert read.pop("probed") == {}  # it is from before there were any
    assert read.items() <= content.items()
    machine = _machine("cpu", content["kind"])
    assert machine.speeds == content["speeds"]
    versions = content["versions"]
    said = f"Speeds are those of this kind of device, {content['date']}, jax {versions['jax']}."
    assert machine.source.startswith(said)
    monkeypatch.setattr(tuned, "device_kind", lambda: content["kind"])
    (result,) = content["results"]
    (found,) = tuned.find_shipped(result["program"])
    assert found.sizes == (32, 10) and tuned.anything_known((32, 10))
    assert set(found.bounds_s) == {each["strategy"] for each in result["candidates"]}
    assert tuned.find_shipped("another") == []


@pytest.mark.parametrize("older", OLDER, ids=lambda path: path.stem)
def test_a_file_of_an_older_version_is_read(folder, older):
    content = json.loads(older.read_text())
    (folder / "older.json").write_text(older.read_text())
    (found,) = shipped.devices()
    assert found.speeds == content["speeds"]
    machine = _machine("cpu", content["kind"])
    # What made up for earlier predictions is not taken.
    theirs = {n: v for n, v in content["speeds"].items() if n not in _OF_PREDICTIONS}
    assert theirs and {**theirs, **_OF_PREDICTIONS}.items() <= machine.speeds.items()
    assert machine.naive_flops_s < machine.channel_flops_s < 1e12


def test_what_is_taken_for_an_older_version_is_what_predictions_are_fitted_with_now():
    fitted = [each.speeds for each in shipped.devices() if each.speeds.keys() >= {*shipped.SPEEDS}]
    assert len(fitted) >= 2
    for name, usual in _OF_PREDICTIONS.items():
        found = [speeds[name] for speeds in fitted]
        assert min(found) <= usual <= max(found), name


def test_a_change_of_fields_makes_a_new_version():
    """Adding, renaming or removing a speed or a result's field needs a new VERSION."""
    content = json.loads(FIRST.read_text())
    assert (content["format"], content["version"]) == (shipped.FORMAT, shipped.VERSION)
    assert list(content["speeds"]) == list(shipped.SPEEDS)
    (result,) = content["results"]
    assert list(result) == [field.name for field in fields(tuned.Tuned)]


@pytest.mark.parametrize("change", [{"version": 2}, {"version": 7}, {"format": "other"}])
def test_other_files_are_left_out_with_a_warning(folder, change):
    content = json.loads(FIRST.read_text())
    (folder / "a-first.json").write_text(json.dumps(content))
    (folder / "b-other.json").write_text(json.dumps({**content, **change}))
    with pytest.warns(UserWarning, match=r"b-other.json is left out: .*needed tdjax-device 6"):
        assert len(shipped.devices()) == 1


@pytest.mark.filterwarnings("ignore:.*damaged.json is left out")
def test_whatever_is_damaged_is_left_out_or_taken(folder):
    whole, left_out = FIRST.read_text(), 0
    kind = json.loads(whole)["kind"]
    for seed in range(150):
        (folder / "damaged.json").write_bytes(random_damage(whole, seed))
        for cache in (shipped.devices, shipped.results, _machine):
            cache.cache_clear()
        left_out += not shipped.devices()
        assert _machine("cpu", kind).bytes_s(1e6) > 0
    assert 75 < left_out < 150


def test_speeds_that_are_not_known_are_named(folder):
    content = json.loads(FIRST.read_text())
    content["speeds"] |= {"warp": 9.0}
    (folder / "fast.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="left out: speeds that are missing or not known: warp"):
        assert shipped.devices() == ()
