"""Inputs that take turns."""

import jax.numpy as jnp
import pytest

from tdjax.comparison.measuring.rotation import MOST_COPIES, Rotation, how_many
from tdjax.comparison.subjects.subject import subject

KIB = 1024


@pytest.mark.parametrize(
    ("stream", "cache", "expected"),
    [
        (0, 32 * KIB, 1),
        (64 * KIB, 32 * KIB, 1),
        (63 * KIB, 32 * KIB, 2),
        (16 * KIB, 32 * KIB, 4),
        (1, 32 * KIB, MOST_COPIES),
    ],
)
def test_copies_fill_the_cache_twice(stream, cache, expected):
    assert how_many(stream, cache) == expected


def test_what_has_a_time_axis_is_copied_and_weights_are_shared():
    weights, x = jnp.ones((8, 8)), jnp.ones((2, 4, 8))
    made = subject(lambda w, x: x @ w, (weights, x), in_axes=(None, 1))
    cotangents = [jnp.ones((2, 4, 8))]
    inputs = Rotation((made.arrays, cotangents), made.streamed, cache_bytes=x.nbytes)
    turns = [inputs.turn() for _ in range(inputs.copies)]
    assert inputs.copies == 1  # x and the cotangent fill it twice together
    inputs = Rotation((made.arrays, cotangents), made.streamed, cache_bytes=4 * x.nbytes)
    turns = [inputs.turn() for _ in range(inputs.copies)]
    assert len(turns) == 4
    assert len({id(arrays[0]) for arrays, _ in turns}) == 1
    for copied in ([arrays[1] for arrays, _ in turns], [each for _, (each,) in turns]):
        assert len({array.unsafe_buffer_pointer() for array in copied}) == 4
        assert all((array == 1).all() for array in copied)
    assert inputs.turn() is turns[0]
