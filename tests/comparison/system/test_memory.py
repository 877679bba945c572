"""A compiler that would take the machine's memory is ended, and the others go on."""

import os
import re
import subprocess
import sys

import pytest

from tdjax.comparison.compiling import client
from tdjax.comparison.compiling.client import Client
from tdjax.comparison.compiling.travel import Parcel
from tdjax.comparison.system import memory
from tdjax.comparison.system.child import Failed
from tdjax.comparison.targets import catalog

pytestmark = pytest.mark.usefixtures("optimised")

MB = 1_000_000
PARCEL = Parcel(b"", None, 0.0, 0.0, 1)

# Answers as a compiler does; "large" takes memory without end.
COMPILER = """
import pickle, sys, time
taken = []
while True:
    kind, payload = pickle.load(sys.stdin.buffer)
    if kind == "compile" and payload[0] == b"large":
        while True:
            taken.append(b"x" * 20_000_000)
            time.sleep(0.02)
    pickle.dump((1.0, "text", 0) if kind == "compile" else None, sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


def test_what_a_process_takes_and_what_is_left():
    before = memory.resident(os.getpid())
    block = b"x" * (200 * MB)
    grown = memory.resident(os.getpid()) - before
    assert 0.8 * len(block) < grown < 2 * len(block)
    assert 0 < memory.free() <= memory.total()
    assert memory.resident(2**30) is None


COPIED = """
import os
if os.fork():
    os.wait()
else:
    block = b"x" * 200_000_000
    print("ready", flush=True)
    input()
"""


def test_the_copies_of_a_process_count_with_it():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", COPIED], text=True, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        assert memory.resident(process.pid) > 200 * MB
        process.communicate("\n")


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Gives a machine of 8 GB with 6 GB to spare, whose control groups can be set."""

    def of(cgroup):
        group(
            tmp_path / "proc",
            meminfo="MemTotal: 8000000 kB\nMemFree: 1 kB\nMemAvailable: 6000000 kB",
        )
        group(tmp_path / "proc" / "self", cgroup=cgroup)
        return tmp_path / "cgroup"

    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
    return of


def test_a_machine_without_limits_has_what_it_says(machine):
    cgroups = machine("0::/user/shell\n")
    group(cgroups / "user", memory__max="max", memory__current="5", memory__stat="inactive_file 1")
    assert (memory.total(), memory.free()) == (8000000 * 1024, 6000000 * 1024)


def test_the_narrowest_control_group_counts_and_its_cache_is_free(machine):
    cgroups = machine("0::/user/shell\n")
    group(
        cgroups / "user" / "shell",
        memory__max="3000", memory__current="2000", memory__stat="anon 9\ninactive_file 500",
    )  # fmt: skip
    group(cgroups / "user", memory__max="4000", memory__current="3900", memory__stat="anon 9")
    assert (memory.total(), memory.free()) == (3000, 100)


def test_control_groups_of_version_one_count_too(machine):
    cgroups = machine("3:cpu:/here\n4:memory:/there/not/mounted\n")
    group(
        cgroups / "memory",
        memory__limit_in_bytes="3000", memory__usage_in_bytes="2500",
        memory__stat="total_inactive_file 300",
    )  # fmt: skip
    assert (memory.total(), memory.free()) == (3000, 800)


def test_where_memory_cannot_be_asked_nothing_is_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    assert memory.free() is None and memory.total() is None
    memory.Watch().check(os.getpid())


@pytest.fixture
def scarce(monkeypatch):
    """Has 1 GB to spare, less what the processes that are given take; each takes what is said."""
    takes = {}
    monkeypatch.setattr(memory, "total", lambda: 1000 * MB)
    monkeypatch.setattr(memory, "resident", takes.get)
    monkeypatch.setattr(memory, "free", lambda: 1000 * MB - sum(takes.values()))
    return takes


def test_of_several_processes_the_largest_is_ended(scarce):
    watch = memory.Watch()
    scarce.update({1: 300 * MB, 2: 500 * MB})
    watch.check(1)
    watch.check(2)
    scarce[1] = 460 * MB
    watch.check(1)
    with pytest.raises(memory.OutOfMemory) as caught:
        watch.check(2)
    assert (caught.value.resident, caught.value.free) == (500 * MB, 40 * MB)
    del scarce[2]
    watch.check(1)


def test_a_small_process_is_not_ended_for_what_others_take(scarce):
    scarce.update({1: 20 * MB, 99: 970 * MB})
    memory.Watch().check(1)


def test_a_compiler_that_takes_too_much_is_a_reason_and_is_replaced(monkeypatch, tmp_path):
    script = tmp_path / "compiler.py"
    script.write_text(COMPILER)
    monkeypatch.setattr(client, "_WORKER", script)
    monkeypatch.setattr(memory, "total", lambda: 400 * MB)
    with Client(catalog.find("tpu:v5e")) as compiler:
        monkeypatch.setattr(
            memory, "free", lambda: 400 * MB - (memory.resident(compiler._child.pid) or 0)
        )
        assert compiler.compile(PARCEL, 60).text == "text"
        with pytest.raises(Failed) as failure:
            compiler.compile(Parcel(b"large", None, 0.0, 0.0, 1), 60)
        said = str(failure.value)
        assert re.match(r"its compiler was ended: it took \d+ MB of memory, and .* were free", said)
        assert "fewer steps" in said and "unrolling" in said
        assert compiler.compile(PARCEL, 60).text == "text"
