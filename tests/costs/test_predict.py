"""Predictions follow what is known of blocks: caches, weights, loops and what a gradient keeps."""

import dataclasses

import jax
import pytest

from tdjax.costs.blocks import Blocks
from tdjax.costs.machine import Machine, current_machine, machine_of
from tdjax.costs.predict import forward_s, gradient_s
from tdjax.costs.traffic import Traffic
from tdjax.costs.work import Convolutions, Product, Work
from tdjax.devices.attached import assume

CPU = Machine(
    platform="cpu", dot_flops_s=1e11, conv_flops_s=1e11, transcendentals_s=1e9,
    near_bytes=2e6, far_bytes=32e6, near_bytes_s=6e10, far_bytes_s=2e10, memory_bytes_s=1e10,
    operation_s=5e-6, turn_s=2e-6, fresh_above=32e6, fresh_bytes_s=3e9,
)  # fmt: skip
NORMS = Work(traffic=(Traffic(50e3, 8e3, 0, 2e3),), live_bytes=8e3, kept_bytes=20e3,
             input_bytes=2e3, output_bytes=2e3, operations=20)  # fmt: skip
MLP = Work(products=(Product(8e6, 2e6),), traffic=(Traffic(1e5, 8e3, 17e6, 4e3),),
           live_bytes=8e3, kept_bytes=5e4, weight_bytes=17e6, operations=12)  # fmt: skip


def whole(rows):
    return Blocks(rows, 1)


def test_blocks_that_fit_the_caches_are_faster():
    assert forward_s(Blocks(500, 32, looped=True), NORMS, CPU) < 0.6 * forward_s(
        whole(16000), NORMS, CPU
    )


def test_blocks_that_read_many_weights_are_slower():
    assert forward_s(Blocks(16, 32), MLP, CPU) > 1.2 * forward_s(whole(512), MLP, CPU)


def test_blocks_too_small_cost_their_operations():
    assert forward_s(Blocks(2, 8000), NORMS, CPU) > 2 * forward_s(Blocks(500, 32), NORMS, CPU)


def test_a_map_over_time_moves_its_input_and_output():
    mapped = Blocks(1000, 1, transposed=True)
    assert forward_s(mapped, NORMS, CPU) > forward_s(whole(1000), NORMS, CPU)


def test_a_loop_stacks_what_it_keeps_unless_it_is_computed_anew():
    looped = Blocks(500, 32, looped=True)
    assert gradient_s(looped, NORMS, CPU) > gradient_s(Blocks(500, 32), NORMS, CPU)
    anew = dataclasses.replace(looped, remat=True)
    assert gradient_s(anew, NORMS, CPU) < gradient_s(looped, NORMS, CPU)


@pytest.mark.parametrize("work", [NORMS, MLP])
def test_a_gradient_costs_more_than_a_forward_pass(work):
    for blocks in (whole(4096), Blocks(512, 8), Blocks(512, 8, looped=True, remat=True)):
        assert gradient_s(blocks, work, CPU) > 2 * forward_s(blocks, work, CPU)


def test_convolutions_left_to_xla_are_slower_on_a_cpu_alone():
    cpu = dataclasses.replace(CPU, conv_flops_s=5e10, back_conv=1.2, plain_conv=3.0)
    convs = Work(convolutions=(Convolutions(1e8),), operations=3)
    products = Work(products=(Product(1e8, 1e8, one_place=True),), operations=3)
    ours, plain = Blocks(64, 1), Blocks(64, 1, plain=True)
    assert forward_s(plain, convs, cpu) == forward_s(ours, convs, cpu)
    assert gradient_s(plain, convs, cpu) > 1.5 * gradient_s(ours, convs, cpu)
    assert forward_s(plain, products, cpu) > 1.5 * forward_s(ours, products, cpu)
    gpu = dataclasses.replace(cpu, platform="gpu")
    for work in (convs, products):
        assert gradient_s(plain, work, gpu) == gradient_s(ours, work, gpu)


