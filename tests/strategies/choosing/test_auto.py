"""What auto chooses: by prediction, among what keeps the meaning, the same for the same input."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tdjax
import tdjax.linen
from tdjax import Auto, Fold, Packed, Vmap, time_distributed
from tdjax.devices.attached import assume
from tdjax.devices.tuned_result import Tuned, TunedCandidate
from tdjax.strategies import candidates, recorded, to_data
from tdjax.strategies.choosing.measured import Measured

pytestmark = pytest.mark.usefixtures("on_two_cores")


class Norms(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(4):
            x = nn.gelu(nn.LayerNorm()(x))
        return x


def norms():
    module = Norms()
    variables = module.init(jax.random.key(0), jnp.ones((1, 512)))
    return lambda x: module.apply(variables, x)


def mixing(x):
    return norms()(x) - x.mean(0)


def chosen(fun, x, auto="auto"):
    with recorded() as decisions:
        jax.eval_shape(time_distributed(fun, strategy=auto), x)
    return decisions[0].strategy


LARGE = jax.ShapeDtypeStruct((256, 32, 512), jnp.float32)
HUGE = jax.ShapeDtypeStruct((256, 64, 512), jnp.float32)
SMALL = jax.ShapeDtypeStruct((4, 5, 512), jnp.float32)


def test_rows_that_do_not_fit_the_caches_are_taken_in_blocks():
    for auto in (Auto(), Auto(mode="forward")):
        strategy = chosen(norms(), LARGE, auto)
        assert isinstance(strategy, Fold) and 16 <= strategy.chunk_size <= 4096


def test_few_rows_are_taken_at_once():
    assert chosen(norms(), SMALL) == Fold()


def test_what_mixes_rows_is_mapped_in_blocks_of_steps():
    assert isinstance(chosen(mixing, LARGE), Vmap)
    assert chosen(mixing, SMALL) == Vmap()


def test_the_choice_is_the_same_for_the_same_input():
    assert len({chosen(norms(), LARGE) for _ in range(3)}) == 1


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_an_accelerator_takes_all_at_once(platform):
    with assume(platform):
        assert chosen(norms(), LARGE) == Fold()


@pytest.mark.parametrize("fun", [norms(), mixing], ids=["independent", "mixing"])
def test_it_adds_one_trace_at_most(fun):
    traces = []

    def counted(x):
        traces.append(x.shape)
        return fun(x)

    jax.eval_shape(time_distributed(counted), LARGE)
    assert len(traces) <= 2


def test_blocks_that_it_chose_keep_the_meaning():
    x = jax.random.normal(jax.random.key(1), (256, 24, 512))
    step = norms()
    assert chosen(step, x) != Fold()

    def loss(strategy, x):
        return (time_distributed(step, strategy=strategy)(x) ** 3).mean()

    expected, found = (jax.jit(jax.value_and_grad(lambda x, s=s: loss(s, x)))(x)
                       for s in ("vmap", "auto"))  # fmt: skip
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-9)


def test_candidates_are_each_one_way_and_cover_the_rows():
    for batch, time in ((1, 2), (3, 5), (32, 10), (256, 16)):
        found = candidates(batch, time, remat=True)
        assert len(found) == len(set(found)) and {Fold(), Vmap()} <= set(found)
        for strategy in found:
            blocks = strategy.blocks(batch, time)
            assert (blocks.count - 1) * blocks.rows < batch * time <= blocks.count * blocks.rows
    assert candidates(1, 1) == [Fold(), Vmap()]


def test_auto_is_not_taken_from_what_was_measured_with_others():
    """It would choose itself, without end."""
    measured = tuple(
        TunedCandidate(str(s), **to_data(s), status="ok", median_s=1.0 + place, low=1.0, high=1.0)
        for place, s in enumerate((Auto(), Vmap(), Fold(assume_independent=True)))
    )
    result = Tuned("program", "forward", "step", (4, 5), "cpu", {}, "2026-01-01", measured)
    assert [each.strategy for each in Measured([result]).complete([])] == [Vmap(), Fold()]


def test_what_would_compile_for_minutes_is_not_written_out():
    def most(operations):
        found = candidates(8, 64, operations=operations)
        return max((s.blocks(8, 64).count for s in found if s.unroll), default=0)

    assert (most(1), most(100), most(300)) == (16, 4, 0)


def test_a_mode_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"mode='grad'\): mode must be \"both\" or \"forward\""):
        tdjax.Auto(mode="grad")


@pytest.mark.parametrize(("mode", "budget"), [("both", 150_000_000), ("forward", 100_000_000)])
def test_a_budget_is_kept(mode, budget):
    fun = norms()
    auto = Auto(memory_budget=budget, mode=mode)

    def program(strategy):
        distributed = time_distributed(fun, strategy=strategy)
        if mode == "forward":
            return distributed
        return lambda x: jax.vjp(distributed, x)[1](x)

    def temporary(strategy):
        lowered = jax.jit(program(strategy)).lower(HUGE)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporary("vmap") > 1.2 * budget
    assert temporary(auto) <= budget


def test_a_budget_that_nothing_fits_is_warned_of():
    with pytest.warns(UserWarning, match=r"no strategy is sure to fit memory_budget=1000 bytes"):
        strategy = chosen(norms(), LARGE, Auto(memory_budget=1000))
    assert strategy.chunk_size == 32 and strategy.remat


@pytest.mark.parametrize("budget", [0, -5, True])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(ValueError, match=r"^memory_budget: got .*, needed bytes above 0"):
        Auto(memory_budget=budget)


def masked(fun, mask, auto="auto", x=LARGE):
    """Return what is decided for a mask, or for a traced one of these sizes."""
    wrapped = time_distributed(fun, strategy=auto)
    with recorded() as decisions:
        if mask is None:
            traced = jax.ShapeDtypeStruct(x.shape[:2], bool)
            jax.eval_shape(lambda x, mask: wrapped(x, mask=mask), x, traced)
        else:
            jax.eval_shape(lambda x: wrapped(x, mask=mask), x)
    return decisions[0]


def real(part):
    return np.arange(LARGE.shape[0] * LARGE.shape[1]).reshape(LARGE.shape[:2]) < part * 2**13


def test_a_mask_that_keeps_little_is_packed_and_one_that_keeps_all_is_not():
    few, most = masked(norms(), real(0.25)), masked(norms(), real(1.0))
    assert isinstance(few.strategy, Packed) and few.predicted[0].strategy == few.strategy
    assert not isinstance(most.strategy, Packed)
    assert few.packing.part == 0.25 and 0.25 < few.packing.break_even <= 1
    assert few.packing.break_even == most.packing.break_even
    assert masked(norms(), real(0.25), Auto(valid_fraction=1.0)).strategy == few.strategy


def test_where_the_mask_is_not_known_the_caller_says_how_much_it_keeps():
    assert isinstance(masked(norms(), None, Auto(valid_fraction=0.2)).strategy, Packed)
    all_of_it = masked(norms(), None, Auto(valid_fraction=1.0))
    assert not isinstance(all_of_it.strategy, Packed) and all_of_it.packing.part == 1.0
    assert masked(norms(), None).packing.part is None


def test_on_a_gpu_packing_pays_from_where_its_rows_keep_the_device_busy():
    weights = jnp.zeros((1024, 1024))

    def mlp(x):
        for _ in range(4):
            x = nn.gelu(x @ weights)
        return x

    few, many = (jax.ShapeDtypeStruct((n, 32, 1024), jnp.float32) for n in (16, 512))
    with assume("gpu", "NVIDIA H100 80GB HBM3"):
        quarter, most = (masked(mlp, None, Auto(valid_fraction=part), many) for part in (0.25, 0.8))
        small = masked(mlp, None, Auto(valid_fraction=0.25), few)
        one_pass = masked(norms(), None, Auto(valid_fraction=0.25), HUGE)
    assert quarter.strategy == Packed() and quarter.packing.break_even == pytest.approx(0.75)
    assert most.strategy == small.strategy == one_pass.strategy == Fold()
    assert "pay for no part of real steps" in small.packing.reason


def test_what_cannot_be_packed_is_not():
    assert isinstance(masked(mixing, real(0.1)).strategy, Vmap)
    keep = time_distributed(norms(), masked_output="keep")
    with recorded() as decisions:
        jax.eval_shape(lambda x: keep(x, mask=real(0.1)), LARGE)
    assert decisions[0].packing is None and not isinstance(decisions[0].strategy, Packed)
    small = Auto(valid_fraction=0.1, memory_budget=2**20)
    with pytest.warns(UserWarning, match="memory_budget"):
        assert not isinstance(masked(norms(), None, small).strategy, Packed)


def test_lengths_that_a_layer_is_given_are_known_to_it():
    layer = tdjax.linen.TimeDistributed(Norms())
    variables = jax.eval_shape(layer.init, jax.random.key(0), LARGE)
    with recorded() as decisions:
        jax.eval_shape(
            lambda v, x: layer.apply(v, x, seq_lengths=np.full(256, 4)), variables, LARGE
        )
    assert isinstance(decisions[0].strategy, Packed) and decisions[0].packing.part == 0.125


@pytest.mark.parametrize("fraction", [-0.1, 1.5, True, float("nan")])
def test_a_fraction_lies_between_0_and_1(fraction):
    with pytest.raises(ValueError, match="valid_fraction must be a number from 0 to 1"):
        Auto(valid_fraction=fraction)
