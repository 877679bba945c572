"""What tdjax touches of Flax beyond its public names, so that a new Flax fails here by name."""

from __future__ import annotations

import inspect

import flax.linen as nn
import jax
from flax import nnx
from flax.core import lift
from flax.core.scope import LazyRng, Scope
from flax.core.tracers import current_trace
from flax.linen.transforms import lift_direct_transform

from tdjax.layers.batch_norm.linen import is_normalization


def test_pack_takes_filters_and_gives_four_things_to_its_function():
    parameters = list(inspect.signature(lift.pack).parameters)
    assert parameters[:5] == [
        "fn",
        "in_variable_filters",
        "out_variable_filters",
        "rng_filters",
        "name",
    ]


def test_lifting_takes_targets_and_a_module():
    parameters = list(inspect.signature(lift_direct_transform).parameters)
    assert parameters[:3] == ["transform", "targets", "mdl"]


def test_a_stream_is_a_key_and_a_static_suffix():
    rng = LazyRng(jax.random.key(0), ("layer",))
    assert rng.suffix == ("layer",) and jax.tree.leaves(rng)[0] is rng.rng


def test_scopes_count_draws_in_nested_dictionaries_and_know_their_flags():
    scope = Scope({}, rngs={"dropout": jax.random.key(0)}, flags={"initializing": True})
    child = scope.push("layer")
    child.make_rng("dropout")
    nested = [value for value in scope.rng_counters.values() if isinstance(value, dict)]
    assert nested == [child.rng_counters] and child.rng_counters["dropout"] == 1
    assert child.flags["initializing"] is True and child.path == ("layer",)


def test_batch_norms_have_an_axis_name_and_a_mask():
    for kind in (nn.BatchNorm, nnx.BatchNorm):
        assert "mask" in inspect.signature(kind.__call__).parameters
    assert nn.BatchNorm().axis_name is None
    assert nnx.BatchNorm(2, rngs=nnx.Rngs(0)).axis_name is None


def test_what_is_intercepted_says_whose_method_it_is():
    class Own(nn.BatchNorm):
        @nn.compact
        def __call__(self, x):
            return super().__call__(x)

    seen = []

    def intercept(call, args, kwargs, context):
        seen.append(is_normalization(context))
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        Own(use_running_average=True).init(jax.random.key(0), jax.numpy.ones((2, 3)))
    assert seen == [False, True]


def test_captures_are_kept_where_summed_types_expect_them():
    seen = []

    class Probe(nnx.Module):
        def __call__(self, x):
            seen.append(hasattr(self, "__captures__"))
            return x

    nnx.capture(Probe(), nnx.Intermediate)(1.0)
    assert seen == [True]


def test_a_scope_knows_under_which_trace_it_was_made():
    outside, seen = current_trace(), []
    scope = Scope({}).push("layer")

    def step(x):
        seen.append((current_trace(), scope.root.trace_level, Scope({}).root.trace_level))
        return x

    for transform in (jax.make_jaxpr, jax.vmap, jax.jit):
        transform(step)(jax.numpy.ones(2))
    for inside, made_outside, made_inside in seen:
        assert made_outside == outside != inside == made_inside
