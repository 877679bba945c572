"""What else distributes a function over time: rivals that `tdjax compare --peers` measures as well.

Each is called as its users call it: shared arguments are closed over, time is axis 1.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.mask import resolve_mask

Step = Callable[..., Any]
Distribute = Callable[[Step, Sequence[Any], int], Any]
_BATCH_SIZE = 8


@dataclass(frozen=True)
class Peer:
    """Another library's way of applying a step function to every step.

    Attributes:
        name: the library and its function.
        distribute: `distribute(step, arrays, time)` gives the outputs; `arrays` have time at axis
            1, and `step` takes what one step sees of each.
        package: the library's name for `import`.
    """

    name: str
    distribute: Distribute
    package: str = "jax"

    @property
    def installed(self) -> bool:
        """Whether its library is here."""
        return importlib.util.find_spec(self.package) is not None

    def __str__(self) -> str:
        return self.name

    def run(
        self, fun: Step, given: Sequence[Any], keywords: dict[str, Any], in_axes: Any, out_axes: Any
    ) -> Any:
        """Return the outputs of `fun` on every step, masked ones zero.

        None of these libraries knows of a mask: they compute what it leaves out as well.

        Raises:
            ValueError: time is not axis 1 everywhere, or nothing is mapped.
        """
        axes = list(in_axes) if isinstance(in_axes, (tuple, list)) else [in_axes] * len(given)
        mapped = [index for index, axis in enumerate(axes) if axis is not None]
        if out_axes != 1 or not mapped or any(axes[index] != 1 for index in mapped):
            raise ValueError(
                f"{self.name} is compared on functions whose time axes are 1 or None, with one "
                f"axis for each argument; got in_axes={in_axes!r}, out_axes={out_axes!r}"
            )

        masks = {name: keywords.get(name) for name in ("mask", "seq_lengths")}
        own = {name: value for name, value in keywords.items() if name not in masks}
        time = jax.tree.leaves([given[index] for index in mapped])[0].shape[1]
        mask = resolve_mask(**masks, batch=None, time=time)
        outputs = self.apply(partial(fun, **own), given, mapped)
        return outputs if mask is None else jax.tree.map(partial(_zeroed, mask), outputs)

    def apply(self, step: Step, given: Sequence[Any], mapped: Sequence[int]) -> Any:
        """Return the outputs of a step on every step of the arguments at these places."""

        def one(*values: Any) -> Any:
            merged = list(given)
            for index, value in zip(mapped, values, strict=True):
                merged[index] = value
            return step(*merged)

        arrays = [given[index] for index in mapped]
        return self.distribute(one, arrays, jax.tree.leaves(arrays)[0].shape[1])


class StepOverTime(Exception):
    """What a peer was given that runs no program of JAX's.

    Args:
        fun: the step function.
        given: its arguments, some of them over time.
        mapped: the places of those, in `given`.
    """

    def __init__(self, fun: Step, given: Sequence[Any], mapped: Sequence[int]) -> None:
        super().__init__("this rival is no program of JAX's: it is measured on attached CPUs alone")
        self.fun, self.given, self.mapped = fun, given, mapped


class TensorFlowPeer(Peer):
    """Keras' TimeDistributed on TensorFlow, which takes the step's operations one by one."""

    @property
    def installed(self) -> bool:
        """Whether TensorFlow is here, and Keras."""
        return super().installed and importlib.util.find_spec("keras") is not None

    def apply(self, step: Step, given: Sequence[Any], mapped: Sequence[int]) -> Any:
        """Hand over the step, and run nothing."""
        raise StepOverTime(step, given, mapped)


def _zeroed(mask: Any, output: Any) -> Any:
    keep = mask.reshape(*mask.shape[:2], -1).any(-1)
    return jnp.where(keep.reshape(*keep.shape, *[1] * (output.ndim - 2)), output, 0)


def _vmap(step: Step, arrays: Sequence[Any], time: int) -> Any:
    return jax.vmap(step, in_axes=1, out_axes=1)(*arrays)


def _map(step: Step, arrays: Sequence[Any], time: int) -> Any:
    first = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), list(arrays))
    outputs = jax.lax.map(lambda values: step(*values), first, batch_size=_BATCH_SIZE)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), outputs)


def _loop(step: Step, arrays: Sequence[Any], time: int) -> Any:
    steps = zip(*(jnp.unstack(array, axis=1) for array in arrays), strict=True)
    outputs = [step(*values) for values in steps]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, 1), *outputs)


def _flax(step: Step, arrays: Sequence[Any], time: int) -> Any:
    from flax.linen import BatchApply

    return BatchApply(step)(*arrays)


def _haiku(step: Step, arrays: Sequence[Any], time: int) -> Any:
    import haiku

    return haiku.BatchApply(step)(*arrays)


PEERS = (
    Peer("jax.vmap", _vmap),
    Peer("flax BatchApply", _flax, "flax"),
    Peer("haiku BatchApply", _haiku, "haiku"),
    Peer(f"jax.lax.map({_BATCH_SIZE})", _map),
    Peer("loop (Keras 3)", _loop),
    TensorFlowPeer("Keras on TensorFlow", _loop, "tensorflow"),
)
