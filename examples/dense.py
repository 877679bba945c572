"""Keras' example of TimeDistributed: 32 samples of 10 steps of 16 features through Dense(64).

python examples/dense.py
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

import tdjax
from tdjax.comparison.system.extras import leave_out_absent
from tdjax.linen import TimeDistributed

leave_out_absent()  # libtpu may be installed, and prints what it misses where there is no TPU
x = jax.random.normal(jax.random.key(0), (32, 10, 16))


@tdjax.time_distributed(in_axes=(None, 1))
def dense(params, x):  # x is one step: (32, 16)
    return x @ params["kernel"] + params["bias"]


layer = TimeDistributed(nn.Dense(64))
variables = layer.init(jax.random.key(1), x)

by_layer = layer.apply(variables, x)  # (32, 10, 64)
by_function = dense(variables["params"]["layer"], x)  # (32, 10, 64)

print("Flax layer:", x.shape, "->", by_layer.shape)
print("function:  ", x.shape, "->", by_function.shape)
print("largest difference:", float(jnp.abs(by_layer - by_function).max()))
