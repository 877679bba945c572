"""`tdjax tune` and `tdjax fit`: what `auto` learns from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tdjax.cli.arguments import INTERRUPTED, Wrong, add_what, read_bytes, series_of, wrapped
from tdjax.cli.show import load


def add(commands: Any) -> None:
    """Add the commands."""
    tune = commands.add_parser(
        "tune",
        help="measure what is fastest, and let auto take it from then on",
        description="Measure the strategies that promise most on a workload or a function of your "
        "own, and remember the results: auto looks there first.",
    )
    add_what(tune, " (default: those that auto predicts to be near the fastest)")
    option = tune.add_argument
    option("--mode", choices=("forward", "grad", "both"), default="both", help="default: both")
    option(
        "--memory-budget",
        type=read_bytes,
        metavar="64MB",
        help="temporary memory that the program may take; what takes more is not run",
    )
    option(
        "--target",
        metavar="tpu:v5e",
        help="a device that is not here: have all candidates compiled for it, and rank them by "
        "cycles or bytes; a run that was interrupted goes on where it ended",
    )
    option(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="what a call may take, or the compiling of a program for a target (default: 60)",
    )
    option(
        "--out",
        type=Path,
        metavar="FILE.json",
        help="also write the results, and speeds fitted to them, as a file for tdjax/devices, "
        "where auto finds them on every device of this kind",
    )
    option("--list", action="store_true", help="list the results that are kept")
    option(
        "--clear",
        nargs="?",
        const="",
        metavar="NAME",
        help="delete them all, or those of a workload or function",
    )
    option("--export", type=Path, metavar="FILE", help="write them all, or those of what is named")
    option("--import", type=Path, metavar="FILE", dest="taken_in", help="keep what --export wrote")
    tune.set_defaults(command=_tune, quick=False)
    fit = commands.add_parser(
        "fit",
        help="fit the speeds that auto predicts from to measurements of this machine",
        description="Fit the speeds that auto predicts from to what `tdjax compare --strategies "
        "every` measured, and print them with what choices by them lose.",
    )
    fit.add_argument("files", nargs="+", type=Path, metavar="FILE", help="comparison.json of a run")
    fit.add_argument(
        "--out",
        type=Path,
        metavar="FILE.json",
        help="write them as a file for tdjax/devices, where auto finds them by the kind of device",
    )
    fit.set_defaults(command=_fit)


def _tune(chosen: argparse.Namespace) -> int:
    from tdjax.comparison.calibration import calibrate_first
    from tdjax.comparison.subjects.suite import SETS
    from tdjax.comparison.system.interrupts import heeding
    from tdjax.comparison.system.progress import shown

    if chosen.list or chosen.clear is not None or chosen.export or chosen.taken_in:
        return _manage(chosen)
    if chosen.target is not None and chosen.out is not None:
        raise Wrong("--out writes speeds that were measured: leave out --target, or use --export")
    if chosen.strategies in SETS:
        raise Wrong(
            f"--strategies {chosen.strategies} is for `tdjax compare`: name what auto may take, as "
            "in 'vmap,Fold(512, unroll)', or leave it out"
        )
    try:
        all_series = series_of(chosen)
    except (ValueError, TypeError, ImportError) as error:
        raise Wrong(error) from None
    tunings: list[Any] = []
    interrupted = False
    with shown() as shown_progress, heeding(shown_progress) as progress:
        try:
            if chosen.calibrate and chosen.target is None:
                calibrate_first(progress)
            for series in all_series:
                tunings.append(_tune_one(series, chosen, progress))
        except KeyboardInterrupt:
            if not tunings:
                raise
            interrupted = True
    if chosen.out is not None:
        from tdjax.comparison.targets.environment import environment
        from tdjax.comparison.targets.target import resolve

        entries = [entry for tuning in tunings for entry in tuning.entries]
        results = [result for tuning in tunings for result in tuning.results]
        _keep_device(entries, environment(resolve(None)), results, chosen.out)
    if interrupted:
        sys.stderr.write("interrupted\n")
    return INTERRUPTED if interrupted else 0


def _tune_one(series: Any, chosen: argparse.Namespace, progress: Any) -> Any:
    from tdjax.tuning.tune import tune_subject

    try:
        made, strategies = series.make()
        given = None if chosen.strategies is None else strategies
        modes = chosen.mode, given, chosen.memory_budget, chosen.timeout
        target = () if chosen.target is None else (chosen.target,)
        tuning = tune_subject(made, *modes, progress, *target)
    except ImportError as error:
        raise Wrong(error) from error
    except ValueError as error:
        raise Wrong(f"{series.name}: {error}") from error
    progress.log(f"{series.name}: {tuning}")
    return tuning


def _line(result: Any) -> str:
    """Return what a result says, in a line."""
    from tdjax.comparison.numbers import join
    from tdjax.devices.compiled_result import CYCLES, CompiledResult
    from tdjax.devices.tuned_result import level

    sizes = " x ".join(map(str, result.sizes))
    about = f"{result.title} {result.mode}, {sizes} rows, {result.device}, {result.date}"
    if not isinstance(result, CompiledResult):
        fastest = level(result.bounds_s) or ("nothing",)
        return f"{about}: {join(fastest)}{' are level' if len(fastest) > 1 else ' is fastest'}"
    least = level(result.bounds(result.metric)) or ("nothing",)
    own = (f"{n} {v}" for n, v in result.versions.items() if n not in ("jaxlib", "tdjax"))
    what = "cycles" if result.metric == CYCLES else "bytes"
    verb = f"are level in {what}" if len(least) > 1 else f"has the fewest {what}"
    return f"{about}: {join(least)} {verb}, compiled for {result.target} by {', '.join(own)}"


def _manage(chosen: argparse.Namespace) -> int:
    """List, delete, write or take in the results that are kept."""
    from tdjax.strategies.choosing import tuned

    said: list[str] = []
    names = chosen.what
    try:
        if chosen.taken_in:
            said.append(f"took in {_take_in(chosen.taken_in)} results, to {tuned.folder()}")
        if chosen.list:
            found = tuned.everything(names).values()
            said += map(_line, found)
            said.append(f"{len(found)} results in {tuned.folder()}")
        if chosen.export:
            said.append(f"wrote {tuned.export(chosen.export, names)} results to {chosen.export}")
        if chosen.clear is not None:
            count = tuned.clear([*names, *([chosen.clear] if chosen.clear else [])])
            said.append(f"deleted {count} results in {tuned.folder()}")
    except OSError as error:
        raise Wrong(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise Wrong(error) from None
    sys.stdout.writelines(f"{wrapped(line)}\n" for line in said)
    return 0


def _take_in(path: Path) -> int:
    from tdjax.strategies.choosing import tuned

    try:
        return len(tuned.take_in(path))
    except ValueError as error:
        raise Wrong(f"{path}: {error}") from None


def _fit(chosen: argparse.Namespace) -> int:
    comparisons = [load(path) for path in chosen.files]
    entries = [entry for comparison in comparisons for entry in comparison.entries]
    _keep_device(entries, comparisons[0].environment, (), chosen.out)
    return 0


def _keep_device(entries: Sequence[Any], environment: Any, results: Any, out: Path | None) -> None:
    """Fit speeds to what was measured, say how good they are, and write a device's file."""
    from tdjax.core import whole_file
    from tdjax.costs.machine import machine_of
    from tdjax.tuning import fit as fitting

    try:
        measured = fitting.measured(entries)
    except ValueError as error:
        raise Wrong(error) from None
    platform = next(entry.target for entry in entries if entry.evidence == "measured")
    start = fitting.fit(measured, machine_of(platform), steps=0)
    found = fitting.fit(measured, machine_of(platform))
    for title, fit in (("shipped", start), ("fitted", found)):
        chosen = fit.chosen.items()
        choices = ", ".join(f"{name} {mode}: {strategy}" for (name, mode), strategy in chosen)
        sys.stdout.write(
            f"{title}: choices take {fit.regret:.3f}x the best that was measured; predictions "
            f"differ by {fit.error:.0%}\n  {choices}\n"
        )
    try:
        text = fitting.device_file(found, environment, platform, results)
    except ValueError as error:
        raise Wrong(error) from None
    if out is None:
        sys.stdout.write(text)
        return
    try:
        saved = whole_file.write(out, text)
    except OSError as error:
        raise Wrong(f"--out {out}: cannot be written: {error.strerror}") from None
    sys.stderr.write(f"saved: {saved}\n")
