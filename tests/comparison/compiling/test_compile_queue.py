"""How the time for many programs is shared out, with a compiler whose times are known."""

import time

import pytest

from tdjax.comparison.compiling import queue
from tdjax.comparison.compiling.client import Compiled
from tdjax.comparison.compiling.group import CompiledGroup, Lowered
from tdjax.comparison.compiling.queue import compile_groups
from tdjax.comparison.compiling.travel import Parcel
from tdjax.comparison.system.child import Failed, TooSlow
from tdjax.comparison.targets import catalog
from tdjax.comparison.verdicts.entry import Group

TEXT = """HloModule m

ENTRY %%main {
  %%p = f32[8]{0} parameter(0)
  ROOT %%r = f32[8]{0} add(%%p, %%p)%s
}
"""
ESTIMATE = ', backend_config={"window_config":{"estimated_cycles":"42"}}'
V5E = catalog.find("tpu:v5e")


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class Compiler:
    """Optimizes 1000 operations a second, and takes ten times that to generate their code."""

    start_s = 0.4

    def __init__(self, device, watch):
        pass

    def compile(self, parcel, deadline, patience):
        optimized = parcel.operations / 1000
        whole = 11 * optimized
        if whole <= min(deadline, optimized + patience):
            time.now += whole
            return Compiled(whole, TEXT % ESTIMATE, 0)
        if optimized > deadline:
            time.now += deadline
            raise TooSlow
        time.now += min(deadline, optimized + patience) + 1
        return Compiled(None, TEXT % "", None)

    def close(self):
        pass


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(queue, "time", made)
    monkeypatch.setattr(queue, "Client", Compiler)
    monkeypatch.setitem(globals(), "time", made)
    return made


def compiled(sizes, within, timeout=60.0, reference=None):
    """Return the entries of a group of programs of these sizes, whose strategies are numbers."""
    lowered = [Lowered(i, Parcel(b"", None, 0.1, 0.1, size)) for i, size in enumerate(sizes)]
    group = CompiledGroup(Group("w", V5E.name, "compiled", "grad"), V5E, lowered, reference, None)
    compile_groups([group], timeout, within, lambda group, candidate, final: None)
    return group.entries


def test_without_a_limit_every_program_is_compiled_to_its_end(clock):
    entries = compiled([10, 3000, 500], None)
    assert [(e.status, e.error, e.estimated_cycles) for e in entries] == [("ok", None, 42)] * 3
    assert [e.compile_s for e in entries] == [pytest.approx(11 * s / 1000) for s in (10, 3000, 500)]


def test_a_short_time_costs_the_large_programs_their_cycles_and_nothing_else(clock):
    sizes = [5000, 100, 3000, 150, 2000, 200, 4000, 120]
    entries = compiled(sizes, 60.0)
    assert {e.status for e in entries} == {"ok"}
    assert {e.flops for e in entries} == {8.0} and {e.bytes_accessed for e in entries} == {96.0}
    small = [e for e, size in zip(entries, sizes, strict=True) if size <= 200]
    large = [e for e in entries if e not in small]
    assert all(e.estimated_cycles == 42 and e.error is None for e in small)
    for entry in large:
        assert entry.estimated_cycles is entry.compile_s is entry.temp_bytes is None
        assert entry.program is None and entry.same_as is None
        assert entry.error == (
            "optimized, but its code was not generated in its share of this comparison's time: "
            "no estimate of cycles"
        )
    assert clock.now <= 61


def test_a_program_that_takes_its_own_time_is_cut_and_said(clock):
    (entry,) = compiled([20_000], None, timeout=60.0)
    assert entry.error.startswith("optimized, but its code was not generated in 61 s: no estim")
    assert entry.status == "ok" and entry.flops == 8.0
    (entry,) = compiled([70_000], None, timeout=60.0)
    assert (entry.status, entry.flops) == ("timeout", None)
    assert entry.error == "cut: its compiler was still running after 60 s"


def test_no_time_leaves_every_program_out(clock):
    assert {(e.status, e.error) for e in compiled([10, 20], 0.0)} == {
        ("timeout", "not compiled: this comparison's time was used up")
    }


def test_the_reference_s_code_is_generated_first(clock):
    entries = compiled([1400, 1400, 1400], 40.0, reference=1)
    assert [e.estimated_cycles for e in entries] == [None, 42, None]
    assert [e.flops for e in entries] == [8.0, 8.0, 8.0]


def test_a_compiler_that_fails_when_it_generates_code_leaves_what_is_known(clock, monkeypatch):
    def fail_late(self, parcel, deadline, patience):
        time.now += 1
        if patience > 1:
            raise Failed("out of memory")
        return Compiled(None, TEXT % "", None)

    monkeypatch.setattr(Compiler, "compile", fail_late)
    (entry,) = compiled([100], 40.0)
    assert (entry.status, entry.flops, entry.estimated_cycles) == ("ok", 8.0, None)
