"""What takes long to compile: blocks that are written out, and tdjax's own convolutions."""

import dataclasses

import pytest

from tdjax.costs.blocks import Blocks
from tdjax.costs.compiling import compile_size
from tdjax.costs.machine import machine_of
from tdjax.costs.work import Work
from tdjax.devices.attached import assume

NORMS, DENSE = Work(equations=106), Work(equations=2)
WHOLE = Blocks(4096, 1, plain=True)


@pytest.fixture
def cpu():
    """A CPU whose XLA convolves on one core, so that convolutions are taken apart."""
    with assume("cpu"):
        found = machine_of("cpu")
    return dataclasses.replace(found, narrow_conv=2.0, apart_conv=1.0, back_conv_2d=9.0)


def times(blocks, work, machine):
    return compile_size(blocks, work, machine) / compile_size(WHOLE, work, machine)


# Measured (4 layer norms, jax 0.10.2, forward): 1.5, 2.6, 3.5 to 4.3 and 8.3 times as long.
@pytest.mark.parametrize(("copies", "low", "high"), [(2, 1.2, 2), (4, 2, 3), (8, 3, 5), (16, 6, 9)])
def test_a_block_that_is_written_out_again_takes_half_as_long_as_the_first(copies, low, high, cpu):
    assert low < times(Blocks(4096 // copies, copies), NORMS, cpu) < high


def test_a_loop_is_written_once(cpu):
    assert times(Blocks(64, 64, looped=True), NORMS, cpu) < 1.1


def test_of_a_small_step_most_is_what_every_program_takes(cpu):
    written = Blocks(256, 8)
    assert times(written, DENSE, cpu) < 0.6 * times(written, NORMS, cpu)


def test_convolutions_in_their_own_forms_take_longer_on_a_cpu_alone(cpu):
    single = Blocks(4096, 1)
    taken_apart = Work(equations=20, part_equations=45)
    channels = Work(equations=20, own_equations=81)
    assert times(single, taken_apart, cpu) > 2 and times(single, channels, cpu) > 3
    together = dataclasses.replace(cpu, narrow_conv=1.0, back_conv=10.0)
    assert times(single, taken_apart, together) == 1 < times(single, channels, together)
    gpu = machine_of("gpu")
    assert times(single, taken_apart, gpu) == times(single, channels, gpu) == 1
