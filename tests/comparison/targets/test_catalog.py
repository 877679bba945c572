"""Which devices can be compiled for."""

import importlib.util

import pytest

from tdjax.comparison.targets import catalog
from tdjax.comparison.targets.target import resolve


def test_every_device_is_found_by_its_name_and_has_its_compiler():
    names = catalog.names()
    assert {"tpu:v4", "tpu:v5e", "tpu:v5p", "tpu:v6e", "gpu:a100", "gpu:h100"} <= set(names)
    assert {"gpu:h200", "gpu:b200"} <= set(names)
    for name, compiler in names.items():
        device = catalog.find(name)
        assert (device.name, device.compiler) == (name, compiler)
        assert device.topology["platform"] == compiler.platform


@pytest.mark.parametrize("name", ["cpu", "tpu", "tpu:v9", "gpu:gtx", "tpu:", "abacus:v5e"])
def test_other_names_are_no_device(name):
    assert catalog.find(name) is None


@pytest.mark.parametrize(
    ("name", "topology", "bounds"),
    [
        ("tpu:v5e", "v5e:2x2", (2, 2, 1)),
        ("tpu:v5e:2x4", "v5e:2x4", (2, 2, 1)),
        ("tpu:v6e:1x1", "v6e:1x1", (1, 1, 1)),
        ("tpu:v5p:2x2x4", "v5p:2x2x4", (2, 2, 1)),
        ("tpu:v7x", "tpu7x:2x2x1", (2, 2, 1)),
    ],
)
def test_a_topology_is_made_of_whole_hosts(name, topology, bounds):
    options = catalog.find(name).topology
    assert (options["topology_name"], options["chips_per_host_bounds"]) == (topology, bounds)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tpu:v5e:3x3", "whole hosts.*tpu:v5e:2x2"),
        ("tpu:v5e:2x2x1", "2 sizes"),
        ("tpu:v4:2x2", "3 sizes.*tpu:v4:2x2x1"),
        ("tpu:v5e:big", "'big' does not fit"),
        ("tpu:v5e:0x2", "'0x2' does not fit"),
        ("gpu:h100:many", "not a number of GPUs"),
    ],
)
def test_a_topology_that_cannot_be_is_refused(name, said):
    with pytest.raises(ValueError, match=said):
        catalog.find(name)


@pytest.mark.parametrize("model", ["a100", "h100", "h200", "b200"])
def test_a_gpu_s_configuration_names_what_xla_needs(model):
    config = catalog.find(f"gpu:{model}").topology["target_config"]
    # A configuration without a runtime version makes XLA leave out rewrites in silence.
    for field in ("cuda_compute_capability", "core_count", "runtime_version", "dnn_version_info"):
        assert field in config
    assert model.upper() in config and config.count("{") == config.count("}")


def test_eight_gpus_are_one_host():
    assert catalog.find("gpu:h100:8").topology["topology"] == "1x1x8"


@pytest.fixture
def no_compilers(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_a_missing_compiler_is_said_with_its_pip_line(no_compilers):
    for name, extra in (("tpu:v5e", "tpu"), ("gpu:h100", "cuda13")):
        with pytest.raises(ImportError, match=rf"{name}.*pip install 'tdjax\[{extra}\]'"):
            resolve(name)


def test_targets_without_their_compiler_are_left_out_with_a_warning_where_others_are(no_compilers):
    with pytest.warns(UserWarning, match=r"left out: .*pip install") as warned:
        targets = resolve(["tpu:v5e", "cpu", "gpu:h100", "tpu:v6e"])
    assert [target.name for target in targets] == ["cpu"]
    assert len(warned) == 2
    assert "tpu:v5e, tpu:v6e: the compiler, libtpu" in str(warned[0].message)
    assert "gpu:h100: the compiler" in str(warned[1].message)


def test_an_unknown_target_is_said_with_all_that_are_known():
    with pytest.raises(ValueError, match=r"'tpu:v9' is unknown; known are cpu.*tpu:v5e.*gpu:b200"):
        resolve("tpu:v9")
