"""Programs of other kinds than the suite's, on which what `auto` chooses is recorded and tested.

Speeds are fitted to what is recorded of them and of the suite; peers are compared on others. Each
is a function of parameters and one step, with its shapes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tdjax.workloads.workload import Case, Workload

_Shapes = Sequence[tuple[int, ...]]
_QUICK_BATCH, _QUICK_TIME = 2, 3


def _build(step: Callable[..., Any], shapes: _Shapes, x: tuple[int, ...], quick: bool) -> Case:
    """Return a step with normal parameters of these shapes on `x`; of whole numbers if it looks
    them up in a table, which is then the first of the parameters.
    """
    import jax.numpy as jnp
    import numpy as np

    random = np.random.default_rng(0)

    def normal(shape: tuple[int, ...], scale: float) -> Any:
        return jnp.asarray(scale * random.standard_normal(shape, np.float32))

    if quick:
        x = (_QUICK_BATCH, _QUICK_TIME, *x[2:])
    params = [normal(shape, max(1, _inputs(shape)) ** -0.5) for shape in shapes]
    looked_up = step in _LOOK_UP
    given = jnp.asarray(random.integers(0, shapes[0][0], x)) if looked_up else normal(x, 1.0)
    return Case(step, (params, given), in_axes=(None, 1), time_size=x[1])


def _inputs(shape: tuple[int, ...]) -> int:
    """Return how many values each output of a kernel of this shape is a sum of."""
    size = 1
    for each in shape[:-1]:
        size *= each
    return size


def _convolve(x: Any, kernel: Any, stride: int = 1, groups: int = 1) -> Any:
    from jax import lax

    spatial = kernel.ndim - 2
    letters = "HWD"[:spatial]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    strides = (stride,) * spatial
    return lax.conv_general_dilated(
        x, kernel, strides, "SAME", dimension_numbers=numbers, feature_group_count=groups
    )


def _convolutions(params: Any, x: Any) -> Any:
    import jax

    for kernel in params:
        x = jax.nn.relu(_convolve(x, kernel))
    return x


def _strided(params: Any, x: Any) -> Any:
    import jax

    for kernel in params:
        x = jax.nn.relu(_convolve(x, kernel, stride=2))
    return x.mean((1, 2))


def _transposed(params: Any, x: Any) -> Any:
    import jax
    from jax import lax

    for kernel in params:
        numbers = ("NHWC", "HWIO", "NHWC")
        x = jax.nn.relu(lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=numbers))
    return x


def _separable(params: Any, x: Any) -> Any:
    import jax

    for depthwise, pointwise in zip(params[::2], params[1::2], strict=True):
        x = jax.nn.relu(_convolve(_convolve(x, depthwise, groups=x.shape[-1]), pointwise))
    return x


def _look_up(params: Any, x: Any) -> Any:
    table, kernel = params
    return table[x].mean(1) @ kernel


def _recurrent(params: Any, x: Any) -> Any:
    import jax
    import jax.numpy as jnp

    inputs, states = params
    width = states.shape[0]

    def turn(state: Any, word: Any) -> Any:
        hidden, cell = state
        gates = jnp.split(word @ inputs + hidden @ states, 4, axis=-1)
        into, forget, out = map(jax.nn.sigmoid, gates[:3])
        cell = forget * cell + into * jnp.tanh(gates[3])
        return (out * jnp.tanh(cell), cell), None

    zeros = jnp.zeros((x.shape[0], width), x.dtype)
    return jax.lax.scan(turn, (zeros, zeros), x.swapaxes(0, 1))[0][0]


def _attention(params: Any, x: Any) -> Any:
    import jax
    import jax.numpy as jnp

    heads = 4
    for into, out, wide, narrow in zip(*[iter(params)] * 4, strict=True):
        queries, keys, values = jnp.split(_normalized(x) @ into, 3, axis=-1)
        shape = (*x.shape[:-1], heads, x.shape[-1] // heads)
        seen = jax.nn.dot_product_attention(*(v.reshape(shape) for v in (queries, keys, values)))
        x = x + seen.reshape(x.shape) @ out
        x = x + jax.nn.gelu(_normalized(x) @ wide) @ narrow
    return x


def _normalized(x: Any) -> Any:
    from jax import lax

    centered = x - x.mean(-1, keepdims=True)
    return centered * lax.rsqrt((centered * centered).mean(-1, keepdims=True) + 1e-6)


def _norms(params: Any, x: Any) -> Any:
    for scale in params:
        x = _normalized(x) * scale
    return x


def _dense(params: Any, x: Any) -> Any:
    import jax

    for kernel in params:
        x = jax.nn.relu(x @ kernel)
    return x


def _residual(params: Any, x: Any) -> Any:
    import jax

    for wide, narrow in zip(params[::2], params[1::2], strict=True):
        x = x + jax.nn.gelu(_normalized(x) @ wide) @ narrow
    return x


def _scores(params: Any, x: Any) -> Any:
    import jax

    return jax.nn.log_softmax(x @ params[0])


def _elementwise(params: Any, x: Any) -> Any:
    import jax.numpy as jnp

    (scale,) = params
    for _ in range(3):
        x = x + jnp.tanh(x * scale) * jnp.exp(-x * x)
    return x


_WINDOW = (1, 2, 2, 1)


def _classifier(params: Any, x: Any) -> Any:
    import jax

    *kernels, dense = params
    for kernel in kernels:
        x = jax.nn.relu(_convolve(x, kernel))
        x = jax.lax.reduce_window(x, -float("inf"), jax.lax.max, _WINDOW, _WINDOW, "VALID")
    return x.reshape(x.shape[0], -1) @ dense


def _pyramid(params: Any, x: Any) -> Any:
    """Halve a sequence by means and maxima, with a norm at each size."""
    import jax.numpy as jnp

    for kernel in params:
        pairs = x.reshape(x.shape[0], -1, 2, x.shape[-1])
        x = _normalized(jnp.concatenate([pairs.mean(2), pairs.max(2)], -1) @ kernel)
    return x.mean(1)


_LOOK_UP = (_look_up,)
_BLOCK = ((192, 576), (192, 192), (192, 768), (768, 192))
_TABLE: dict[str, tuple[Callable[..., Any], _Shapes, tuple[int, ...]]] = {
    "convs_32": (_convolutions, [(3, 3, 32, 32)] * 4, (2, 16, 24, 24, 32)),
    "convs_16": (_convolutions, [(3, 3, 16, 16)] * 2, (8, 32, 16, 16, 16)),
    "convs_64": (_convolutions, [(3, 3, 64, 64)] * 2, (2, 16, 28, 28, 64)),
    "convs_128": (_convolutions, [(3, 3, 128, 128)] * 2, (1, 16, 14, 14, 128)),
    "convs_1d": (_convolutions, [(5, 32, 32)] * 2, (16, 32, 128, 32)),
    "convs_1d_64": (_convolutions, [(3, 64, 64)] * 3, (8, 16, 128, 64)),
    "convs_1x1": (_convolutions, [(1, 1, 64, 128), (1, 1, 128, 64)], (2, 16, 20, 20, 64)),
    "convs_strided": (
        _strided, [(7, 7, 3, 32), (3, 3, 32, 64), (3, 3, 64, 96)], (2, 16, 64, 64, 3),
    ),
    "convs_transposed": (_transposed, [(4, 4, 128, 64), (4, 4, 64, 32)], (1, 16, 8, 8, 128)),
    "separable": (
        _separable, [(3, 3, 1, 64), (1, 1, 64, 64)] * 2, (2, 16, 32, 32, 64),
    ),
    "digits": (
        _classifier, [(3, 3, 1, 16), (3, 3, 16, 32), (7 * 7 * 32, 10)], (8, 16, 28, 28, 1),
    ),
    "pictures": (
        _classifier, [(3, 3, 3, 32), (3, 3, 32, 64), (8 * 8 * 64, 256)], (4, 16, 32, 32, 3),
    ),
    "look_up": (_look_up, [(5000, 128), (128, 64)], (32, 64, 50)),
    "lstm": (_recurrent, [(64, 256), (64, 256)], (16, 16, 20, 64)),
    "vit_short": (_attention, _BLOCK * 2, (2, 8, 64, 192)),
    "vit_long": (_attention, _BLOCK, (1, 8, 196, 192)),
    "vit_narrow": (
        _attention, [(128, 384), (128, 128), (128, 512), (512, 128)] * 2, (4, 16, 50, 128),
    ),
    "dense_small": (_dense, [(16, 8)], (32, 10, 16)),
    "dense_deep": (_dense, [(128, 128)] * 6, (32, 32, 128)),
    "dense_heavy": (_dense, [(2048, 2048)], (8, 16, 2048)),
    "residual_mlp": (_residual, [(256, 1024), (1024, 256)] * 2, (16, 64, 256)),
    "residual_narrow": (_residual, [(128, 256), (256, 128)] * 3, (32, 64, 128)),
    "norms": (_norms, [(512,)] * 4, (64, 128, 512)),
    "scores_few": (_scores, [(128, 1000)], (16, 64, 128)),
    "scores": (_scores, [(256, 4000)], (16, 32, 256)),
    "elementwise": (_elementwise, [(512,)], (32, 64, 512)),
    "pyramid": (_pyramid, [(128, 64)] * 3, (16, 32, 64, 64)),
}  # fmt: skip
FURTHER = tuple(
    Workload(
        name=name,
        title=name.replace("_", " "),
        description=f"{step.__name__.removeprefix('_')} on {x}.",
        build=functools.partial(_build, step, shapes, x),
        tabled=True,
    )
    for name, (step, shapes, x) in _TABLE.items()
)
