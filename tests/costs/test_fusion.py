"""What XLA for CPUs computes in one pass is what it says of its programs, and what a row costs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from compiling import optimise

from tdjax import explain, time_distributed
from tdjax.core.call import trace
from tdjax.costs.flat import flat
from tdjax.costs.fusion import LEAST, fusions
from tdjax.costs.reading import work_of
from tdjax.devices.attached import assume

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


def row_work(fun, features=(FEATURES,)):
    call = time_distributed(fun).bind((jnp.ones((8, 4, *features)),), {}, None, None)
    return work_of(trace(call, call.batch).jaxpr, call.batch, call.has_rows())


def in_parts(fun):
    """Return what a row costs in blocks in which the library has all parts that there are."""
    return row_work(fun).forward(float("inf"))


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
    ((least, parts),) = work.fused
    assert least == LEAST and parts.moved_bytes == 2 * ROW and parts.operations == 1
    assert work.moved_bytes > 6 * ROW
    assert work.forward(LEAST) is parts and work.forward(LEAST - 1) is work


@pytest.mark.parametrize(("fun", "constants"), [(activated, 4), (gated, 1)])
def test_a_constant_that_is_read_outside_as_well_is_in_memory(fun, constants):
    (part,) = found(fun)
    assert len(part.constants) == constants
    # Each is written and read; so is what the norms are computed from, and the last activation.
    assert in_parts(fun).moved_bytes == (constants + 2) * 2 * ROW


def test_what_the_library_lacks_divides_a_chain():
    assert len(found(chain)) == 1 and len(found(selected)) == 2
    assert in_parts(selected).operations > in_parts(chain).operations


def test_norms_between_products_are_a_part():
    work = in_parts(between_products)
    # Two products, which read and write, and the norm.
    assert work.operations == 3 and work.moved_bytes == 3 * 2 * ROW


def test_larger_blocks_have_more_parts():
    def pooled(x):  # of 16 tokens a row, and of one
        return norm(jnp.cumsum(norm(x), 1)[:, -1])

    work = row_work(pooled, (16, FEATURES))
    (few, some), (most, every) = work.fused
    assert (few, most) == (LEAST / 16, LEAST)
    assert work.moved_bytes > some.moved_bytes > every.moved_bytes
    assert [work.forward(rows) for rows in (few - 1, few, most)] == [work, some, every]


def test_arrays_without_numbers_are_nothing_much():
    assert row_work(lambda x: x - x.sum(-1, keepdims=True), (0,)).moved_bytes >= 0


@pytest.mark.parametrize("fun", [jnp.tanh, lambda x: jnp.tanh(x) @ jnp.eye(FEATURES)])
def test_nothing_is_a_part_without_a_reduction(fun):
    work = row_work(fun)
    assert work.fused == () and work.forward(1e9) is work


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

    assert row_work(noisy).fused


def test_what_a_gradient_keeps_is_counted_as_before():
    work = row_work(chain)
    assert work.kept_bytes > 3 * ROW and in_parts(chain).kept_bytes <= work.kept_bytes


def test_an_explanation_says_so():
    x = jnp.ones((8, 4, FEATURES))
    said = "Forward, in blocks of 4096 rows or more, XLA computes reductions and what is about them"
    with assume("cpu"):
        assert f"{said} in one pass: a row has 512 B of traffic there." in str(explain(chain, x))
        assert said not in str(explain(jnp.tanh, x))


def test_a_loop_inside_a_step_has_parts_of_its_own():
    def looped(x):
        return jax.lax.scan(lambda h, _: (norm(h), None), x, None, length=5)[0]

    assert in_parts(looped).moved_bytes < row_work(looped).moved_bytes


@pytest.fixture
def compiled_as_users_do():
    optimise(True)
    yield
    optimise(False)


def rms_norm(x):
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)


def layer(module):
    variables = module.init(jax.random.key(0), jnp.ones((1, FEATURES)))
    return lambda x: module.apply(variables, module.apply(variables, x))


CHAINS = {
    "LayerNorm": layer(nn.LayerNorm()),
    "RMSNorm": layer(nn.RMSNorm()),
    "GroupNorm": layer(nn.GroupNorm(8)),
    "softmax": lambda x: jax.nn.softmax(jax.nn.softmax(x)),
    "log_softmax": lambda x: jax.nn.log_softmax(jax.nn.log_softmax(x)),
    "standardize": lambda x: jax.nn.standardize(jax.nn.relu(jax.nn.standardize(x))),
    "lengths": lambda x: x / jnp.linalg.norm(x / jnp.linalg.norm(x, axis=-1, keepdims=True)),
    "bfloat16": lambda x: rms_norm(rms_norm(x.astype(jnp.bfloat16))),
    "residual": lambda x: x + rms_norm(x) + norm(jnp.tanh(x)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_other_kinds_are_what_xla_makes_of_them(name, compiled_as_users_do):
    text = jax.jit(CHAINS[name]).lower(jnp.ones((LEAST, FEATURES))).compile().as_text()
    assert text[text.index("ENTRY") :].count("__ynn_fusion") == len(found(CHAINS[name]))


def normed(operation, *others):
    """Return an operation between two reductions: one part of the library, if it has it."""

    def fun(x):
        x = x - x.mean(-1, keepdims=True)
        x = operation(x, *others)
        return x - x.max(-1, keepdims=True)

    return fun


# fmt: off
UNARY = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "bessel_i0e", "bessel_i1e", "cbrt",
    "ceil", "cos", "cosh", "digamma", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor",
    "lgamma", "log", "log1p", "logistic", "neg", "reciprocal", "round", "rsqrt", "sign", "sin",
    "sinh", "sqrt", "square", "tan", "tanh",
)
BINARY = ("add", "atan2", "div", "max", "min", "mul", "nextafter", "pow", "rem", "sub")
# fmt: on
OPERATIONS = {
    **{name: normed(getattr(jax.lax, name)) for name in UNARY},
    "integer_pow": normed(jax.lax.integer_pow, 3),
    "clamp": normed(lambda x: jax.lax.clamp(-1.0, x, 1.0)),
    "reduce_precision": normed(lambda x: jax.lax.reduce_precision(x, 5, 5)),
    "convert_element_type": normed(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32)),
    "pad": normed(lambda x: jnp.pad(x, ((0, 0), (0, 8)))),
    "rev": normed(lambda x: x[:, ::-1]),
    "transpose": normed(lambda x: x.reshape(-1, 8, 8).swapaxes(1, 2).reshape(x.shape)),
    "cumsum": normed(lambda x: jnp.cumsum(x, 1)),
    "reduce_prod": normed(lambda x: x * x.prod(-1, keepdims=True)),
    "reduce_min": normed(lambda x: x * x.min(-1, keepdims=True)),
    "argmax": normed(lambda x: x * x.argmax(-1, keepdims=True)),
    "var": normed(lambda x: x / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)),
    "where": normed(lambda x: jnp.where(x > 0, x, 2 * x)),
}
OTHER = jnp.linspace(0.5, 1.5, LEAST * FEATURES).reshape(LEAST, FEATURES)
OPERATIONS |= {name: normed(getattr(jax.lax, name), OTHER) for name in BINARY}


@pytest.mark.parametrize("name", OPERATIONS)
def test_xla_says_of_each_operation_whether_the_library_has_it(name, compiled_as_users_do):
    x = jnp.ones((LEAST, FEATURES))
    text = jax.jit(OPERATIONS[name]).lower(x).compile().as_text()
    assert text[text.index("ENTRY") :].count("__ynn_fusion") == len(found(OPERATIONS[name]))


@pytest.mark.parametrize("fun", [chain, activated, gated, selected])
def test_this_is_what_xla_does(fun, compiled_as_users_do):
    """Fails where an XLA fuses in another way: then `fusion.py` has to be read against it."""

    def parts(rows):
        compiled = jax.jit(fun).lower(jnp.ones((rows, FEATURES))).compile()
        text = compiled.as_text()
        return text[text.index("ENTRY") :].count("__ynn_fusion"), compiled.memory_analysis()

    number, memory = parts(LEAST)
    assert number == len(found(fun))
    constants = {key for each in found(fun) for key in each.constants}
    repeated = sum(aval.size * aval.dtype.itemsize for _, aval in constants)
    assert repeated <= memory.temp_size_in_bytes < repeated + 2 * LEAST * ROW
    assert parts(LEAST - 1)[0] > number
