"""What a device reaches at best: measured where it is here, published where it is not."""

import dataclasses
import math

import jax
import pytest

from tdjax.comparison.targets import catalog, ceilings
from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.targets.target import Target, attached

pytestmark = pytest.mark.usefixtures("optimised")


def test_memory_limits_below_the_ridge_and_compute_above_it():
    device = Ceilings(flops_per_s=100.0, bytes_per_s=20.0, source="made up")
    assert device.ridge == 5
    assert [device.at(intensity) for intensity in (0.5, 5, 50)] == [10, 100, 100]


@pytest.mark.parametrize("name", catalog.names())
def test_every_device_that_can_be_compiled_for_has_published_peaks(name):
    found = catalog.find(name).ceilings
    assert 20e12 < found.flops_per_s < 5e15 and 0.3e12 < found.bytes_per_s < 10e12
    assert any(word in found.source for word in ("google", "Jouppi", "NVIDIA"))


def test_a_chip_of_two_devices_gives_each_its_share():
    v5e, v7x = (catalog.find(name).ceilings for name in ("tpu:v5e", "tpu:v7x"))
    assert (v5e.flops_per_s, v5e.bytes_per_s) == (197e12, 819e9)
    assert catalog.find("tpu:v5e:2x4").ceilings == v5e
    assert (v7x.flops_per_s, v7x.bytes_per_s) == (2307e12 / 2, 7380e9 / 2)
    assert "2 devices" in v7x.source


def test_a_gpu_has_the_bandwidth_that_its_target_configuration_says():
    for name in ("gpu:a100", "gpu:h100", "gpu:h200", "gpu:b200"):
        config = catalog.find(name).topology["target_config"]
        line = next(line for line in config.splitlines() if "memory_bandwidth:" in line)
        found = catalog.find(name).ceilings.bytes_per_s
        assert found == pytest.approx(float(line.split(":")[1]), rel=0.05)


def test_an_attached_device_is_measured(monkeypatch):
    monkeypatch.setattr(ceilings, "_FIRST_WIDTH", 128)
    monkeypatch.setattr(ceilings, "_FIRST_BYTES", 2**20)
    monkeypatch.setattr(ceilings, "_SAMPLE_S", 0.0)
    cpu = next(target for target in attached() if target.name == "cpu")
    found = cpu.ceilings()
    assert found.source == "measured here: float32 product of 128 x 128 matrices, copy of 1.05 MB"
    assert all(0 < value < math.inf for value in (found.flops_per_s, found.bytes_per_s))


def test_a_larger_product_and_copy_are_taken_as_long_as_there_is_room(monkeypatch):
    seen = []
    monkeypatch.setattr(ceilings, "_product_s", lambda width: seen.append(width) or 1e-3)
    monkeypatch.setattr(ceilings, "_copy_s", lambda size: seen.append(size) or 1e-3)
    monkeypatch.setattr(ceilings, "_free", lambda device: 2**36)
    found = ceilings.measure(jax.local_devices(backend="cpu")[0])
    assert seen == [1024, 2304, 2**26, 15 * 2**26]
    assert found.flops_per_s == pytest.approx(2 * 2304**3 / 1e-3)
    assert found.bytes_per_s == pytest.approx(2 * 15 * 2**26 / 1e-3)
    seen.clear()
    monkeypatch.setattr(ceilings, "_free", lambda device: 32 * 12 * 512**2)
    ceilings.measure(jax.local_devices(backend="cpu")[0])
    assert seen == [512, 12 * 512**2]


def test_what_is_not_known_is_none(monkeypatch):
    def full(device):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

    cpu = next(target for target in attached() if target.name == "cpu")
    monkeypatch.setattr(ceilings, "measure", full)
    assert cpu.ceilings() is None
    new = dataclasses.replace(catalog.find("tpu:v5e"), name="tpu:v99", ceilings=None)
    assert Target("tpu:v99", "compiled", "TPU v99", 1, compiles_for=new).ceilings() is None
    assert Target("npu", "measured", "NPU", 1).ceilings() is None
