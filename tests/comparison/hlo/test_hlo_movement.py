"""What moves data in a program, and where in the user's code it comes from."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from compiling import AS_USERS_DO

import tdjax
from tdjax.comparison import hlo
from tdjax.comparison.hlo import Steps, find_place

pytestmark = pytest.mark.usefixtures("optimised")

HERE = "test_hlo_movement.py:"
X = jnp.ones((5, 7, 6, 6, 3))  # (batch, time, height, width, channels)
STEPS = Steps(batch=5, time=7)


def movements(function, *arguments):
    text = jax.jit(function).lower(*arguments).compile(AS_USERS_DO).as_text()
    return hlo.movements(hlo.parse(text), STEPS)


def test_a_moved_axis_is_named_with_its_bytes():
    found = movements(lambda x: jnp.moveaxis(x, 1, 0).copy(), X)
    (moved,) = [m for m in found if m.kind == "transpose"]
    assert (moved.what, moved.count, moved.bytes) == ("time before batch", 1, 2 * X.nbytes)
    assert moved.place.source.endswith(f"{HERE}{line_of('jnp.moveaxis(x, 1, 0).copy()')}")


def line_of(text):
    lines = Path(__file__).read_text().splitlines()
    return 1 + next(number for number, line in enumerate(lines) if text in line)


def test_other_orders_are_written_out_with_the_names_that_are_sure():
    found = movements(lambda x: x.transpose(0, 1, 4, 2, 3).copy(), jnp.ones((5, 7, 6, 8, 3)))
    assert "(batch,time,6,8,3) to (batch,time,3,6,8) in memory" in {m.what for m in found}
    assert Steps(4, 4).names([4, 4, 3]) == {}
    assert Steps(4, 6).names([4, 4, 6]) == {6: "time"}


def test_an_order_that_only_the_labels_have_is_no_movement():
    assert movements(lambda x: x.transpose(0, 1, 2, 4, 3)[..., 0, :] * 2, X[..., :1]) == ()


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(4, (3, 3))(x))


@pytest.fixture(scope="module")
def net():
    variables = Net().init(jax.random.key(0), X[:, 0])

    def under(strategy):
        return tdjax.time_distributed(
            lambda v, x: Net().apply(v, x), in_axes=(None, 1), strategy=strategy
        )

    return under, variables


def test_a_place_is_operation_layer_and_line(net):
    under, variables = net
    text = jax.jit(under("fold")).lower(variables, X).compile(AS_USERS_DO).as_text()
    module = hlo.parse(text)
    instructions = [i for c in module.computations.values() for i in c.instructions.values()]
    (conv,) = [i for i in instructions if i.opcode == "convolution"]
    where = find_place(conv, module)
    assert (where.op, where.layer, where.backward) == ("conv_general_dilated", "Conv_0", False)
    assert where.source.endswith(f"{HERE}{line_of('nn.relu(nn.Conv(4')}")


def test_a_strategy_s_own_operations_are_around_the_steps(net):
    under, variables = net
    found = movements(under("map"), variables, X)
    (loop,) = [m for m in found if m.kind == "loop"]
    assert loop.place.around and loop.place.source is None and loop.count == 7
    moved = [m for m in found if m.kind == "transpose" and m.what == "time before batch"]
    assert moved and all(m.place.around for m in moved)


def test_a_gradient_s_operations_are_backward_and_keep_their_line(net):
    under, variables = net

    def loss(v, x):
        return jnp.sin(under("vmap")(v, x)).sum()

    found = movements(jax.grad(loss), variables, X)
    backward = [m for m in found if m.place.backward and m.place.layer == "Conv_0"]
    assert backward and all(HERE in m.place.source for m in backward)


def test_what_runs_in_a_loop_is_counted_as_often_as_it_runs():
    def turn(xs):
        return jax.lax.map(lambda x: jax.lax.optimization_barrier(x.T.copy()).T + 1, xs)

    found = movements(turn, jnp.ones((4, 30, 50)))
    turned = [m for m in found if m.kind == "transpose"]
    assert turned and all(m.count % 4 == 0 for m in turned)


TEXT = """\
HloModule f

ENTRY %main (x: f32[4,8], i: s32[4,1]) -> f32[32,8] {
  %x = f32[4,8]{1,0} parameter(0), metadata={op_name="x"}
  %i = s32[4,1]{1,0} parameter(1)
  %taken = f32[4,8]{1,0} gather(%x, %i), offset_dims={1}, metadata={op_name="jit(f)/vmap(Net)/Embed_0/gather" source_file="net.py" source_line=7}
  %empty = f32[4,8]{1,0} custom-call(), custom_call_target="AllocateBuffer"
  %product = (f32[4,4]{1,0}, s8[99]{0}) custom-call(%taken, %x), custom_call_target="__cublas$gemm", metadata={op_name="jit(f)/transpose(jvp(Net))/block/Dense_0/dot_general"}, backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
  %started = (f32[4,8]{1,0}, f32[32,8]{1,0}) all-gather-start(%taken), replica_groups=[1,8]<=[8], dimensions={0}
  ROOT %done = f32[32,8]{1,0} all-gather-done(%started)
}
"""  # noqa: E501


def test_gathers_collectives_and_custom_calls_are_found():
    found = {m.kind: m for m in hlo.movements(hlo.parse(TEXT))}
    assert set(found) == {"gather", "collective", "custom call"}
    gather = found["gather"]
    assert (gather.place.op, gather.place.layer, gather.place.source) == (
        "gather", "Embed_0", "net.py:7",
    )  # fmt: skip
    assert gather.bytes == 2 * 4 * 8 * 4 + 4 * 4
    product = found["custom call"]
    assert (product.what, product.place.layer) == ("__cublas$gemm", "block/Dense_0")
    assert product.place.backward
    assert found["collective"].what == "all-gather"


def test_a_collective_s_bytes_are_counted_once():
    found = hlo.costs(hlo.parse(TEXT))
    assert found.comm_bytes == 32 * 8 * 4
    assert found.flops == 2 * 4 * 4 * 8


CUDNN = """\
HloModule f

ENTRY %main (a: f32[{a}], b: f32[{b}]) -> f32[{r}] {{
  %a = f32[{a}]{{3,2,1,0}} parameter(0)
  %b = f32[{b}]{{3,2,1,0}} parameter(1)
  %call = (f32[{r}]{{3,2,1,0}}, u8[0]{{0}}) custom-call(%a, %b), window={{size=3x3 pad=1_1x1_1}}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$conv{kind}"
  ROOT %result = f32[{r}]{{3,2,1,0}} get-tuple-element(%call), index=0
}}
"""  # noqa: E501


@pytest.mark.parametrize(
    ("kind", "a", "b", "r"),
    [
        ("Forward", "2,6,6,3", "3,3,3,4", "2,6,6,4"),
        ("BackwardInput", "2,6,6,4", "3,3,3,4", "2,6,6,3"),
        ("BackwardFilter", "2,6,6,3", "2,6,6,4", "3,3,3,4"),
    ],
)
def test_a_convolution_of_cudnn_costs_what_its_shapes_say(kind, a, b, r):
    found = hlo.costs(hlo.parse(CUDNN.format(kind=kind, a=a, b=b, r=r)))
    assert found.flops == 2 * 2 * 3 * 4 * 16 * 16
