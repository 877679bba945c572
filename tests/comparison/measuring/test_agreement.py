"""When two answers are the same."""

import numpy as np
import pytest

from tdjax.comparison.measuring.agreement import disagreement, why_off

RIGHT = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def off_by(amount):
    wrong = RIGHT.copy()
    wrong[1, 2] += amount
    return wrong


def test_rounding_is_no_disagreement():
    error, problem = disagreement([off_by(1e-5)], [RIGHT], "cpu")
    assert problem is None
    assert error == pytest.approx(5e-6, rel=0.1)


def test_a_wrong_value_is_named():
    error, problem = disagreement([RIGHT, off_by(0.1)], [RIGHT, RIGHT], "cpu")
    assert error == pytest.approx(0.05, rel=0.01)
    assert "array 1" in problem


def test_accelerators_are_allowed_their_matrix_precision():
    assert disagreement([off_by(0.01)], [RIGHT], "gpu")[1] is None
    assert disagreement([off_by(0.01)], [RIGHT], "cpu")[1] is not None


@pytest.mark.parametrize(("platform", "flipped"), [("cpu", 0.04), ("gpu", 0.19)])
def test_gradients_are_allowed_a_relu_that_flips_and_values_are_not(platform, flipped):
    both, jumped = [RIGHT, RIGHT], [RIGHT, off_by(flipped)]
    assert disagreement(jumped, both, platform, gradients=1)[1] is None
    assert "array 1" in disagreement(jumped, both, platform)[1]
    assert "array 0" in disagreement(jumped[::-1], both, platform, gradients=1)[1]
    assert "array 1" in disagreement([RIGHT, off_by(0.25)], both, platform, gradients=1)[1]


def test_a_gradient_that_is_off_everywhere_has_no_relu_that_flipped():
    largest = 1.02 * RIGHT
    assert "array 0" in disagreement([largest], [RIGHT], "cpu", gradients=1)[1]


def test_integers_must_be_equal():
    whole = np.arange(5)
    assert disagreement([whole], [whole], "cpu") == (0.0, None)
    assert disagreement([whole + 1], [whole], "cpu")[1] is not None


def test_the_same_nan_is_the_same_answer_and_another_is_not():
    holed = off_by(np.nan)
    assert disagreement([holed], [holed], "cpu") == (0.0, None)
    assert disagreement([holed], [RIGHT], "cpu")[0] is None
    assert "not finite" in disagreement([holed], [RIGHT], "cpu")[1]


def test_an_array_of_rounding_errors_has_no_scale_of_its_own():
    noise = np.full(4, 1e-7, np.float32)
    assert disagreement([RIGHT, noise], [RIGHT, -noise], "cpu")[1] is None


def test_bfloat16_and_complex():
    import jax.numpy as jnp

    low = np.asarray(jnp.asarray(RIGHT, jnp.bfloat16))
    assert disagreement([low], [low], "cpu") == (0.0, None)
    turned = RIGHT.astype(np.complex64)
    assert disagreement([turned * 1j], [turned], "cpu")[1] is not None


@pytest.mark.parametrize("dtype, rounding", [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_in_16_bits_rounding_is_larger_and_a_wrong_answer_is_still_wrong(dtype, rounding):
    import jax.numpy as jnp

    right = np.asarray(jnp.asarray(RIGHT, dtype))
    # A gradient that is zero but for rounding, beside others of size 2.
    noise = np.asarray(jnp.asarray(np.full(4, 4 * rounding), dtype))
    assert disagreement([right, noise], [right, -noise], "cpu")[1] is None
    assert "array 1" in disagreement([right, right - right.mean()], [right, right + 1], "cpu")[1]
    assert "array 0" in disagreement([right[::-1]], [right], "cpu")[1]


def test_an_answer_that_is_off_says_why():
    jumped = off_by(0.04)
    assert why_off([RIGHT, jumped], [RIGHT, RIGHT], "cpu") == (
        "rounding flipped a relu: 1 of 12 values of gradients are off by more than 0.001"
    )
    assert why_off([jumped], [RIGHT], "gpu").startswith("float32 products are rounded")
    low = RIGHT.astype(np.float16)
    assert why_off([low * np.float16(1.01)], [low], "cpu") == "rounded to float16"
    assert why_off([off_by(1e-5)], [RIGHT], "cpu") is None
