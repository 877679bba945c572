"""The table of rules: for each primitive, what says where its rows go.

To teach the proof a primitive, write a rule in the module of its family and add a line here. A
primitive without a line proves nothing.
"""

from __future__ import annotations

from tdjax.independence.rules import (
    contractions,
    control,
    elementwise,
    indexing,
    random,
    reductions,
    shapes,
)
from tdjax.independence.rules.rule import NestedRule, Rule

RULES: dict[str, Rule] = {
    **dict.fromkeys(elementwise.ELEMENTWISE, elementwise.elementwise),
    # moving values without looking at them
    "broadcast_in_dim": shapes.broadcast_in_dim,
    "concatenate": shapes.concatenate,
    "dynamic_slice": shapes.dynamic_slice,
    "dynamic_update_slice": shapes.dynamic_update_slice,
    "expand_dims": shapes.expand_dims,
    "pad": shapes.pad,
    "reshape": shapes.reshape,
    "rev": shapes.rev,
    "slice": shapes.slice_,
    "split": shapes.split,
    "squeeze": shapes.squeeze,
    "stack": shapes.stack,
    "tile": shapes.tile,
    "transpose": shapes.transpose,
    "unstack": shapes.unstack,
    # running along an axis
    "argmax": reductions.reduction,
    "argmin": reductions.reduction,
    "reduce": reductions.reduction,
    "reduce_and": reductions.reduction,
    "reduce_max": reductions.reduction,
    "reduce_min": reductions.reduction,
    "reduce_or": reductions.reduction,
    "reduce_prod": reductions.reduction,
    "reduce_sum": reductions.reduction,
    "reduce_xor": reductions.reduction,
    "cumlogsumexp": reductions.cumulative,
    "cummax": reductions.cumulative,
    "cummin": reductions.cumulative,
    "cumprod": reductions.cumulative,
    "cumsum": reductions.cumulative,
    "approx_top_k": reductions.top_k,
    "sort": reductions.sort,
    "top_k": reductions.top_k,
    "reduce_window": reductions.reduce_window,
    "reduce_window_max": reductions.reduce_window,
    "reduce_window_min": reductions.reduce_window,
    "reduce_window_sum": reductions.reduce_window,
    "select_and_gather_add": reductions.select_in_window,
    "select_and_scatter_add": reductions.select_in_window,
    "fft": reductions.fft,
    # matrices
    "conv_general_dilated": contractions.conv_general_dilated,
    "tdjax_conv_general_dilated": contractions.conv_general_dilated,  # tdjax's own
    "dot_general": contractions.dot_general,
    "cholesky": reductions.factorization,
    "eig": reductions.factorization,
    "eigh": reductions.factorization,
    "geqrf": reductions.factorization,
    "hessenberg": reductions.factorization,
    "lu": reductions.factorization,
    "lu_pivots_to_permutation": reductions.factorization,
    "qr": reductions.factorization,
    "schur": reductions.factorization,
    "svd": reductions.factorization,
    "householder_product": reductions.solve,
    "triangular_solve": reductions.solve,
    # reading and writing at computed places
    "gather": indexing.gather,
    "scatter": indexing.scatter,
    "scatter-add": indexing.scatter,
    "scatter-max": indexing.scatter,
    "scatter-min": indexing.scatter,
    "scatter-mul": indexing.scatter,
    "scatter-sub": indexing.scatter,
    # keys and noise
    "random_bits": random.noise_per_row,
    "random_clone": random.noise_per_row,
    "random_fold_in": random.noise_per_row,
    "random_gamma": random.noise_per_row,
    "random_seed": random.noise_per_row,
    "random_split": random.noise_per_row,
    "random_unwrap": random.noise_per_row,
    "random_wrap": random.wrap,
}
"""Rules for primitives of which at least one input has rows."""

NESTED: dict[str, NestedRule] = {
    "checkpoint": control.call,
    "closed_call": control.call,
    "core_call": control.call,
    "jit": control.call,
    "pjit": control.call,
    "remat": control.call,
    "remat2": control.call,
    "cond": control.cond,
    "custom_jvp_call": control.custom_derivative,
    "custom_linear_solve": control.linear_solve,
    "custom_vjp_call": control.custom_derivative,
    "custom_vjp_call_jaxpr": control.custom_derivative,
    "scan": control.scan,
    "while": control.while_loop,
}
"""Rules for primitives that hold other programs."""
