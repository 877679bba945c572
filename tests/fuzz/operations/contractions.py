"""Lines that multiply: matrices, convolutions, linear algebra."""

from __future__ import annotations

from ..scope import Scope, Unfit, Value
from .registry import builds

_LETTERS = "bcdefg"


@builds("dot_general", weight=5)
def _matmul(scope: Scope) -> str:
    a = scope.pick(low=1, high=3)
    if a.rows == a.rank - 1:
        side = scope.shared((scope.feature(), a.shape[0])) if a.rank > 1 else None
        if side is None or a.rows == 0:
            raise Unfit
        return f"{side} @ {a}" if a.rank == 2 else f"jnp.tensordot({side}, {a}, 1)"
    weight = scope.shared((a.shape[-1], scope.feature()))
    return scope.rng.choice([f"{a} @ {weight}", f"jnp.einsum('...i,ij->...j', {a}, {weight})"])


@builds("dot_general", weight=4)
def _einsum(scope: Scope) -> str:
    a = scope.pick(low=1, high=3)
    letters = list(_LETTERS[: a.rank])
    rows = letters[a.rows] if a.rows is not None else None
    other = scope.another(a) if scope.chance(0.7) else scope.pick(low=1, high=3)
    if (other.type.small, other.type.large) == (a.type.small, a.type.large):
        theirs = list(letters)
        free = [i for i in range(a.rank) if i != a.rows]
        if free and scope.chance(0.5):
            theirs[scope.rng.choice(free)] = "z"  # an outer product along this axis
    else:
        theirs = []
        for axis in range(other.rank):
            if axis == other.rows and rows is not None:
                theirs.append(rows)
                continue
            same = [
                x
                for i, x in enumerate(letters)
                if a.shape[i] == other.shape[axis] and x != rows and x not in theirs
            ]
            theirs.append(same[0] if same and axis != other.rows else "uvwxyz"[axis])
    everything = list(dict.fromkeys([*letters, *theirs]))
    kept = [x for x in everything if x == rows or scope.chance(0.6)]
    if rows is not None and scope.chance(scope.setting.mixing):
        kept.remove(rows)
    scope.rng.shuffle(kept)
    spec = f"{''.join(letters)},{''.join(theirs)}->{''.join(kept)}"
    return f"jnp.einsum({spec!r}, {a}, {other})"


@builds("dot_general")
def _attention(scope: Scope) -> str:
    a = scope.pick(low=3, high=3)
    if a.rows != 0:
        raise Unfit
    scores = f"jnp.einsum('bid,bjd->bij', {a}, {scope.another(a)})"
    return f"jax.nn.softmax({scores}, -1) @ {a}"


@builds("dot_general")
def _gram(scope: Scope) -> str:
    a = scope.pick(low=2, high=2)
    if not scope.chance(4 * scope.setting.mixing):
        raise Unfit
    return scope.rng.choice([f"{a} @ {a}.T @ {a}", f"{a} @ ({a}.T @ {a})"])


@builds("ragged_dot_general")
def _ragged(scope: Scope) -> str:
    a = scope.pick(low=2, high=2)
    if a.rows != 0:
        raise Unfit
    weight = scope.shared((2, a.shape[1], scope.feature()))
    groups = scope.rng.choice([f"jnp.array([1, {a}.shape[0] - 1])", "jnp.array([1, 1])"])
    return f"jax.lax.ragged_dot({a}, {weight}, {groups})"


