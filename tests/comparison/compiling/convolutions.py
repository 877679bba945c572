"""A step function with convolutions, whose lines `why` names."""

import jax
from jax import lax

LABELS = ("NHWC", "HWIO", "NHWC")


def convolutions(kernels, x):
    for kernel in kernels:
        x = jax.nn.relu(
            lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LABELS)
        )
    return x
