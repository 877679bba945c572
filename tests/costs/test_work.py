"""What a row costs, counted by hand for functions that are small enough."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from tdjax import time_distributed
from tdjax.core.call import trace
from tdjax.costs.reading import work_of

FLOAT = 4


def work(fun, *args, in_axes=1):
    call = time_distributed(fun, in_axes=in_axes).bind(args, {}, None, None)
    return work_of(trace(call, call.batch).jaxpr, call.batch, call.has_rows())


def clips(*features, batch=6, time=5):
    return jnp.ones((batch, time, *features))


def test_a_matrix_product():
    weights = jnp.ones((16, 32))
    found = work(lambda x: x @ weights, clips(16))
    assert found.dot_flops == 2 * 16 * 32 and found.conv_flops == 0
    assert found.weight_bytes == 16 * 32 * FLOAT
    assert (found.input_bytes, found.output_bytes) == (16 * FLOAT, 32 * FLOAT)
    assert found.moved_bytes == found.live_bytes == (16 + 32) * FLOAT
    assert found.kept_bytes == 16 * FLOAT  # a gradient for the weights needs what they multiply
    assert found.operations == 1 and not found.has_own_forms


@pytest.mark.parametrize("features", [16, 32])
@pytest.mark.parametrize(("groups", "strides"), [(1, 1), (2, 1), (1, 2)])
def test_a_convolution(groups, strides, features):
    kernel = jnp.ones((3, 3, 8 // groups, features))

    def conv(x):
        return jax.lax.conv_general_dilated(
            x, kernel, (strides, strides), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # fmt: skip

    side = 12 // strides
    found = work(conv, clips(12, 12, 8))
    assert found.conv_flops == 2 * side * side * features * 9 * 8 // groups
    (convolution,) = found.convolutions
    assert convolution.narrow == (features > 16) and convolution.naive == (groups > 1)
    assert found.dot_flops == 0
    assert found.largest_patch_bytes == (12 * 12 * 8 + side * side * features) * FLOAT
    assert found.weight_bytes == kernel.nbytes


@pytest.mark.parametrize(("window", "features"), [(1, 16), (3, 16), (3, 65)])
def test_convolutions_that_all_cores_compute(window, features):
    kernel = jnp.ones((window, 8, features))

    def conv(x):
        return jax.lax.conv_general_dilated(
            x, kernel, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
        )

    found = work(conv, clips(12, 8))
    flops = 2 * 12 * window * 8 * features
    assert (found.dot_flops, found.conv_flops) == ((flops, 0) if window == 1 else (0, flops))
    assert not any(each.narrow for each in found.convolutions)
    assert all(each.one_place for each in found.products) and found.has_own_forms


def test_a_kernel_a_channel():
    def conv(x):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, jnp.ones((3, 3, 1, 8)), (1, 1), "SAME", dimension_numbers=numbers,
            feature_group_count=8,
        )  # fmt: skip

    found = work(conv, clips(12, 12, 8))
    assert found.channel_flops == 2 * 12 * 12 * 8 * 9 and found.has_own_forms
    assert found.convolutions == () and found.patch_bytes == 0


def test_zeros_between_pixels_are_not_multiplied():
    def conv(x):
        return jax.lax.conv_transpose(x, jnp.ones((4, 4, 8, 3)), (2, 2), "SAME")

    found = work(conv, clips(6, 6, 8))
    (convolution,) = found.convolutions
    assert convolution.flops == 2 * 12 * 12 * 3 * 2 * 2 * 8
    assert convolution.spaced and convolution.naive


def test_elementwise_operations_are_one():
    found = work(lambda x: jnp.tanh(x * 2 + 1) * 3, clips(16))
    assert found.operations == 1 and found.transcendentals == 16
    assert found.moved_bytes == 2 * 16 * FLOAT


def test_what_two_operations_read_is_in_memory():
    def twice(x):
        hidden = jnp.exp(x)
        return hidden.sum(-1), hidden.max(-1)

    found = work(twice, clips(16))
    assert found.operations == 3  # exp, sum, max
    assert found.moved_bytes == (16 + 16) * FLOAT + 2 * (16 + 1) * FLOAT


def test_live_bytes_are_those_of_the_widest_moment():
    narrow, wide = jnp.ones((8, 64)), jnp.ones((64, 8))
    found = work(lambda x: (x @ narrow) @ wide, clips(8))
    assert found.live_bytes == (8 + 64) * FLOAT  # the input is dead when the output is born
    assert found.kept_bytes == (8 + 64) * FLOAT


def test_what_is_repeated_for_every_row_may_be_in_memory_but_is_not_counted_on():
    bias = jnp.ones(16)
    found, without = work(lambda x: jnp.exp(x + bias), clips(16)), work(jnp.exp, clips(16))
    assert found.live_bytes == without.live_bytes
    assert (found.spread_bytes, without.spread_bytes) == (16 * FLOAT, 0)


def test_a_row_costs_the_same_whatever_the_batch():
    dense = nn.Dense(32)
    variables = dense.init(jax.random.key(0), jnp.ones((1, 16)))
    few, many = (work(lambda x: dense.apply(variables, x), clips(16, batch=b)) for b in (3, 30))
    assert few == many


def test_a_loop_counts_as_often_as_it_runs():
    weights = jnp.ones((16, 16))

    def looped(x):
        return jax.lax.scan(lambda h, _: (h @ weights, None), x, None, length=7)[0]

    assert work(looped, clips(16)).dot_flops == 7 * 2 * 16 * 16


def test_calls_inside_are_followed():
    weights = jnp.ones((16, 16))
    inner = jax.jit(jax.checkpoint(lambda x: jax.nn.relu(x @ weights)))
    assert work(lambda x: inner(inner(x)), clips(16)).dot_flops == 2 * 2 * 16 * 16


def test_shared_arguments_are_weights():
    found = work(lambda w, x: x @ w, jnp.ones((16, 4)), clips(16), in_axes=(None, 1))
    assert found.weight_bytes == 16 * 4 * FLOAT and found.input_bytes == 16 * FLOAT


def test_equations_are_counted_with_those_inside_of_others_and_of_forms():
    def step(x):
        return jax.lax.scan(lambda carry, _: (jnp.sin(carry) * 2, None), x, None, length=3)[0]

    found = work(step, clips(4))
    assert (found.equations, found.own_equations, found.part_equations) == (3, 0, 0)

    def conv(groups, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        kernel = jnp.ones((3, 5, 8 // groups, 8))
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups
        )

    one, channels = (work(functools.partial(conv, n), clips(7, 7, 8)) for n in (1, 8))
    assert (one.own_equations, one.part_equations) == (0, 3 * 5)  # one for each row of the kernel
    assert (channels.own_equations, channels.part_equations) == (3 * 15, 0)


def test_what_reductions_move_may_be_fused_and_what_products_move_may_not():
    weights = jnp.ones((16, 16))
    assert work(lambda x: x - x.mean(-1, keepdims=True), clips(16)).stored_bytes == 0
    product = work(lambda x: (x @ weights).sum(-1), clips(16))
    assert product.stored_bytes == 2 * 16 * FLOAT < product.moved_bytes


def test_few_values_of_several_axes_are_one_cores_and_few_channels_are_put_in_order_singly():
    def conv(channels, features):
        numbers = ("NHWC", "HWIO", "NHWC")
        kernel = jnp.ones((3, 3, channels, features))
        (found,) = work(
            lambda x: jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=numbers
            ),
            clips(4, 4, channels),
        ).convolutions
        return found

    many, few, colors = conv(128, 128), conv(64, 128), conv(3, 128)
    assert few.narrow and not many.narrow
    assert few.packed_values == 16 * 9 * 64
    assert colors.packed_values > 3 * 16 * 9 * 3


def test_what_pooling_looks_at():
    window = (1, 2, 2, 1)

    def pool(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")

    found = work(pool, clips(8, 8, 4))
    assert found.pooled_values == 3 * 8 * 8 * 4 and found.has_own_forms


def test_products_are_told_apart_by_their_size_and_by_whether_they_are_batched():
    weights = jnp.ones((16, 16))
    found = work(lambda x: (x @ weights) @ weights + jnp.einsum("bij,bkj->bik", x, x)[..., :1] * 0,
                 clips(8, 16))  # fmt: skip
    kinds = {each.batched: (each.flops, each.once) for each in found.products}
    assert kinds[False] == (2 * 2 * 8 * 16 * 16, 2 * 8 * 16 * 16)
    assert kinds[True] == (2 * 8 * 8 * 16, 2 * 8 * 8 * 16)


def test_what_lies_between_two_uses_of_a_value():
    """Half of what each operation uses that uses it, and all between these."""
    weights = [jnp.ones((8, 8)) for _ in range(4)]

    def chain(x):
        for each in weights:
            x = x @ each
        return x

    row = 8 * FLOAT
    found = work(chain, clips(8))
    at = sorted((each.between, each.bytes) for each in found.traffic)
    # Of a chain only what it was given, and the first place that it writes, are farther away.
    assert at[0][0] == 2 * row and sum(size for _, size in at) == 8 * row
    assert max(each.between for each in found.traffic) <= found.live_bytes

    def again(x):
        first = x @ weights[0]
        last = first
        for each in weights[1:]:
            last = last @ each
        return first * last

    assert max(each.between for each in work(again, clips(8)).traffic) > 2 * row


def test_a_gradient_keeps_what_something_reads_that_is_not_linear():
    weights = jnp.ones((8, 8))
    linear = work(lambda x: x @ weights + 1.0, clips(8))
    square = work(lambda x: jnp.square(x @ weights), clips(8))
    assert linear.kept_bytes == 8 * FLOAT < square.kept_bytes


def test_a_scan_keeps_in_every_turn_what_it_carries():
    """What it multiplies by has no rows, and is read as weights are."""
    w = jnp.ones((8, 8))

    def step(x):
        return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, None, length=5)[0]

    found, once = work(step, clips(8)), work(lambda x: jnp.tanh(x @ w), clips(8))
    assert found.weight_bytes == once.weight_bytes == 64 * FLOAT
    assert found.dot_flops == 5 * once.dot_flops
    assert found.kept_bytes >= 5 * 8 * FLOAT > once.kept_bytes
