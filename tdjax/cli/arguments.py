"""What the words after a command mean: what runs, under which strategies, sizes, axes and times."""

from __future__ import annotations

import argparse
import functools
import shutil
import textwrap
from collections.abc import Callable
from typing import Any

from tdjax import workloads
from tdjax.core.byte_size import byte_size

INTERRUPTED = 130
_Read = Callable[[str], Any]


class Wrong(Exception):
    """Wrong usage; its text is the one line that the user sees."""


def wrapped(line: str) -> str:
    """Return a line wrapped at words, as wide as the terminal."""
    width = shutil.get_terminal_size((100, 24)).columns
    return textwrap.fill(
        line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def add_what(command: Any, strategies: str) -> None:
    """Add the options that say what runs, and under which strategies, of which there is help."""
    add = command.add_argument
    add(
        "what",
        nargs="*",
        metavar="WORKLOAD | MODULE:NAME",
        help=f"workloads to run, of {', '.join(workloads.names())} (default: all); or one thing "
        "of your own: package.module:function, a Linen or NNX module class, or a call with "
        "literal arguments that returns either",
    )
    add(
        "--shape",
        action="append",
        type=read_shape,
        metavar="8,16,64",
        help="shape (batch, time, ...) of an argument of MODULE:NAME; once per argument",
    )
    add(
        "--dtype",
        metavar="bfloat16",
        help="dtype of a workload's parameters and inputs; for MODULE:NAME, of its arguments "
        "(or one each: float32,int32; default: float32); a module's own parameters keep theirs",
    )
    add(
        "--in-axes",
        type=read_axes,
        metavar="1,none",
        help="time axis of the arguments of MODULE:NAME, or of each; none shares it (default: 1)",
    )
    add("--out-axes", type=read_axis, metavar="1", help="time axis of its output (default: 1)")
    add(
        "--no-calibrate",
        action="store_false",
        dest="calibrate",
        help="predict by speeds that are shipped where `tdjax calibrate` never ran here, instead "
        "of measuring this machine's own first (half a minute, once)",
    )
    add(
        "--strategies",
        metavar="vmap,fold",
        help=f"names, or as tables show them: 'vmap,Fold(512, unroll)'{strategies}",
    )


def series_of(chosen: argparse.Namespace) -> list[Any]:
    """Return what is to run: the workloads that are named, or one thing of the user's own."""
    from tdjax.comparison.subjects import suite

    strategies = None if chosen.strategies is None else strategies_of(chosen.strategies)
    functions = [name for name in chosen.what if ":" in name]
    if not functions:
        usual = workloads.names()
        if chosen.strategies == "peers":
            # A comparison on only the shapes that speeds were fitted to would prove little.
            usual += workloads.unseen()
        names = dict.fromkeys(chosen.what or usual)
        for option in ("shape", "in_axes", "out_axes"):
            if getattr(chosen, option) is not None:
                given = f"--{option.replace('_', '-')}"
                raise ValueError(f"{given} is for MODULE:NAME; a workload brings its own arrays")
        dtype = None if chosen.dtype is None else read_workload_dtype(chosen.dtype)
        return [suite.workload(name, strategies, chosen.quick, dtype) for name in names]
    if len(chosen.what) > 1:
        raise ValueError(f"give one MODULE:NAME, and nothing beside it; got {chosen.what}")
    if not chosen.shape:
        raise ValueError(f"{functions[0]} needs --shape, such as --shape 8,16,64, per argument")
    axes = (1,) if chosen.in_axes is None else chosen.in_axes
    if len(axes) not in (1, len(chosen.shape)):
        raise ValueError(f"--in-axes has {len(axes)} axes for {len(chosen.shape)} arguments")
    in_axes = axes[0] if len(axes) == 1 else axes
    out_axes = 1 if chosen.out_axes is None else chosen.out_axes
    dtypes = read_dtypes("float32" if chosen.dtype is None else chosen.dtype)
    if len(dtypes) not in (1, len(chosen.shape)):
        raise ValueError(f"--dtype has {len(dtypes)} dtypes for {len(chosen.shape)} arguments")
    return [suite.function(functions[0], chosen.shape, dtypes, in_axes, out_axes, strategies)]


def strategies_of(text: str) -> Any:
    """Return the strategies of a list, or the name of a set of them."""
    from tdjax.comparison.subjects import suite
    from tdjax.comparison.subjects.strategy_list import parse_strategies

    return text if text in suite.SETS else parse_strategies(text)


def read_words(text: str) -> list[str]:
    """Return the words of a list with commas."""
    return [word.strip() for word in text.split(",")]


def _else_say(wanted: str) -> Callable[[_Read], _Read]:
    """Decorate a reader of words: where it raises, the user is told what is wanted."""

    def decorate(read: _Read) -> _Read:
        @functools.wraps(read)
        def reader(text: str) -> Any:
            try:
                return read(text)
            except (ValueError, OverflowError):
                raise argparse.ArgumentTypeError(f"{text!r} {wanted}") from None

        return reader

    return decorate


def _positive(number: Any) -> Any:
    if not number > 0:
        raise ValueError
    return number


@_else_say("is not a shape; write positive sizes, as 8,16,64")
def read_shape(text: str) -> tuple[int, ...]:
    """Return a shape of positive sizes."""
    return tuple(_positive(int(size)) for size in text.split(","))


read_bytes = _else_say("is not a size; write 500kB, 64MB, 1GiB, ...")(byte_size)


@_else_say("is not a time; write seconds above 0, or none")
def read_seconds(text: str) -> float | None:
    """Return seconds above 0, or None for "none"."""
    return None if text.strip().lower() == "none" else _positive(float(text))


@_else_say("are not parts; write numbers above 0, up to 1, as 0.25,0.5,1")
def read_fractions(text: str) -> list[float]:
    """Return parts of a whole, each above 0 and at most 1."""
    parts = [float(word) for word in read_words(text)]
    if not all(0 < part <= 1 for part in parts):
        raise ValueError
    return parts


@_else_say("is not an axis; write an int or none")
def read_axis(text: str) -> int | None:
    """Return an axis, or None for "none"."""
    return None if text.strip().lower() == "none" else int(text)


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
            raise ValueError(
                f"--dtype: {name!r} is not a dtype; use float32, bfloat16, ..."
            ) from None
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