@builds("conv_general_dilated", weight=5)
def _convolution(scope: Scope) -> str:
    spatial = scope.rng.choice([1, 1, 2])
    image = scope.pick(low=2, high=spatial + 2, where=lambda v: v.rows == 0)
    if image.rank < spatial + 2:
        more = spatial + 2 - image.rank
        image = scope.line(f"{image}[:, {'None, ' * more}:]")
    if scope.chance(0.5):
        image = scope.line(f"jnp.concatenate([{image}, {image} * 0.5], 1)")
    channels = image.shape[-1]
    groups = scope.rng.choice([1, 1, channels])
    out = groups * scope.rng.choice([1, 2])
    kernel = scope.shared(
        (*[scope.rng.choice([1, 2]) for _ in range(spatial)], channels // groups, out)
    )
    letters = "HW"[:spatial]
    numbers = f"('N{letters}C', '{letters}IO', 'N{letters}C')"
    stride = ", ".join(scope.size(1, 2) for _ in range(spatial))
    pads = ", ".join(f"({scope.size(0, 1)}, {scope.size(0, 1)})" for _ in range(spatial))
    padding = scope.rng.choice(["'SAME'", "'VALID'", f"({pads},)"])
    more = ""
    if scope.chance(0.3):
        more += f", lhs_dilation=({', '.join(scope.size(1, 2) for _ in range(spatial))},)"
    if scope.chance(0.3):
        more += f", rhs_dilation=({', '.join(scope.size(1, 2) for _ in range(spatial))},)"
    if groups > 1 or scope.chance(0.3):
        more += f", feature_group_count={scope.number(groups)}"
    elif scope.chance(0.2):
        more += f", batch_group_count={scope.size(1, 2)}"
    return (
        f"jax.lax.conv_general_dilated({image}, {kernel}, ({stride},), {padding}, "
        f"dimension_numbers={numbers}{more})"
    )


@builds("conv_general_dilated")
def _kernel_of_rows(scope: Scope) -> str:
    image = scope.pick(low=3, high=3, where=lambda v: v.rows == 0)
    kernel = scope.rng.choice(
        [f"{scope.another(image)}", f"jnp.ones((1, {image}.shape[-1], {image}.shape[0]))"]
    )
    numbers = "('NWC', 'WIO', 'NWC')"
    return f"jax.lax.conv_general_dilated({image}, {kernel}, (1,), 'SAME', dimension_numbers={numbers})"  # noqa: E501


@builds("tdjax_conv_general_dilated", "tdjax_conv_written_out", "tdjax_conv_written_out_kept")
@builds("tdjax_row_loop", "conv_general_dilated")
def _distributed_inside(scope: Scope) -> str:
    a = scope.pick(low=2, high=3, where=lambda v: v.rows == 0)
    rest = ", None" * (3 - a.rank)
    kernel = scope.shared((1, 1, 2))
    numbers = "('NWC', 'WIO', 'NWC')"
    inner = (
        f"lambda z: jax.lax.conv_general_dilated(z.reshape(z.shape[0], -1, 1), {kernel}, (1,), "
        f"'SAME', dimension_numbers={numbers})"
    )
    block = scope.size(1, 3)
    blocks = [f"tdjax.Fold(chunk_size={block}{more})" for more in ("", ", unroll=True")]
    strategies = blocks * 2 + ["'fold'", "'map'", "'vmap'", "'auto'"]
    strategy = scope.rng.choice([*strategies, f"tdjax.Packed(chunk_size={block})"])
    mask = f", mask=jnp.ones({a}.shape[:2], bool)" if "Packed" in strategy else ""
    spread = f"{a}[:, :{rest}]" if rest else str(a)
    return f"tdjax.time_distributed({inner}, strategy={strategy})({spread}{mask})"


def matrix(scope: Scope, definite: bool = False) -> Value:
    """Return a well-conditioned matrix a row, a step or one for all."""
    kind = scope.rng.choice(["rows", "rows", "rows", "shared"])
    if kind == "shared":
        n = scope.rng.choice([2, 3])
        a = scope.shared((n, n))
        product = f"{a} @ {a}.T * 0.1 + 2.0 * jnp.eye({n})"
    else:
        a = scope.pick(low=1, high=3, rows=True)
        last = a.shape[-1]
        if a.rows == a.rank - 1 or last > 4:
            raise Unfit
        product = (
            f"{a}[..., :, None] * {a}[..., None, :] * 0.1 + 2.0 * jnp.eye({scope.number(last)})"
        )
    if not definite and scope.chance(0.5):
        product += f" + 0.1 * jnp.tri({a.shape[-1]})"
    return scope.line(product)


_FACTORS = {
    "cholesky": ["jnp.linalg.cholesky({m})", "jax.lax.linalg.cholesky({m}, symmetrize_input=False)"],  # noqa: E501
    "eigh": ["jnp.linalg.eigvalsh({m})", "jnp.abs(jnp.linalg.eigh({m})[1])"],
    "svd": ["jnp.linalg.svd({m}, compute_uv=False)", "jax.lax.linalg.svd({m}, compute_uv=False, subset_by_index=(0, {n}))"],  # noqa: E501
    "qr": ["jnp.linalg.qr({m})[1]", "jax.lax.linalg.qr({m}, full_matrices=False)[1]"],
    "geqrf": ["jnp.linalg.qr({m})[0]"],
    "householder_product": ["jnp.linalg.qr({m})[0]"],
    "lu": ["jax.lax.linalg.lu({m})[0]", "jnp.linalg.det({m})", "jnp.linalg.slogdet({m})[1]"],
    "lu_pivots_to_permutation": ["jnp.linalg.inv({m})", "jax.lax.linalg.lu({m})[2]"],
    "hessenberg": ["jax.lax.stop_gradient(jax.lax.linalg.hessenberg({m})[0])"],
    "schur": ["jax.lax.stop_gradient(jax.lax.linalg.schur({m})[0])"],
    "eig": ["jax.lax.stop_gradient(jnp.sort(jnp.linalg.eigvals({m}).real, -1))"],
    "geqp3": ["jax.lax.stop_gradient(jax.scipy.linalg.qr({m}, pivoting=True)[1])"],
    "ormqr": ["jax.lax.linalg.ormqr(*[jax.lax.stop_gradient(z) for z in ({m}, {m}[..., 0] * 0.1, {m})])"],  # noqa: E501
    "cholesky_update": ["jax.lax.linalg.cholesky_update(*[jax.lax.stop_gradient(z) for z in ({m}, {m}[..., 0] * 0.1)])"],  # noqa: E501
    "symmetric_product": ["jax.lax.linalg.symmetric_product(*[jax.lax.stop_gradient({m})] * 2)"],
    "tridiagonal": ["jax.lax.linalg.tridiagonal(jax.lax.stop_gradient({m}))[1]"],
    "tridiagonal_solve": ["jax.lax.linalg.tridiagonal_solve({m}[..., 0], {m}[..., 1] + 2.0, {m}[..., 0], {m})"],  # noqa: E501
}  # fmt: skip


def _factor(forms: list[str], definite: bool) -> object:
    def build(scope: Scope) -> str:
        form = scope.rng.choice(forms)
        return form.format(m=matrix(scope, definite), n=scope.size(1, 2))

    return build


for _name, _forms in _FACTORS.items():
    builds(_name)(_factor(_forms, _name in ("cholesky", "eigh")))  # type: ignore[arg-type]


@builds("householder_product", "geqrf")
def _householder(scope: Scope) -> str:
    m = matrix(scope)
    return f"jax.lax.stop_gradient(jax.lax.linalg.householder_product({m}, {m}[..., 0] * 0.1))"


def right_side(scope: Scope, m: Value) -> str:
    """Return code for the right side of a system of equations."""
    n = m.shape[-1]
    if scope.chance(0.4):
        return str(scope.shared((n, 2)))
    if m.rows is not None:
        return f"{m} * 0.5"
    if scope.closed:
        raise Unfit
    return f"{scope.rows_value((n,))}[..., None]"


@builds("triangular_solve", "custom_linear_solve")
def _solve(scope: Scope) -> str:
    m = matrix(scope, definite=True)
    b = right_side(scope, m)
    flag = scope.rng.choice(["True", "False"])
    form = scope.rng.choice(
        [
            "jnp.linalg.solve({m}, {b})",
            "jnp.linalg.inv({m})",
            "jnp.linalg.inv({m}) @ {b}",
            "jax.scipy.linalg.solve({m}, {b}, assume_a='pos')",
            "jax.scipy.linalg.solve_triangular({m}, {b}, lower={f})",
            "jax.lax.linalg.triangular_solve({m}, {m}, left_side={f}, lower=True)",
            "jax.scipy.linalg.cho_solve((jnp.linalg.cholesky({m}), True), {b})",
            "jnp.linalg.pinv({m})",
        ]
    )
    return form.format(m=m, b=b, f=flag)


@builds("custom_linear_solve")
def _solve_by_function(scope: Scope) -> str:
    a = scope.pick(low=1, where=lambda v: v.rows == 0)
    scale = scope.rng.choice(["2.0", "(1.5 + jnp.abs({a}))", "(1.0 + {w} ** 2)"])
    scale = scale.format(a=a, w=scope.shared((a.shape[-1],)) if a.rank > 1 else "1.0")
    solver = scope.rng.choice(
        ["lambda mv, b: b / {s}", "lambda mv, b: b / {s}", "lambda mv, b: b / {s} + 0 * b.mean()"]
    ).format(s=scale)
    if "mean" in solver and not scope.chance(3 * scope.setting.mixing):
        raise Unfit
    form = scope.rng.choice([", symmetric=True", f", transpose_solve={solver}"])
    return f"jax.lax.custom_linear_solve(lambda z: z * {scale}, {a}, {solver}{form})"
