"""What XLA for CPUs computes in one pass is what it says of its programs, and what a row costs."""

import jax
import jax.numpy as jnp
import pytest
from compiling import optimise

from tdjax import time_distributed
from tdjax.core.call import trace
from tdjax.costs.flat import flat
from tdjax.costs.fusion import LEAST, fusions
from tdjax.costs.reading import work_of

FEATURES = 64
ROW = FEATURES * 4
SCALE = jnp.linspace(0.5, 2, FEATURES)


def norm(x):
    centered = x - x.mean(-1, keepdims=True)
    return centered * jax.lax.rsqrt((centered * centered).mean(-1, keepdims=True) + 1e-6) * SCALE


def chain(x):
    return norm(norm(norm(x)))


def activated(x):  # activations are called programs; the last one's constants are read twice
    return jax.nn.gelu(norm(jax.nn.gelu(norm(x))))


def gated(x):  # XLA computes a logistic function by a constant
    return jax.nn.silu(norm(jax.nn.silu(norm(x))))


def selected(x):  # the library has no choices
    return norm(jax.nn.leaky_relu(norm(x)))


def between_products(x):
    return norm(x @ jnp.eye(FEATURES)) @ jnp.eye(FEATURES)


def row_work(fun, batch=8):
    call = time_distributed(fun).bind((jnp.ones((batch, 4, FEATURES)),), {}, None, None)
    return work_of(trace(call, call.batch).jaxpr, call.batch, call.has_rows())


def found(fun, rows=LEAST):
    program = flat(jax.make_jaxpr(fun)(jnp.ones((rows, FEATURES))).jaxpr)
    with_rows = {*program.inputs}
    rowed = []
    for line in program.lines:
        rowed.append(any(read in with_rows for read in line.reads if isinstance(read, int)))
        with_rows.update(line.writes if rowed[-1] else ())
    return fusions(program, rowed)


def test_a_chain_of_norms_is_read_once_and_written_once():
    work = row_work(chain)
    assert work.fused.moved_bytes == 2 * ROW and work.fused.operations == 1
    assert work.moved_bytes > 6 * ROW
    assert work.forward(LEAST) is work.fused and work.forward(LEAST - 1) is work


@pytest.mark.parametrize(("fun", "constants"), [(activated, 4), (gated, 1)])
def test_a_constant_that_is_read_outside_as_well_is_in_memory(fun, constants):
    (part,) = found(fun)
    assert len(part.constants) == constants
    # Each is written and read; so is what the norms are computed from, and the last activation.
    assert row_work(fun).fused.moved_bytes == (constants + 2) * 2 * ROW


def test_what_the_library_lacks_divides_a_chain():
    assert len(found(chain)) == 1 and len(found(selected)) == 2
    assert row_work(selected).fused.operations > row_work(chain).fused.operations


def test_norms_between_products_are_a_part():
    work = row_work(between_products)
    # Two products, which read and write, and the norm.
    assert work.fused.operations == 3 and work.fused.moved_bytes == 3 * 2 * ROW


@pytest.mark.parametrize("fun", [jnp.tanh, lambda x: jnp.tanh(x) @ jnp.eye(FEATURES)])
def test_nothing_is_a_part_without_a_reduction(fun):
    work = row_work(fun)
    assert work.fused is None and work.forward(1e9) is work


@pytest.mark.parametrize("dtype", [int, jnp.float16])
def test_not_all_types_are_the_librarys(dtype):
    def centered(x):
        x = x.astype(dtype)
        return (x - jax.lax.reduce_max(x, (1,))[:, None]) * 2

    assert not found(centered)


def test_what_nothing_reads_is_no_part():
    def unused(x):
        jnp.tanh(x)
        return norm(x)

    assert [len(each.inside) for each in found(unused)] == [
        len(each.inside) for each in found(norm)
    ]


def test_keys_in_a_step_are_no_part():
    def noisy(x):
        key = jax.random.key(0)
        return norm(x + jax.random.normal(key, x.shape))

    assert row_work(noisy).fused is not None


def test_what_a_gradient_keeps_is_counted_as_before():
    work = row_work(chain)
    assert work.kept_bytes > 3 * ROW and work.fused.kept_bytes <= work.kept_bytes


def test_a_loop_inside_a_step_has_parts_of_its_own():
    def looped(x):
        return jax.lax.scan(lambda h, _: (norm(h), None), x, None, length=5)[0]

    work = row_work(looped)
    assert work.fused.moved_bytes < work.moved_bytes


@pytest.fixture
def compiled_as_users_do():
    optimise(True)
    yield
    optimise(False)


@pytest.mark.parametrize("fun", [chain, activated, gated, selected])
def test_this_is_what_xla_does(fun, compiled_as_users_do):
    """Fails where an XLA fuses in another way: then `fusion.py` has to be read against it."""

    def parts(rows):
        compiled = jax.jit(fun).lower(jnp.ones((rows, FEATURES))).compile()
        text = compiled.as_text()
        return text[text.index("ENTRY") :].count("__ynn_fusion"), compiled.memory_analysis()

    number, memory = parts(LEAST)
    assert number == len(found(fun))
    constants = frozenset().union(*(each.constants for each in found(fun)))
    repeated = sum(aval.size * aval.dtype.itemsize for _, aval in constants)
    assert repeated <= memory.temp_size_in_bytes < repeated + 2 * LEAST * ROW
    assert parts(LEAST - 1)[0] > number
