"""What the words after an option say: sizes, axes, times, parts, dtypes."""

from __future__ import annotations

import argparse


def read_words(text: str) -> list[str]:
    """Return the words of a list with commas."""
    return [word.strip() for word in text.split(",")]


def read_shape(text: str) -> tuple[int, ...]:
    """Return a shape of positive sizes."""
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = (-1,)
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; write positive sizes, as 8,16,64")
    return sizes


def read_bytes(text: str) -> int:
    """Return bytes, of a size such as "64MB"."""
    scales = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
    scales |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
    number = text.strip().rstrip("kKMGgmiIbB")
    try:
        size = int(float(number) * scales[text.strip()[len(number) :].strip().upper()])
    except (ValueError, KeyError):
        size = 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 500kB, 64MB, 1GiB, ...")
    return size


def read_seconds(text: str) -> float | None:
    """Return seconds above 0, or None for "none"."""
    if text.strip().lower() == "none":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write seconds above 0, or none")
    return seconds


def read_fractions(text: str) -> list[float]:
    """Return parts of a whole, each above 0 and at most 1."""
    try:
        parts = [float(word) for word in read_words(text)]
    except ValueError:
        parts = [0.0]
    if not all(0 < part <= 1 for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} are no parts; write numbers above 0, up to 1, as 0.25,0.5,1"
        )
    return parts


def read_axis(text: str) -> int | None:
    """Return an axis, or None for "none"."""
    if text.strip().lower() == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no axis; write an int or none") from None


def read_axes(text: str) -> tuple[int | None, ...]:
    """Return one axis an argument."""
    return tuple(read_axis(part) for part in text.split(","))


def read_dtypes(names: str) -> list[str]:
    """Return the full names of the dtypes in a list of them."""
    import jax
    import jax.numpy as jnp

    dtypes = []
    for name in read_words(names):
        try:
            dtypes.append(jnp.dtype(name))
        except TypeError:
            raise ValueError(f"--dtype: {name!r} is no dtype; use float32, bfloat16, ...") from None
        if jax.dtypes.canonicalize_dtype(dtypes[-1]) != dtypes[-1]:
            raise ValueError(
                f"--dtype {name}: JAX works with 32 bits here; set JAX_ENABLE_X64=1 for 64"
            )
    return [dtype.name for dtype in dtypes]


def read_workload_dtype(name: str) -> str:
    """Return the one floating point dtype of a workload."""
    import jax.numpy as jnp

    dtypes = read_dtypes(name)
    if len(dtypes) > 1 or not jnp.issubdtype(dtypes[0], jnp.floating):
        raise ValueError(
            f"--dtype {name}: a workload takes one floating point dtype; use float32, bfloat16, ..."
        )
    return dtypes[0]
