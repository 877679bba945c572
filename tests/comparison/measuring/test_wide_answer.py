"""In narrow dtypes the right answer is the one in float32."""

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.comparison.measuring.wide_answer import answer_in_float32

LOW = jax.device_put(np.linspace(-1, 1, 6).astype(jnp.bfloat16))


def test_narrow_arguments_are_made_wide():
    (answer,) = answer_in_float32(lambda arrays, _: [jnp.sin(arrays[0])], ([LOW], []))
    np.testing.assert_allclose(answer, np.sin(np.asarray(LOW, np.float32)), rtol=1e-6)


def test_wide_arguments_need_no_other_answer():
    assert answer_in_float32(lambda arrays, _: arrays, ([LOW.astype(jnp.float32)], [])) is None


def test_other_noise_is_no_answer():
    def step(arrays, _):
        return [jax.random.normal(jax.random.key(0), arrays[0].shape, arrays[0].dtype)]

    assert answer_in_float32(step, ([LOW], [])) is None


def test_a_function_that_takes_nothing_wider_has_no_other_answer():
    def step(arrays, _):
        return [jax.lax.add(arrays[0], jnp.ones(6, jnp.bfloat16))]

    assert answer_in_float32(step, ([LOW], [])) is None
