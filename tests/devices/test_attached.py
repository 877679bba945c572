"""Sizes of caches, as Linux tells them and where nothing does."""

from tdjax.devices import attached, processor
from tdjax.devices.attached import cache_bytes, cpu_caches

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
