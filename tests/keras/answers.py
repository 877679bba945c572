"""What a function gives, its gradients, and what counts as the same."""

import jax
import numpy as np
from casebook import array


def draw(shape, seed=0):
    return array(*shape, seed=seed)


def values_and_gradients(run, *args):
    """Return `run(*args)`, and the gradients of all `args` but ints for one fixed cotangent."""

    @jax.jit
    def both(args):
        output, pull = jax.vjp(run, *args)
        gradients = pull(jax.tree.map(lambda leaf: draw(leaf.shape, 1), output))
        return output, [tree for tree in gradients if not _is_of_ints(tree)]

    return both(args)


def assert_same(ours, keras):
    """Compare to float32 rounding, at the scale of each array."""
    assert jax.tree.structure(ours) == jax.tree.structure(keras)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(keras), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        scale = float(abs(other).max())
        assert scale > 0
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * scale)


def _is_of_ints(gradient):
    return getattr(gradient, "dtype", None) == jax.dtypes.float0
