"""What tdjax knows of each primitive of JAX, in one table.

The proof reads from it where the rows go; the cost model, what an operation costs; loops over
packed rows, what is worth keeping for the backward pass; and those that evaluate programs in ways
of their own (step values hoisted out of a fold, blocks on an explicit mesh, what a layer writes),
which equations are calls, loops and branches. A primitive without a line proves nothing, and counts
as an operation that is fused.

To teach tdjax a primitive, write a rule in the module of its family, and add a line here, with what
`Traits` can say of it.
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
from tdjax.independence.rules.rule import Cost, End, Form, register

# fmt: off
_ALL, _FIRST, _SECOND = slice(None), slice(1), slice(1, 2)
_FIRST_TWO, _ALL_BUT_FIRST = slice(2), slice(1, None)

# what treats every element alone
register(
    "abs", "and", "bessel_i0e", "bessel_i1e", "ceil", "clamp", "clz", "complex", "device_put", "eq",
    "eq_to", "floor", "ge", "gt", "igamma", "igamma_grad_a", "igammac", "integer_pow", "is_finite",
    "le", "le_to", "lt", "lt_to", "max", "min", "mulhi", "ne", "nextafter", "not",
    "one_minus_square", "optimization_barrier", "or", "polygamma", "polynomial",
    "population_count", "reduce_precision", "regularized_incomplete_beta", "rem", "round", "rsqrt",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign", "sqrt", "square", "xor",
    "zeta",
    rows=elementwise.elementwise,
)
register(
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "digamma",
    "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "lgamma", "log", "log1p", "log2", "logistic",
    "pow", "sin", "sinh", "tan", "tanh",
    rows=elementwise.elementwise, cost=Cost.SLOW,
)
register("add", "add_any", "sub", rows=elementwise.elementwise, sums="additive")
register("mul", rows=elementwise.elementwise, sums="bilinear")
register("div", rows=elementwise.elementwise, sums="quotient")
register("neg", "real", "imag", "conj", rows=elementwise.elementwise, sums="linear")
register("name", "stop_gradient", "tdjax_cut", "tdjax_view", "tdjax_on_device",
         rows=elementwise.elementwise, cost=Cost.FREE)
register("convert_element_type", "copy", "copy_p", rows=elementwise.elementwise,
         sums="linear", cost=Cost.FREE)
register("mesh_cast", "pvary", "reshard", "sharding_constraint", rows=elementwise.elementwise,
         sums="linear", form=Form.LAYOUT)

register("select_n", rows=elementwise.elementwise, zeros=_ALL_BUT_FIRST, sums="choice")

# moving values without looking at them
register("broadcast_in_dim", rows=shapes.broadcast_in_dim, follows={"shape": End.OUTPUT},
         makes_rows=True, sums="linear", cost=Cost.FREE)
register("reshape", rows=shapes.reshape, follows={"new_sizes": End.OUTPUT}, sums="linear",
         cost=Cost.FREE)
register("bitcast_convert_type", rows=shapes.bitcast_convert_type, cost=Cost.FREE)
register("expand_dims", rows=shapes.expand_dims, sums="linear", cost=Cost.FREE)
register("squeeze", rows=shapes.squeeze, sums="linear", cost=Cost.FREE)
register("transpose", rows=shapes.transpose, sums="linear", cost=Cost.STORED)
register("rev", rows=shapes.rev, sums="linear")
register("slice", rows=shapes.slice_, follows={"limit_indices": End.INPUT}, sums="linear")
register("dynamic_slice", rows=shapes.dynamic_slice, follows={"slice_sizes": End.INPUT},
         sums="first", row_by_row=True)
register("dynamic_update_slice", zeros=_FIRST_TWO, rows=shapes.dynamic_update_slice,
         row_by_row=True)
register("concatenate", zeros=_ALL, rows=shapes.concatenate, numbers=_ALL, cost=Cost.STORED)
register("stack", zeros=_ALL, rows=shapes.stack, numbers=_ALL, cost=Cost.STORED)
register("unstack", zeros=_ALL, rows=shapes.unstack)
register("split", zeros=_ALL, rows=shapes.split)
register("tile", zeros=_ALL, rows=shapes.tile, follows={"reps": End.OUTPUT}, makes_rows=True)
register("pad", zeros=_ALL, rows=shapes.pad)
register("iota", follows={"shape": End.OUTPUT}, makes_rows=True, cost=Cost.FREE)

# running along an axis
register("reduce_sum", rows=reductions.reduction, sums="linear", cost=Cost.WRITTEN)
register("reduce_max", "reduce_min", "reduce_prod", rows=reductions.reduction, zeros=_ALL,
         cost=Cost.WRITTEN)
register("reduce_and", "reduce_or", "reduce_xor", rows=reductions.reduction, zeros=_ALL,
         cost=Cost.WRITTEN)
register("argmax", "argmin", "reduce", rows=reductions.reduction, cost=Cost.WRITTEN)
register("cummax", "cummin", "cumprod", "cumsum", rows=reductions.cumulative, zeros=_ALL,
         cost=Cost.STORED)
register("cumlogsumexp", rows=reductions.cumulative, cost=Cost.STORED)
register("sort", rows=reductions.sort, cost=Cost.KEPT)
register("approx_top_k", "top_k", rows=reductions.top_k, cost=Cost.KEPT)
register("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum",
         "tdjax_window_best", rows=reductions.reduce_window, cost=Cost.STORED)
register("select_and_gather_add", "select_and_scatter_add", "tdjax_window_pick",
         "tdjax_window_spread", rows=reductions.select_in_window, zeros=_FIRST, cost=Cost.STORED)
register("fft", rows=reductions.fft, sums="linear", cost=Cost.STORED)

# products and matrices
register("dot_general", rows=contractions.dot_general, sums="bilinear", cost=Cost.KEPT)
register("tdjax_pushed", rows=contractions.pushed, sums="bilinear", cost=Cost.KEPT)
register("tdjax_product", rows=contractions.product, cost=Cost.KEPT)
register("conv_general_dilated", "tdjax_conv_general_dilated", "tdjax_conv_written_out",
         "tdjax_conv_written_out_kept", rows=contractions.conv_general_dilated,
         follows={"batch_group_count": End.NEITHER, "feature_group_count": End.NEITHER},
         sums="bilinear", cost=Cost.KEPT)
register("ragged_dot_general", cost=Cost.KEPT)
register("cholesky", "cholesky_update", "eig", "eigh", "geqp3", "geqrf", "hessenberg",
         "householder_product", "lu", "lu_pivots_to_permutation", "ormqr", "qr", "schur", "svd",
         "symmetric_product", "tridiagonal", rows=reductions.matrices, cost=Cost.KEPT)
register("triangular_solve", "tridiagonal_solve", rows=reductions.linear_system,
         sums="solution", cost=Cost.KEPT)

# reading and writing at computed places
register("gather", rows=indexing.gather, follows={"slice_sizes": End.INPUT}, zeros=_FIRST,
         sums="first", numbers=_SECOND, row_by_row=True, cost=Cost.KEPT)
register("scatter", "scatter-add", "scatter-max", "scatter-min", "scatter-mul", "scatter-sub",
         rows=indexing.scatter, zeros=slice(0, None, 2), numbers=_SECOND, row_by_row=True,
         cost=Cost.STORED)

# keys and noise
register("random_bits", rows=random.bits, follows={"shape": End.OUTPUT}, makes_rows=True,
         draws=True, cost=Cost.KEPT)
register("random_split", rows=random.bits, follows={"shape": End.OUTPUT}, makes_rows=True,
         draws=True)
register("random_fold_in", rows=random.fold_in)
register("random_gamma", rows=random.samples, draws=True, cost=Cost.KEPT)
register("random_clone", "random_seed", "random_unwrap", rows=random.every_key)
register("random_wrap", rows=random.wrap)
register("rng_bit_generator", "threefry2x32", draws=True, cost=Cost.KEPT)

# programs in programs
register("call", "closed_call", "core_call", "eval_jaxpr", "jit", "pjit", nested=control.call,
         form=Form.CALL)
register("composite", nested=control.call, form=Form.CALL, batches=False)
register("checkpoint", "remat", "remat2", nested=control.call, form=Form.REMAT)
register("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr",
         nested=control.custom_derivative, form=Form.CUSTOM, numbers=_ALL)
register("call_hi_primitive", nested=control.high_level, numbers=_ALL, batches=False,
         cost=Cost.KEPT)
register("custom_linear_solve", nested=control.linear_solve)
register("cond", nested=control.cond, form=Form.BRANCH, numbers=_ALL_BUT_FIRST, cost=Cost.KEPT)
register("scan", nested=control.scan, follows={"length": End.INPUT}, form=Form.LOOP,
         cost=Cost.KEPT)
register("while", nested=control.while_loop, form=Form.LOOP, numbers=_ALL, cost=Cost.KEPT)
register("tdjax_row_loop", cost=Cost.KEPT)
register("pure_callback", rows=control.callback, follows={"result_avals": End.NEITHER},
         batches=False, cost=Cost.KEPT)

# what devices, or the steps under a name, say to each other: no row may enter
register("all_gather", "pmax", "pmin", "psum", "psum2", "psum_invariant",
         form=Form.REDUCTION_OVER_DEVICES)
# fmt: on
