"""Convolutions inside loops: the meaning of JAX's own, in the form that is fast on a CPU."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from casebook import array
from jax import lax

from tdjax import Fold, Vmap, time_distributed
from tdjax.costs.machine import assume_machine, current_machine
from tdjax.strategies.convolution.forms import Copies
from tdjax.strategies.convolution.primitive import replace_convolutions as with_ours

# The forms of gradients, by how many axes those for kernels are left to XLA along.
LEFT = {1: {"b01f_01io->b01f", "b0f_0io->b0f"}, 2: {"b01f_01io->b01f"}}
# lhs, rhs, dimension numbers, and what else is not the default
CONVOLUTIONS = {
    "1d, strided": ((2, 9, 4), (3, 4, 6), ("NWC", "WIO", "NWC"), {"window_strides": (2,)}),
    "2d": ((2, 9, 8, 4), (3, 3, 4, 6), ("NHWC", "HWIO", "NHWC"), {}),
    "2d, channels first": (
        (2, 4, 9, 8), (6, 4, 3, 3), ("NCHW", "OIHW", "NCHW"), {"window_strides": (2, 1)},
    ),
    "2d, odd layouts, dilated": (
        (9, 2, 8, 4), (3, 4, 3, 6), ("HNWC", "HIWO", "NCHW"), {"rhs_dilation": (2, 1)},
    ),
    "2d, in groups": (
        (2, 9, 8, 4), (3, 3, 2, 6), ("NHWC", "HWIO", "NHWC"), {"feature_group_count": 2},
    ),
    "2d, depthwise, strided": (
        (2, 9, 8, 4), (3, 3, 1, 8), ("NHWC", "HWIO", "NHWC"),
        {"feature_group_count": 4, "window_strides": (2, 2)},
    ),
    "2d, depthwise, dilated": (
        (2, 9, 8, 4), (3, 2, 1, 4), ("NHWC", "HWIO", "NHWC"),
        {"feature_group_count": 4, "rhs_dilation": (2, 1)},
    ),
    "2d, depthwise, strided and transposed": (
        (2, 4, 9, 8), (4, 1, 3, 3), ("NCHW", "OIHW", "NHWC"),
        {"feature_group_count": 4, "window_strides": (2, 3), "lhs_dilation": (1, 2),
         "padding": [(1, 1), (0, 2)]},
    ),
    "2d, one place": ((2, 9, 8, 4), (1, 1, 4, 6), ("NHWC", "HWIO", "NHWC"), {}),
    "2d, one place, strided, padded": (
        (2, 4, 9, 8), (6, 4, 1, 1), ("NCHW", "OIHW", "NCHW"),
        {"window_strides": (2, 3), "padding": [(1, 2), (-1, 0)]},
    ),
    "2d, one place, strided and transposed": (
        (2, 9, 8, 4), (1, 1, 4, 6), ("NHWC", "HWIO", "NHWC"),
        {"window_strides": (3, 2), "lhs_dilation": (2, 3), "padding": [(0, 1), (2, 0)]},
    ),
    "2d, one place, in groups": (
        (2, 9, 8, 4), (1, 1, 2, 6), ("NHWC", "HWIO", "NHWC"), {"feature_group_count": 2},
    ),
    "2d, cropped": (
        (2, 9, 8, 4), (3, 3, 4, 6), ("NHWC", "HWIO", "NHWC"),
        {"padding": [(-1, 2), (1, -2)], "window_strides": (2, 2)},
    ),
    "2d, to some features": (
        (2, 16, 9, 8), (20, 16, 3, 2), ("NCHW", "OIHW", "NCHW"),
        {"window_strides": (1, 2), "rhs_dilation": (2, 1), "padding": [(2, -1), (-1, 1)]},
    ),
    "2d, to some features, in groups": (
        (2, 7, 6, 32), (3, 3, 16, 20), ("NHWC", "HWIO", "NHWC"), {"feature_group_count": 2},
    ),
    "2d, to some features, cropped by more than it has": (
        (2, 3, 5, 16), (4, 3, 16, 20), ("NHWC", "HWIO", "NHWC"),
        {"padding": [(-2, 6), (1, 1)], "rhs_dilation": (2, 1)},
    ),
    "3d, to some features": (
        (2, 4, 5, 6, 16), (2, 1, 3, 16, 8), ("NDHWC", "DHWIO", "NDHWC"),
        {"window_strides": (1, 2, 1)},
    ),
    "3d, to some features, in groups": (
        (2, 4, 5, 6, 32), (2, 1, 3, 16, 20), ("NDHWC", "DHWIO", "NDHWC"),
        {"feature_group_count": 2, "rhs_dilation": (2, 1, 1)},
    ),
    "no axes": ((5, 4), (4, 6), ("NC", "IO", "NC"), {}),
    "2d, smaller than the kernel": (
        (2, 2, 5, 4), (3, 3, 1, 4), ("NHWC", "HWIO", "NHWC"),
        {"feature_group_count": 4, "padding": "VALID"},
    ),
    "2d, many places": ((2, 9, 9, 2), (9, 9, 2, 3), ("NHWC", "HWIO", "NHWC"), {}),
    "2d, transposed": (
        (2, 9, 8, 4), (3, 3, 4, 6), ("NHWC", "HWIO", "NHWC"),
        {"lhs_dilation": (2, 1), "padding": [(1, 1), (0, 2)]},
    ),
    "2d, transposed, dilated, cropped": (
        (2, 5, 4, 3), (3, 2, 3, 2), ("NHWC", "HWIO", "NHWC"),
        {"lhs_dilation": (2, 3), "rhs_dilation": (2, 1), "padding": [(-1, 3), (2, -2)]},
    ),
    "2d, transposed, wide padding": (
        (2, 3, 4, 3), (2, 3, 3, 2), ("NHWC", "HWIO", "NHWC"),
        {"lhs_dilation": (2, 2), "padding": [(3, 4), (4, 3)]},
    ),
    "2d, strided and transposed": (
        (2, 5, 4, 3), (3, 3, 3, 2), ("NHWC", "HWIO", "NHWC"),
        {"lhs_dilation": (2, 3), "window_strides": (3, 2), "padding": [(1, 1), (0, 2)]},
    ),
    "2d, transposed, in groups": (
        (2, 5, 4, 6), (4, 4, 2, 6), ("NHWC", "HWIO", "NHWC"),
        {"lhs_dilation": (2, 2), "padding": [(2, 2), (2, 2)], "feature_group_count": 3},
    ),
    "2d, in many groups": (
        (2, 5, 4, 34), (3, 2, 2, 34), ("NHWC", "HWIO", "NHWC"), {"feature_group_count": 17},
    ),
    "1d, depthwise": (
        (2, 9, 4), (3, 1, 4), ("NWC", "WIO", "NWC"), {"feature_group_count": 4},
    ),
    "3d, transposed": (
        (2, 3, 4, 3, 2), (2, 3, 2, 2, 3), ("NDHWC", "DHWIO", "NDHWC"),
        {"lhs_dilation": (2, 1, 2), "padding": [(1, 1), (0, 2), (1, 0)]},
    ),
    "2d, in batch groups": (
        (4, 9, 8, 4), (3, 3, 4, 6), ("NHWC", "HWIO", "NHWC"), {"batch_group_count": 2},
    ),
    "3d": (
        (2, 5, 6, 5, 4), (3, 2, 3, 4, 6), ("NDHWC", "DHWIO", "NDHWC"),
        {"window_strides": (1, 2, 1)},
    ),
}  # fmt: skip


@pytest.fixture(params=list(CONVOLUTIONS))
def name(request):
    return request.param


def convolution(name):
    """Return a convolution, the same one replaced, and its operands."""
    lhs, rhs, numbers, options = CONVOLUTIONS[name]
    options = {"window_strides": (1,) * (len(lhs) - 2), "padding": "SAME", **options}

    def plain(x, kernel):
        return lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, **options)

    operands = array(*lhs), array(*rhs, seed=1)
    return plain, replace_convolutions(plain), operands


def replace_convolutions(function, copies=Copies.NONE):
    def run(*args):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        program = with_ours(closed, copies)
        leaves = jax.core.eval_jaxpr(program.jaxpr, program.consts, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), leaves)

    return run


def assert_same(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        largest = np.abs(np.asarray(other)).max(initial=0)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * float(largest))


@functools.cache
def computed(name):
    """Return what all give: for arguments, and mapped over two of each; all in one program."""
    plain, ours, operands = convolution(name)
    written_out = replace_convolutions(plain, Copies.WAITING)

    @jax.jit
    def values(x, kernel):
        xs, kernels = jnp.stack([x, 2 * x]), jnp.stack([kernel, -kernel])
        gradients = [jax.grad(loss(f), (0, 1)) for f in (ours, plain)]
        given = [
            (f(x, kernel), jax.grad(loss(f), (0, 1))(x, kernel)) for f in (ours, written_out, plain)
        ]
        mapped = [jax.vmap(f, (0, None))(xs, kernel) for f in (ours, plain)]
        return given, mapped, [jax.vmap(g)(xs, kernels) for g in gradients]

    return values(*operands)


def test_values_of_arguments_are_those_of_the_plain_one(name):
    # Values that a program closes over XLA computes ahead, by other means.
    (ours, written_out, plain), _, _ = computed(name)
    assert_same(ours, plain)
    assert_same(written_out, plain)


@pytest.mark.parametrize("weight", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if "to some features" in name])
def test_zeros_around_images_meet_weights_that_are_not_finite(name, weight):
    lhs, rhs, numbers, options = CONVOLUTIONS[name]
    options = {"window_strides": (1,) * (len(lhs) - 2), "padding": "SAME", **options}

    def plain(x, kernel):
        return lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, **options)

    kernel = array(*rhs, seed=1).at[(0,) * len(rhs)].set(weight)
    expected = jax.jit(plain)(array(*lhs), kernel)
    assert jnp.isnan(expected).any()
    found = jax.jit(replace_convolutions(plain))(array(*lhs), kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def loss(function):
    return lambda *args: jnp.sin(function(*args)).sum()


def test_values_and_both_derivatives_are_those_of_the_plain_one(name):
    plain, ours, operands = convolution(name)

    @jax.jit
    def values():
        gradients = [jax.grad(loss(f), (0, 1))(*operands) for f in (ours, plain)]
        return gradients, [jax.jvp(f, operands, operands) for f in (ours, plain)]

    gradients, derivatives = values()
    assert_same(*gradients)
    assert_same(*derivatives)
    assert_same(ours(*operands), plain(*operands))


def test_it_maps_and_its_gradient_maps(name):
    _, values, gradients = computed(name)
    assert_same(*values)
    assert_same(*gradients)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "complex64", "int32"])
@pytest.mark.parametrize(
    "name",
    ["2d", "2d, depthwise, dilated", "2d, one place, strided, padded", "2d, to some features"],
)
def test_other_dtypes(name, dtype):
    lhs, rhs, numbers, options = CONVOLUTIONS[name]
    options = {"window_strides": (1,) * (len(lhs) - 2), "padding": "SAME", **options}

    def plain(x, kernel):
        return lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, **options)

    x, kernel = ((3 * array(*lhs)).astype(dtype), (3 * array(*rhs, seed=1)).astype(dtype))
    rounding = 0 if dtype == "int32" else 8 * float(jnp.finfo(dtype).eps)

    @functools.partial(jax.jit, static_argnums=0)
    def values(function, x, kernel):
        if dtype == "int32":
            return [function(x, kernel)]
        output, pull_back = jax.vjp(function, x, kernel)
        return [output, *pull_back(output)]

    both = (values(function, x, kernel) for function in (replace_convolutions(plain), plain))
    for found, right in zip(*both, strict=True):
        assert found.dtype == right.dtype
        wide = found.dtype if dtype in ("complex64", "int32") else jnp.float32
        found, right = np.asarray(found).astype(wide), np.asarray(right).astype(wide)
        assert np.abs(found - right).max() <= rounding * np.abs(right).max()


def test_it_is_differentiated_twice_and_recomputed():
    x, kernel = jnp.ones((2, 5, 5, 3)), jnp.full((3, 3, 3, 2), 0.1)

    def plain(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    ours = replace_convolutions(jax.checkpoint(plain))

    @functools.partial(jax.jit, static_argnums=0)
    def twice(function):
        return jax.grad(lambda k: (jax.grad(loss(function), 1)(x, k) ** 2).sum())(kernel)

    assert_same(twice(ours), twice(plain))


@pytest.fixture(params=LEFT)
def axes(request):
    """A machine on which the gradient for a kernel is fastest as a convolution along so many."""
    slow = {1: "back_conv_2d", 2: "back_conv"}[request.param]
    with assume_machine(dataclasses.replace(current_machine(), **{slow: math.inf})):
        yield request.param


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("2d, one place, strided, padded", set()),  # products of matrices
        ("2d, depthwise, dilated", set()),  # sums of products
        ("2d, many places", {"b01f_01io->b01f"}),
        ("2d", LEFT),
        ("2d, transposed", LEFT),
        ("2d, in groups", LEFT),
    ],
)
def test_on_a_cpu_it_has_the_form_that_is_fastest(name, forms, axes):
    lhs, rhs, numbers, options = CONVOLUTIONS[name]
    options = {"window_strides": (1,) * (len(lhs) - 2), "padding": "SAME", **options}
    ours = replace_convolutions(
        lambda x, k: lax.conv_general_dilated(x, k, dimension_numbers=numbers, **options)
    )
    gradients = jax.jit(jax.value_and_grad(lambda *a: loss(ours)(*a), (0, 1)))
    compiled = gradients.lower(array(*lhs), array(*rhs)).compile().as_text()
    forms = forms[axes] if forms is LEFT else forms
    assert set(re.findall(r"dim_labels=(\S+?),", compiled)) == forms


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(("narrow", "forms"), [(1.0, {"b01f_01io->b01f"}), (2.0, {"b0f_0io->b0f"})])
def test_few_features_are_taken_apart_where_that_was_measured_to_be_faster(narrow, forms):
    def plain(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    x, kernel = array(2, 5, 4, 32), array(3, 3, 32, 32)
    machine = dataclasses.replace(current_machine(), narrow_conv=narrow, apart_conv=1.0)
    machine = dataclasses.replace(machine, tiled_conv=math.inf)
    with assume_machine(machine):
        compiled = jax.jit(replace_convolutions(plain)).lower(x, kernel).compile()
    assert set(re.findall(r"dim_labels=(\S+?),", compiled.as_text())) == forms
    assert_same(compiled(x, kernel), plain(x, kernel))


@pytest.mark.usefixtures("on_cpu")
def test_what_has_copies_beside_it_is_not_taken_apart_where_it_is_differentiated():
    """XLA computes it on one core, and the others compute its copies."""

    def plain(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def convolutions(function):
        program = jax.jit(function).lower(x, kernel).compile()
        return re.findall(r"dim_labels=(\S+?),", program.as_text())

    x, kernel = array(2, 5, 4, 32), array(3, 3, 32, 32)
    apart = {"narrow_conv": 2.0, "apart_conv": 1.0, "back_conv": 1.0, "back_conv_2d": 2.0}
    with assume_machine(dataclasses.replace(current_machine(), tiled_conv=math.inf, **apart)):
        once, beside = (replace_convolutions(plain, each) for each in (Copies.NONE, Copies.WAITING))
        assert convolutions(once) == convolutions(beside) == ["b0f_0io->b0f"]
        first, other = (jax.value_and_grad(loss(f), (0, 1)) for f in (once, beside))
        assert len(convolutions(first)) > len(convolutions(other)) == 3


TILED = {
    "same": ((2, 7, 8, 32), (3, 3, 32, 32), {}),
    "valid, channels first": (
        (8, 32, 6, 5), (32, 32, 3, 3), {"padding": "VALID", "numbers": ("NCHW", "OIHW", "NHWC")},
    ),
    "padded and cropped": (
        (3, 6, 9, 32), (3, 3, 32, 32), {"padding": [(2, -1), (-1, 3)]},
    ),
    "one output": ((32, 3, 3, 32), (3, 3, 32, 32), {"padding": "VALID"}),
    "large parts": ((4, 32, 33, 64), (3, 3, 64, 32), {}),
}  # fmt: skip


def tiled(lhs, rhs, options):
    """Return a convolution that is computed by tiles, the same one replaced, and its operands."""
    options = {"numbers": ("NHWC", "HWIO", "NHWC"), "padding": "SAME", **options}
    numbers = options.pop("numbers")

    def plain(x, kernel):
        return lax.conv_general_dilated(x, kernel, (1, 1), dimension_numbers=numbers, **options)

    return plain, replace_convolutions(plain), (array(*lhs), array(*rhs, seed=1))


def with_tiles(tiled_conv):
    return assume_machine(dataclasses.replace(current_machine(), tiled_conv=tiled_conv))


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("name", TILED)
def test_by_tiles_values_and_gradients_are_those_of_the_plain_one(name):
    plain, ours, operands = tiled(*TILED[name])

    def values(function):
        output, pull_back = jax.vjp(function, *operands)
        return output, pull_back(jnp.cos(output))

    with with_tiles(0.1):
        found = jax.jit(lambda: values(ours)).lower().compile()
    # Nothing but what answers that are not finite take is left of the convolution.
    assert found.as_text().count("conditional(") >= 3
    expected = jax.jit(lambda: values(plain))()
    for one, other in zip(jax.tree.leaves(found()), jax.tree.leaves(expected), strict=True):
        size = float(np.abs(np.asarray(other)).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * size)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("pixel", [np.inf, np.nan, 3e38])
def test_by_tiles_what_is_not_finite_reaches_what_sees_it_alone(pixel):
    plain, ours, (x, kernel) = tiled(*TILED["same"])

    def values(function, x):
        output, pull_back = jax.vjp(function, x, kernel)
        return output, *pull_back(jnp.cos(output))

    x = x.at[0, 3, 4, 2].set(pixel)
    with with_tiles(0.1):
        found, expected = jax.jit(lambda x: (values(ours, x), values(plain, x)))(x)
    assert 0 < np.isnan(expected[0]).sum() + np.isinf(expected[0]).sum() < expected[0].size
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
        np.testing.assert_array_equal(np.isinf(one), np.isinf(other))


@pytest.mark.usefixtures("on_cpu")
def test_tiles_are_taken_where_they_were_measured_to_be_faster_and_may_be():
    plain, ours, (x, kernel) = tiled(*TILED["same"])
    exact = functools.partial(
        lax.conv_general_dilated, window_strides=(1, 1), padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest",
    )  # fmt: skip

    def takes(function, tiled_conv, *operands):
        # A function that was lowered before is not lowered again.
        program = jax.jit(lambda *args: function(*args))
        with with_tiles(tiled_conv):
            return "conditional(" in program.lower(*operands).compile().as_text()

    assert takes(ours, 0.1, x, kernel)
    assert not takes(ours, 2.0, x, kernel)
    assert not takes(plain, 0.1, x, kernel)
    assert not takes(replace_convolutions(exact), 0.1, x, kernel)
    assert not takes(ours, 0.1, x[..., :8], kernel[:, :, :8])
    assert not takes(ours, 0.1, x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))


@pytest.mark.usefixtures("on_cpu")
def test_what_is_written_out_has_no_tiles_and_the_same_values():
    """Fifty operations for one, again for every block, would take minutes to compile."""
    plain, _, (x, kernel) = tiled(*TILED["same"])
    steps = jnp.stack([x + number for number in range(4)], 1)
    expected = jnp.stack([plain(step, kernel) for step in np.moveaxis(steps, 1, 0)], 1)
    for strategy, has in [
        (Fold(chunk_size=4), True),
        (Fold(chunk_size=4, unroll=True), False),
        (Fold(chunk_size=4, unroll=2), False),
        (Fold(chunk_size=8, unroll=True), True),
        (Vmap(chunk_size=2, unroll=True), False),
        (Vmap(chunk_size=2), True),
    ]:
        step = time_distributed(plain, in_axes=(1, None), strategy=strategy)

        def values(steps, step=step):
            output, pull_back = jax.vjp(step, steps, kernel)
            return output, pull_back(jnp.ones_like(output))

        with with_tiles(0.1):
            program = jax.jit(values).lower(steps).compile()
        assert ("conditional(" in program.as_text()) is has, strategy
        np.testing.assert_allclose(program(steps)[0], expected, rtol=0, atol=2e-4)


def test_convolutions_are_found_however_deep():
    def deep(x, kernel):
        @jax.jit
        def inner(x):
            def body(x, _):
                numbers = ("NWC", "WIO", "NWC")
                conv = lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=numbers)
                return lax.cond(True, lambda: conv, lambda: x), None

            return lax.scan(body, x, length=2)[0]

        return inner(x)

    operands = jnp.ones((2, 5, 3)), jnp.ones((3, 3, 3))
    text = str(with_ours(jax.make_jaxpr(deep)(*operands)))
    assert "tdjax_conv_general_dilated" in text
    assert not re.search(r"(?<!tdjax_)conv_general_dilated", text)
    assert_same(replace_convolutions(deep)(*operands), deep(*operands))


def conv_net(kernel, x):
    numbers = ("NCHW", "OIHW", "NCHW")
    conv = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
    return jax.nn.relu(conv)


KERNEL = array(4, 4, 3, 3)
FRAMES = array(2, 6, 4, 5, 5)  # (batch, time, channels, h, w)


def gradient(strategy):
    def total(kernel, x):
        return loss(time_distributed(conv_net, in_axes=(None, 1), strategy=strategy))(kernel, x)

    return jax.jit(jax.grad(total, (0, 1)))


@pytest.mark.parametrize(
    "strategy",
    [
        Vmap(chunk_size=1),
        Vmap(chunk_size=2, remat=True),
        Vmap(chunk_size=1, unroll=2),
        Fold(chunk_size=3),
        Fold(chunk_size=5, remat=True),
    ],
    ids=str,
)
@pytest.mark.usefixtures("on_cpu")
def test_in_a_loop_on_a_cpu_every_convolution_has_the_fast_form(strategy, axes):
    """XLA leaves it as it is in there, and runs any other form some thirty times slower."""
    compiled = gradient(strategy).lower(KERNEL, FRAMES).compile().as_text()
    forms = set(re.findall(r"dim_labels=(\S+?),", compiled))
    beside = bool(strategy.unroll)  # of two bodies a turn one is beside the other
    assert forms == LEFT[2 if beside else axes]
    assert_same(gradient(strategy)(KERNEL, FRAMES), gradient("vmap")(KERNEL, FRAMES))


def test_a_scanned_wrapper_can_be_folded_by_another():
    """What one wrapper puts in the place of a convolution, the other's proof follows."""

    def clip(x):
        return time_distributed(conv_net, in_axes=(None, 1), strategy="map")(KERNEL, x)

    clips = jnp.stack([FRAMES, -FRAMES], 1)  # (batch, clips, time, channels, h, w)
    folded = time_distributed(clip, strategy="fold")(clips)
    assert_same(folded, time_distributed(clip, strategy="unroll")(clips))


def test_elsewhere_it_is_the_plain_convolution():
    traced = gradient("map").trace(KERNEL, FRAMES)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert "[b, f, 0, 1]x[o, i, 0, 1]->[b, f, 0, 1]" in text
    assert "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" not in text
    on_cpu = traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "[b, f, 0, 1]" not in on_cpu


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(("images", "by_tiles"), [(2, False), (4, True)])
def test_few_tiles_are_not_worth_the_sums_over_a_kernel(images, by_tiles):
    """Images of 7 x 7 have 16 tiles each, and the kernel 64 channels."""
    _, ours, operands = tiled((images, 7, 7, 64), (3, 3, 64, 64), {})
    with with_tiles(0.1):
        found = jax.jit(ours).lower(*operands).compile()
    assert ("conditional(" in found.as_text()) == by_tiles
