"""Peak memory of one call in a fresh process."""

import sys

import jax
import jax.numpy as jnp
import pytest

import tdjax
from tdjax.comparison.measuring.peak_memory import PeakMemory
from tdjax.comparison.measuring.program import Building

MB = 10**6
LONG = 60.0

pytestmark = [
    pytest.mark.usefixtures("optimised"),
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="elsewhere no peak can be asked for"
    ),
]


@pytest.fixture(scope="module")
def peaks():
    with PeakMemory("cpu") as peaks:
        yield peaks


def program(width):
    """Return a program with two temporaries of `width` MB each, and its arguments."""

    def run(arrays, cotangents):
        (x,) = arrays
        wide = jax.lax.sort(jnp.broadcast_to(x[:, None], (x.size, width * MB // 4 // x.size)))
        return [jax.lax.sort(wide[::-1]).sum(0)]

    arguments = ([jnp.arange(1000.0)], [])
    return Building(run, arguments).finish(), arguments


def test_the_peak_is_that_of_this_program_alone(peaks):
    large, small = program(80), program(20)
    of_large = peaks.measure(*large, LONG)
    of_small = peaks.measure(*small, LONG)  # not that of the process: that has seen the large one
    assert large[0].temp_bytes > 80 * MB
    # A sort takes memory that its program does not know of.
    assert 1 <= of_large / large[0].temp_bytes < 2
    assert of_small < 0.5 * of_large


def test_arguments_count_once(peaks):
    x = jnp.ones((5 * MB,))  # 20 MB
    one = Building(lambda arrays, _: [arrays[0][:3]], ([x], [])).finish()
    assert 20 * MB <= peaks.measure(one, ([x], []), LONG) < 32 * MB


def test_a_call_that_fails_or_takes_too_long_has_no_peak(peaks):
    def spin(arrays, cotangents):
        return [jax.lax.fori_loop(0, 2**31 - 1, lambda i, x: jnp.sin(x), arrays[0])]

    x = jnp.ones(3)
    assert peaks.measure(Building(spin, ([x], [])).finish(), ([x], []), 2.0) is None
    fine = Building(lambda arrays, _: [arrays[0] + 1], ([x], [])).finish()
    assert peaks.measure(fine, ([x, x], []), LONG) is None  # not what it was compiled for
    assert peaks.measure(fine, ([x], []), LONG) >= x.nbytes


def test_a_comparison_says_it():
    x = jnp.ones((4, 8, 32))
    vmap, mapped = tdjax.compare(jnp.tanh, x, strategies=("vmap", "map"), rounds=3).entries
    assert vmap.peak_bytes >= 2 * x.nbytes
    assert mapped.peak_bytes >= 2 * x.nbytes
