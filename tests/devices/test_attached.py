"""Which device programs are for; sizes of caches, as Linux tells them and where nothing does."""

import jax
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from tdjax.devices import attached, processor
from tdjax.devices.attached import assume, cache_bytes, cpu_caches, device_kind, platform

KIB = 1024


def test_a_cache_is_at_least_a_megabyte_wherever_this_runs(monkeypatch, tmp_path):
    assert cache_bytes("cpu") >= KIB**2
    assert cache_bytes("gpu") > 64 * KIB**2
    monkeypatch.setattr(processor, "_CACHES", tmp_path)
    assert cache_bytes("cpu") == 32 * KIB**2


def test_sizes_are_read_by_level(monkeypatch, tmp_path):
    monkeypatch.setattr(processor, "_CACHES", tmp_path)
    monkeypatch.setattr(attached, "cores", lambda: 3)
    assert cpu_caches() == (3 * KIB**2, 32 * KIB**2)
    for index, (level, size) in enumerate([(1, "48K"), (1, "32K"), (2, "512K"), (3, "96M")]):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        (folder / "level").write_text(f"{level}\n")
        (folder / "size").write_text(f"{size}\n")
    assert cpu_caches() == (3 * 512 * KIB, 96 * KIB**2)
    assert cache_bytes("cpu") == 96 * KIB**2
    (tmp_path / "index3" / "size").write_text("many")
    assert cpu_caches() == (3 * KIB**2, 32 * KIB**2)


def test_what_is_assumed_comes_before_a_mesh_and_a_mesh_before_what_is_attached():
    own = platform(), device_kind()
    assert own[0] == jax.default_backend()
    chips = AbstractDevice(device_kind="TPU v5 lite", num_cores=1, platform="tpu")
    mesh = AbstractMesh((2,), ("data",), abstract_device=chips)
    with jax.sharding.use_abstract_mesh(mesh):
        assert (platform(), device_kind()) == ("tpu", "TPU v5 lite")
        with assume("cuda", "NVIDIA H200"):
            assert (platform(), device_kind()) == ("gpu", "NVIDIA H200")
    with jax.sharding.use_abstract_mesh(AbstractMesh((2,), ("data",))):
        assert (platform(), device_kind()) == own
    with assume("tpu"):
        assert (platform(), device_kind()) == ("tpu", own[1])
    assert (platform(), device_kind()) == own


@pytest.mark.parametrize(("given", "found"), [("cuda", "gpu"), ("rocm", "gpu"), ("tpu", "tpu")])
def test_a_gpu_s_platform_is_what_jax_calls_its_backend(given, found):
    with assume(given):
        assert platform() == found
