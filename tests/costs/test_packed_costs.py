"""Packed steps run in blocks on a CPU, and at once on a device that only many rows keep busy."""

import dataclasses

import pytest

from tdjax.costs.blocks import Blocks
from tdjax.costs.machine import machine_of
from tdjax.costs.packed import Packs, best_packs, break_even, packed_bytes, packed_s, surely_saved
from tdjax.costs.predict import forward_s
from tdjax.costs.traffic import Traffic
from tdjax.costs.work import Product, Work
from tdjax.devices.attached import assume

MLP = Work(products=(Product(8e6, 2e6),), traffic=(Traffic(1e5, 8e3, 17e6, 4e3),),
           stored_bytes=1e5, live_bytes=8e3, kept_bytes=5e4, input_bytes=4e3,
           output_bytes=4e3, weight_bytes=17e6, operations=12)  # fmt: skip
NORMS = Work(traffic=(Traffic(50e3, 8e3, 0, 2e3),), live_bytes=8e3, kept_bytes=20e3,
             input_bytes=2e3, output_bytes=2e3, operations=20)  # fmt: skip


@pytest.fixture(scope="module")
def h100():
    with assume("gpu", "NVIDIA H100 80GB HBM3"):
        return machine_of("gpu")


@pytest.fixture
def cpu():
    with assume("cpu"):
        return machine_of("cpu")


def up_to(work, batch, machine):
    """Return the part of real steps up to which packing 32 steps beats computing all."""
    packs, sure = best_packs(work, batch, 32, machine), surely_saved(work, machine)
    fold = forward_s(Blocks(batch * 32, 1, plain=True), sure, machine)
    return break_even(packs, sure, batch, 32, fold / 1.1, "forward", machine)


def test_a_cpu_has_blocks_that_fit_its_caches(cpu):
    for work in (MLP, NORMS):
        assert not best_packs(work, 32, 128, cpu).at_once
        assert surely_saved(work, cpu) == work


def test_what_keeps_a_device_busy_has_programs_of_a_quarter_to_all_rows(h100):
    assert best_packs(MLP, 32, 128, h100) == Packs(1024, (1, 2, 3, 4))


def test_rows_that_do_not_keep_it_busy_have_no_programs_of_their_own(h100):
    """Starting operations takes as long for a quarter of them as for all."""
    assert best_packs(MLP, 2, 8, h100) == Packs(4, (4,))
    slower = dataclasses.replace(h100, dot_flops_s=h100.dot_flops_s / 100)
    assert len(best_packs(MLP, 2, 8, slower).at_once) > 1


def test_a_loop_runs_where_its_turns_cost_less_than_rounding_up(h100):
    busy = dataclasses.replace(h100, turn_s=1e-9, operation_s=1e-9)
    packs = best_packs(MLP, 32, 4096, busy)
    assert not packs.at_once and packs.rows < 32 * 4096 / 4


def test_it_pays_once_rows_keep_the_device_busy(h100):
    parts = [up_to(MLP, batch, h100) for batch in (4, 16, 32, 128, 1024)]
    assert parts[0] == 0 and parts == sorted(parts) and parts[-1] == pytest.approx(0.75, abs=1e-5)
    assert {round(4 * part, 3) for part in parts} <= {0, 1, 2, 3}  # a program holds all or none


def test_what_is_one_pass_over_memory_anyway_does_not_pay(h100):
    """By the compiler, four norms move 67 MB whole, and 143 MB for a quarter of the rows."""
    assert up_to(NORMS, 512, h100) == 0
    assert up_to(dataclasses.replace(NORMS, stored_bytes=50e3), 512, h100) > 0.2


def test_time_follows_the_smallest_program_that_holds_the_rows(h100):
    packs = Packs(1024, (1, 2, 4))
    times = [packed_s(packs, MLP, 32, 128, part, h100) for part in (0.2, 0.25, 0.5, 0.6, 1.0)]
    assert times[0] == times[1] < times[2] < times[3] == times[4]


def test_memory_is_that_of_the_largest_program(h100):
    at_once, whole = Packs(1024, (1, 2, 3, 4)), Packs(4096)
    for gradient in (False, True):
        found = packed_bytes(at_once, MLP, 32, 128, gradient)
        assert found >= packed_bytes(whole, MLP, 32, 128, gradient) > 0