def test_what_one_core_computes_runs_side_by_side_where_blocks_are_written_out():
    cpu = dataclasses.replace(CPU, cores=2, narrow_conv=2.0, packed_values_s=1e9)
    narrow = Work(convolutions=(Convolutions(1e8, narrow=True),))
    packed = Work(convolutions=(Convolutions(1.0, packed_values=1e6, narrow=True),))
    whole, looped, written = Blocks(64, 1), Blocks(2, 32, looped=True), Blocks(2, 32)
    for seconds, work in ((forward_s, packed), (gradient_s, narrow)):
        assert seconds(looped, work, cpu) > 1.9 * seconds(written, work, cpu)
        assert seconds(whole, work, cpu) > 1.9 * seconds(written, work, cpu)
        # Of few blocks, cores wait for the last one.
        assert seconds(Blocks(32, 2), work, cpu) > 1.4 * seconds(written, work, cpu)
    # Where nothing is kept, convolutions have the same memory and wait for each other.
    assert forward_s(whole, narrow, cpu) == pytest.approx(forward_s(written, narrow, cpu))
    # With zeros between pixels they do not, and gain on any JAX.
    spaced = Work(convolutions=(Convolutions(1e8, narrow=True, spaced=True),))
    assert forward_s(whole, spaced, cpu) > 1.9 * forward_s(written, spaced, cpu)
    newer = dataclasses.replace(cpu, narrow_conv=0.9)
    assert forward_s(whole, spaced, newer) > 1.2 * forward_s(written, spaced, newer)
    assert (cpu.faster_by(1), cpu.faster_by(2)) == (1, 4 / 3)
    assert dataclasses.replace(cpu, cores=1).faster_by(8) == 1
    # What is taken apart into taps, all cores compute anyway.
    taps = Work(convolutions=(Convolutions(1e8, narrow=True, apart=True),))
    cpu = dataclasses.replace(cpu, apart_conv=1)
    assert forward_s(whole, taps, cpu) == pytest.approx(forward_s(written, taps, cpu))
    # With gradients, what is written out is not taken apart.
    slow = dataclasses.replace(cpu, apart_conv=1.5)
    assert forward_s(whole, taps, slow) == pytest.approx(forward_s(written, taps, slow))
    assert gradient_s(whole, taps, slow) > 1.3 * gradient_s(written, taps, slow)
    assert forward_s(dataclasses.replace(whole, plain=True), taps, cpu) > 1.9e-3 * 64


def test_memory_slows_down_bit_by_bit():
    sizes = [1e6, 2e6, 4e6, 16e6, 32e6, 64e6, 1e9]
    speeds = [CPU.bytes_s(size) for size in sizes]
    assert speeds == sorted(speeds, reverse=True)
    assert speeds[0] == CPU.near_bytes_s and speeds[-1] < 1.2 * CPU.memory_bytes_s


def test_an_accelerator_takes_all_at_once():
    gpu = machine_of("gpu")
    for work in (NORMS, MLP):
        assert forward_s(whole(16000), work, gpu) < forward_s(Blocks(500, 32), work, gpu)


def test_another_platform_can_be_assumed():
    attached = current_machine().platform
    with assume("tpu"):
        assert current_machine().platform == "tpu"
    assert current_machine().platform == attached == jax.default_backend()


def test_memory_that_comes_fresh_from_the_system_costs():
    heavy = dataclasses.replace(NORMS, live_bytes=20e3)
    seldom = dataclasses.replace(CPU, fresh_above=float("inf"))
    assert forward_s(whole(16000), heavy, CPU) > 1.5 * forward_s(whole(16000), heavy, seldom)
    few = Blocks(500, 32)
    assert forward_s(few, NORMS, CPU) < 1.1 * forward_s(whole(16000), NORMS, seldom)
