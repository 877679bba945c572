"""What devices compute, marked, so that `jax.experimental.checkify` refuses what it cannot check.

JAX checks a `jax.shard_map` with its own rule. That fails, without a name of ours, where a mesh is
in scope, where its axes are explicit, and for a derivative. It checks what is inside first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.interpreters import ad

from tdjax.core.checkable import SingleResult, with_tangent
from tdjax.core.errors import StrategyError


def _same(array: Any, *, fails: bool) -> Any:
    return array


def _check(array: Any, *, fails: bool) -> list[Any]:
    if fails:
        raise StrategyError(
            "checkify cannot check what partition= spreads over devices, because JAX's rule for "
            "jax.shard_map fails for derivatives, and on a mesh that is explicit or in scope: "
            "leave partition= away to check."
        )
    return [array]


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, fails: bool) -> tuple[Any, Any]:
    output = marked_p.single(*primals, fails=True)
    moves = not isinstance(tangents[0], ad.Zero)
    return with_tangent(output, [marked_p.single(*tangents, fails=True)] if moves else [])


def _transpose(cotangent: Any, array: Any, *, fails: bool) -> list[Any]:
    return [marked_p.single(cotangent, fails=fails)]


def _batch(arrays: Sequence[Any], axes: Sequence[Any], *, fails: bool) -> tuple[Any, Any]:
    return marked_p.single(*arrays, fails=fails), axes[0]


marked_p = SingleResult(
    "tdjax_on_device", _same, _same, jvp=_jvp, transpose=_transpose, batch=_batch, checked=_check
)
"""Returns its input; `fails` says whether JAX cannot check where it stands."""
