"""The table of rules: for each primitive, what says where its rows go.

To teach the proof a primitive, write a rule in the module of its family and add a line here. A
primitive without a line proves nothing.
"""

from __future__ import annotations

from tdjax.independence import (
    _contractions,
    _control,
    _elementwise,
    _indexing,
    _random,
    _reductions,
    _shapes,
)
from tdjax.independence._rules import NestedRule, Rule

RULES: dict[str, Rule] = {
    **dict.fromkeys(_elementwise.ELEMENTWISE, _elementwise.elementwise),
    # moving values without looking at them
    "broadcast_in_dim": _shapes.broadcast_in_dim,
    "concatenate": _shapes.concatenate,
    "dynamic_slice": _shapes.dynamic_slice,
    "dynamic_update_slice": _shapes.dynamic_update_slice,
    "expand_dims": _shapes.expand_dims,
    "pad": _shapes.pad,
    "reshape": _shapes.reshape,
    "rev": _shapes.rev,
    "slice": _shapes.slice_,
    "split": _shapes.split,
    "squeeze": _shapes.squeeze,
    "stack": _shapes.stack,
    "tile": _shapes.tile,
    "transpose": _shapes.transpose,
    "unstack": _shapes.unstack,
    # running along an axis
    "argmax": _reductions.reduction,
    "argmin": _reductions.reduction,
    "reduce": _reductions.reduction,
    "reduce_and": _reductions.reduction,
    "reduce_max": _reductions.reduction,
    "reduce_min": _reductions.reduction,
    "reduce_or": _reductions.reduction,
    "reduce_prod": _reductions.reduction,
    "reduce_sum": _reductions.reduction,
    "reduce_xor": _reductions.reduction,
    "cumlogsumexp": _reductions.cumulative,
    "cummax": _reductions.cumulative,
    "cummin": _reductions.cumulative,
    "cumprod": _reductions.cumulative,
    "cumsum": _reductions.cumulative,
    "approx_top_k": _reductions.top_k,
    "sort": _reductions.sort,
    "top_k": _reductions.top_k,
    "reduce_window": _reductions.reduce_window,
    "reduce_window_max": _reductions.reduce_window,
    "reduce_window_min": _reductions.reduce_window,
    "reduce_window_sum": _reductions.reduce_window,
    "select_and_gather_add": _reductions.select_in_window,
    "select_and_scatter_add": _reductions.select_in_window,
    "fft": _reductions.fft,
    # matrices
    "conv_general_dilated": _contractions.conv_general_dilated,
    "tdjax_conv_general_dilated": _contractions.conv_general_dilated,  # tdjax's own
    "dot_general": _contractions.dot_general,
    "cholesky": _reductions.factorization,
    "eig": _reductions.factorization,
    "eigh": _reductions.factorization,
    "geqrf": _reductions.factorization,
    "hessenberg": _reductions.factorization,
    "lu": _reductions.factorization,
    "lu_pivots_to_permutation": _reductions.factorization,
    "qr": _reductions.factorization,
    "schur": _reductions.factorization,
    "svd": _reductions.factorization,
    "householder_product": _reductions.solve,
    "triangular_solve": _reductions.solve,
    # reading and writing at computed places
    "gather": _indexing.gather,
    "scatter": _indexing.scatter,
    "scatter-add": _indexing.scatter,
    "scatter-max": _indexing.scatter,
    "scatter-min": _indexing.scatter,
    "scatter-mul": _indexing.scatter,
    "scatter-sub": _indexing.scatter,
    # keys and noise
    "random_bits": _random.noise_per_row,
    "random_clone": _random.noise_per_row,
    "random_fold_in": _random.noise_per_row,
    "random_gamma": _random.noise_per_row,
    "random_seed": _random.noise_per_row,
    "random_split": _random.noise_per_row,
    "random_unwrap": _random.noise_per_row,
    "random_wrap": _random.wrap,
}
"""Rules for primitives of which at least one input has rows."""

NESTED: dict[str, NestedRule] = {
    "checkpoint": _control.call,
    "closed_call": _control.call,
    "core_call": _control.call,
    "jit": _control.call,
    "pjit": _control.call,
    "remat": _control.call,
    "remat2": _control.call,
    "cond": _control.cond,
    "custom_jvp_call": _control.custom_derivative,
    "custom_linear_solve": _control.linear_solve,
    "custom_vjp_call": _control.custom_derivative,
    "custom_vjp_call_jaxpr": _control.custom_derivative,
    "scan": _control.scan,
    "while": _control.while_loop,
}
"""Rules for primitives that hold other programs."""
