"""What runs, and under which strategies: the options that commands share."""

from __future__ import annotations

import argparse
from typing import Any

from tdjax import workloads
from tdjax.cli.words import read_axes, read_axis, read_dtypes, read_shape, read_workload_dtype


def add_what(command: Any) -> None:
    """Add the options that say what runs, and under which strategies."""
    add = command.add_argument
    add(
        "what",
        nargs="*",
        metavar="WORKLOAD | MODULE:NAME",
        help=f"workloads to run, of {', '.join(workloads.names())} (default: all); or one thing "
        "of your own: package.module:function, a Linen or NNX module class, or a call with "
        "literal arguments that gives either",
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
        "(or one each: float32,int32; default: float32), a module's own parameters are its affair",
    )
    add(
        "--in-axes",
        type=read_axes,
        metavar="1,none",
        help="time axis of the arguments of MODULE:NAME, or of each; none shares it (default: 1)",
    )
    add("--out-axes", type=read_axis, metavar="1", help="time axis of its output (default: 1)")
    add(
        "--strategies",
        metavar="vmap,fold",
        help="names, or as tables show them: 'vmap,Fold(512, unroll)'; or peers: auto and its "
        "rivals; or every: auto and all that it chooses from, which takes long "
        "(default: vmap, fold, map, unroll, and folds in blocks of rows)",
    )


def series_of(chosen: argparse.Namespace) -> list[Any]:
    """Return what is to run: the workloads that are named, or one thing of the user's own."""
    from tdjax.comparison.subjects import suite

    strategies = None if chosen.strategies is None else strategies_of(chosen.strategies)
    functions = [name for name in chosen.what if ":" in name]
    if not functions:
        usual = workloads.names()
        if chosen.strategies == "peers":
            # A contest on nothing but the shapes that speeds were fitted to would prove little.
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
    from tdjax.comparison.subjects.strategy_list import read_strategies

    return text if text in suite.SETS else read_strategies(text)
