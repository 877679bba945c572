"""What programs cost: against XLA's own analysis, and by hand where that counts loops once."""

import jax
import jax.numpy as jnp
import pytest
from compiling import AS_USERS_DO
from jax import lax

from tdjax.comparison import hlo

pytestmark = pytest.mark.usefixtures("optimised")


def compiled(function, *arguments):
    return jax.jit(function).lower(*arguments).compile(AS_USERS_DO)


def costs(function, *arguments):
    return hlo.costs(hlo.parse(compiled(function, *arguments).as_text()))


X, W, B = jnp.ones((32, 64)), jnp.ones((64, 128)), jnp.ones(128)


def dense(w, b, x):
    return jnp.maximum(x @ w + b, 0)


def attention(q):
    scores = jax.nn.softmax(jnp.einsum("bhqd,bhkd->bhqk", q, q))
    return jnp.einsum("bhqk,bhkd->bhqd", scores, q)


def max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (2, 2), "SAME")


def convolution(axes, **options):
    letters = "HWD"[:axes]
    labels = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    options = {"window_strides": (1,) * axes, "padding": "SAME", **options}
    return lambda x, w: lax.conv_general_dilated(x, w, dimension_numbers=labels, **options)


def image(axes):
    return jnp.ones((2, *(9, 8, 7)[:axes], 6))


def kernel(axes, taken, made):
    return jnp.ones((*(3, 2, 3)[:axes], taken, made))


def both_gradients(function):
    return jax.grad(lambda *arguments: function(*arguments).sum(), argnums=(0, 1))


def convolutions():
    for axes in (1, 2, 3):
        for name, options in {
            "same": {},
            "valid": {"padding": "VALID"},
            "strided": {"window_strides": (2,) * axes, "padding": [(1, 0)] * axes},
            "kernel dilated": {"rhs_dilation": (2,) * axes},
            "input dilated": {"lhs_dilation": (2,) * axes, "padding": [(2, 1)] * axes},
            "cropped": {"padding": [(-1, 2)] * axes},
        }.items():
            yield pytest.param(
                convolution(axes, **options), image(axes), kernel(axes, 6, 4), id=f"{axes}d {name}"
            )
        groups = convolution(axes, feature_group_count=3)
        yield pytest.param(groups, image(axes), kernel(axes, 2, 9), id=f"{axes}d groups")
        depthwise = convolution(axes, feature_group_count=6)
        yield pytest.param(depthwise, image(axes), kernel(axes, 1, 6), id=f"{axes}d depthwise")
    batches = convolution(2, batch_group_count=2)
    yield pytest.param(batches, image(2), kernel(2, 6, 4), id="2d batch groups")


def agrees(program):
    """Whether flops and bytes are XLA's; it counts the pointers of a tuple of results too."""
    module = hlo.parse(program.as_text())
    ours, theirs = hlo.costs(module), program.cost_analysis()
    pointers = 8 * len(module.entry.root.shape.members)
    assert ours.flops == theirs.get("flops", 0)
    assert 0 <= theirs["bytes accessed"] - ours.bytes_accessed <= pointers
    assert (ours.comm_bytes, ours.cycles) == (0, None)


@pytest.mark.parametrize(("function", "x", "w"), list(convolutions()))
def test_convolutions_and_their_gradients_cost_what_xla_says(function, x, w):
    agrees(compiled(lambda x, w: (function(x, w), both_gradients(function)(x, w)), x, w))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        pytest.param(dense, (W, B, X), id="dense"),
        pytest.param(jax.grad(lambda *a: dense(*a).sum(), (0, 1, 2)), (W, B, X), id="gradient"),
        pytest.param(attention, (jnp.ones((2, 4, 16, 8)),), id="attention"),
        pytest.param(
            jax.grad(lambda q: attention(q).sum()), (jnp.ones((2, 4, 16, 8)),), id="its gradient"
        ),
        pytest.param(
            lambda x: (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-6),
            (X,),
            id="normalisation",
        ),
        pytest.param(
            jax.grad(lambda x: max_pool(x).sum()),
            (X,),
            id="gradient of max-pooling",
        ),
        pytest.param(lambda x: jnp.sort(x, -1), (X,), id="sort"),
        pytest.param(lambda x: jnp.argmax(x, -1), (X,), id="argmax"),
        pytest.param(lambda x: jnp.concatenate([x, jnp.pad(x, 1)[1:-1, 1:-1]]), (X,), id="pieces"),
        pytest.param(lambda x, i: lax.dynamic_slice(x, (i, 0), (4, 64)) * 2, (X, 3), id="slice"),
        pytest.param(
            lambda x, w: x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16), (X, W), id="bfloat16"
        ),
        pytest.param(lambda x: (3 * x + 1) % 7, (jnp.arange(100),), id="integers"),
    ],
)  # fmt: skip
def test_programs_without_loops_cost_what_xla_says(function, arguments):
    agrees(compiled(function, *arguments))


STEPS, ROWS, SIZE = 6, 32, 48
STEP_FLOPS = 2 * ROWS * SIZE * SIZE
# A step reads its input and the weights and writes its output; elementwise work may be fused.
STEP_BYTES = 4 * (2 * ROWS * SIZE + SIZE * SIZE)


def scan(w, xs):
    return lax.map(lambda x: x @ w, xs)


def nested(w, xs):
    return lax.map(lambda i: scan(w, xs + i), jnp.arange(5.0))


SCANNED = jnp.ones((SIZE, SIZE)), jnp.ones((STEPS, ROWS, SIZE))


@pytest.mark.parametrize(("function", "runs"), [(scan, STEPS), (nested, 5 * STEPS)])
def test_a_loop_costs_as_often_as_it_runs(function, runs):
    program = compiled(function, *SCANNED)
    found = hlo.costs(hlo.parse(program.as_text()))
    assert runs * STEP_FLOPS <= found.flops <= 1.05 * runs * STEP_FLOPS
    # Slices and results are moved in and out of the stacked arrays: at most four times each.
    assert runs * STEP_BYTES <= found.bytes_accessed <= 4 * runs * STEP_BYTES
    assert program.cost_analysis()["flops"] < 1.1 * STEP_FLOPS


def test_a_gradient_of_a_scan_costs_three_times_the_forward_pass():
    found = costs(jax.grad(lambda w, xs: jnp.sin(scan(w, xs)).sum(), (0, 1)), *SCANNED)
    assert 3 * STEPS * STEP_FLOPS <= found.flops <= 3.1 * STEPS * STEP_FLOPS


def test_a_loop_of_unknown_length_leaves_its_figures_unknown():
    def until_small(w, xs):
        return lax.while_loop(lambda x: x.max() > 0.1, lambda x: x @ w, xs[0])

    found = costs(until_small, *SCANNED)
    assert (found.flops, found.bytes_accessed) == (None, None)
    assert found.comm_bytes == 0


def test_of_a_branch_the_worst_case_is_counted():
    def either(which, w, x):
        return lax.cond(which, lambda: x @ w, lambda: x[:, :1] * w[:1])

    found = costs(either, True, jnp.ones((SIZE, SIZE)), jnp.ones((ROWS, SIZE)))
    assert STEP_FLOPS <= found.flops <= 1.01 * STEP_FLOPS


def test_what_an_unknown_library_computes_is_unknown_and_what_it_touches_is_not():
    found = costs(lambda x: jnp.fft.fft(x), jnp.ones((4, 8), jnp.complex64))
    assert found.flops is None
    assert found.bytes_accessed == 2 * 4 * 8 * 8
