"""Wrong calls that type checkers cannot tell from right ones; at run time each says what it is."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

import tdjax
import tdjax.linen

X = np.ones((2, 3, 4), np.float32)
MASK = np.ones((2, 3), bool)


@tdjax.time_distributed
def step(x: np.ndarray, scale: float = 2.0) -> np.ndarray:
    return x * scale


def arguments_beside_a_mask() -> None:
    """With `mask` or `seq_lengths` the result alone is typed: no keyword joins a ParamSpec."""
    step(X, 2.0, 3.0, mask=MASK)


def keywords_beside_a_mask() -> None:
    step(X, factor=2.0, mask=MASK)


def mask_and_lengths() -> None:
    """Both at once: each form takes any other keywords."""
    step(X, mask=MASK, seq_lengths=np.array([1, 2]))


def shapes() -> None:
    step(X, mask=np.ones((3, 2), bool))


def dtypes() -> None:
    step(X, mask=np.ones((2, 3)))


def axes() -> None:
    tdjax.time_distributed(jnp.tanh, in_axes="time")


def numbers_out_of_range() -> None:
    tdjax.Fold(chunk_size=0)


def strategies_that_a_function_does_not_allow() -> None:
    tdjax.time_distributed(lambda x: x - x.mean(0), strategy="fold")(X)


def misspelled_texts() -> None:
    tdjax.Auto(memory_budget="64 elephants")


def classes_for_modules() -> None:
    """A class is callable, too."""
    tdjax.linen.TimeDistributed(nn.Dense)
