"""Free memory, of machines and containers that are described in files."""

import pytest

from tdjax.comparison import free_memory as module
from tdjax.comparison.free_memory import free_memory

KIB = 1024


@pytest.fixture
def described(tmp_path, monkeypatch):
    """Give a function that writes what a machine and its container say."""
    monkeypatch.setattr(module, "_MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(module, "_CONTAINER", tmp_path)

    def describe(available=None, limit=None, used=0, cached=0):
        if available is not None:
            (tmp_path / "meminfo").write_text(
                f"MemTotal: 9 kB\nMemAvailable:   {available} kB\nBuffers: 1 kB\n"
            )
        if limit is not None:
            (tmp_path / "memory.max").write_text(f"{limit}\n")
            (tmp_path / "memory.current").write_text(f"{used}\n")
            (tmp_path / "memory.stat").write_text(f"anon 3\ninactive_file {cached}\n")

    return describe


def test_nothing_is_known_where_nothing_is_said(described):
    assert free_memory() is None


def test_a_machine_tells_in_kilobytes(described):
    described(available=7)
    assert free_memory() == 7 * KIB


def test_a_container_without_a_limit_has_what_the_machine_has(described):
    described(available=7, limit="max", used=5)
    assert free_memory() == 7 * KIB


def test_the_tighter_of_both_counts_and_file_caches_can_be_dropped(described):
    described(available=7, limit=5 * KIB, used=4 * KIB, cached=KIB)
    assert free_memory() == 2 * KIB
    described(limit=50 * KIB, used=4 * KIB)
    assert free_memory() == 7 * KIB
