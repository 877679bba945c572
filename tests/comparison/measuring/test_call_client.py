"""Calls in other processes: with a deadline, and for their peak memory."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tdjax
from tdjax.comparison.measuring.call_client import CallClient
from tdjax.comparison.measuring.program import Building
from tdjax.comparison.system.child import TooSlow

MB = 10**6
LONG = 60.0

ARGUMENTS = ([np.linspace(0.0, 1.0, 1000, dtype=np.float32)], [])

pytestmark = pytest.mark.usefixtures("optimised")
has_peaks = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere no peak can be asked for"
)


@pytest.fixture(scope="module")
def client():
    with CallClient("cpu") as shared:
        yield shared


def spin(steps):
    """A program that loops for long, and cannot be interrupted."""

    def run(arrays, cotangents):
        return [jax.lax.fori_loop(0, steps, lambda i, x: jnp.sin(x) + 1e-3, arrays[0])]

    return Building(run, ARGUMENTS).finish()


@pytest.mark.usefixtures("on_cpu")
def test_the_worker_gives_the_answer_of_this_process(client):
    program = spin(10)
    call = client.first_call(program, ARGUMENTS, deadline=60)
    np.testing.assert_array_equal(call.outputs[0], program.executable(*ARGUMENTS)[0])
    assert call.seconds > 0
    assert client.first_call(program, ARGUMENTS, deadline=60, enough_s=50.0).outputs is None


@pytest.mark.usefixtures("on_cpu")
def test_a_call_past_its_deadline_is_ended_and_the_client_goes_on(client):
    client.first_call(spin(1), ARGUMENTS, deadline=60)
    child = client._children["first_call"]
    with pytest.raises(TooSlow):
        client.first_call(spin(10**9), ARGUMENTS, deadline=0.3)
    assert child.ended
    assert client.first_call(spin(1), ARGUMENTS, deadline=60).seconds > 0


def program(width):
    """Return a program with two temporaries of `width` MB each, and its arguments."""

    def run(arrays, cotangents):
        (x,) = arrays
        wide = jax.lax.sort(jnp.broadcast_to(x[:, None], (x.size, width * MB // 4 // x.size)))
        return [jax.lax.sort(wide[::-1]).sum(0)]

    arguments = ([jnp.arange(1000.0)], [])
    return Building(run, arguments).finish(), arguments


@has_peaks
def test_the_peak_is_that_of_this_program_alone(client):
    large, small = program(80), program(20)
    of_large = client.peak_memory(*large, LONG)
    # Not that of a process which has seen the large one.
    of_small = client.peak_memory(*small, LONG)
    assert large[0].temp_bytes > 80 * MB
    # A sort takes memory that its program does not know of.
    assert 1 <= of_large / large[0].temp_bytes < 2
    assert of_small < 0.5 * of_large


@has_peaks
def test_arguments_count_once(client):
    x = jnp.ones((5 * MB,))  # 20 MB
    one = Building(lambda arrays, _: [arrays[0][:3]], ([x], [])).finish()
    assert 20 * MB <= client.peak_memory(one, ([x], []), LONG) < 32 * MB


@has_peaks
def test_a_call_that_fails_or_takes_too_long_has_no_peak(client):
    def spin(arrays, cotangents):
        return [jax.lax.fori_loop(0, 2**31 - 1, lambda i, x: jnp.sin(x), arrays[0])]

    x = jnp.ones(3)
    assert client.peak_memory(Building(spin, ([x], [])).finish(), ([x], []), 2.0) is None
    fine = Building(lambda arrays, _: [arrays[0] + 1], ([x], [])).finish()
    assert client.peak_memory(fine, ([x, x], []), LONG) is None  # not what it was compiled for
    assert client.peak_memory(fine, ([x], []), LONG) >= x.nbytes


@has_peaks
def test_a_comparison_says_it():
    x = jnp.ones((4, 8, 32))
    vmap, mapped = tdjax.compare(jnp.tanh, x, strategies=("vmap", "map"), rounds=3).entries
    assert vmap.peak_bytes >= 2 * x.nbytes
    assert mapped.peak_bytes >= 2 * x.nbytes
