"""The command line: `tdjax compare`, `tdjax show`, `tdjax targets`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

_MEASURING_S = 150.0
_ALL_S = 335.0
_USAGE = 2
_INTERRUPTED = 130


class _Wrong(Exception):
    """A call that cannot be answered; its text is the one line that the user sees."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and no more."""

    def error(self, message: str) -> NoReturn:
        raise _Wrong(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after the program's name; None takes the process's own.

    Returns:
        The exit code: 0; 2 for a call that cannot be answered, after one line that begins
        with `error:`; 130 after Ctrl-C.
    """
    from tdjax.comparison.hardware import leave_out_absent

    try:
        chosen = _parser().parse_args(arguments)
        leave_out_absent()
        return chosen.command(chosen)
    except _Wrong as error:
        return _fail(error)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return _INTERRUPTED


def _fail(error: object) -> int:
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return _USAGE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tdjax", description="Compare the ways to distribute a function over time."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_compare(commands)
    show = commands.add_parser("show", help="print a saved comparison")
    show.add_argument("file", type=Path, help="the JSON file that a comparison was saved to")
    show.set_defaults(command=_show)
    targets = commands.add_parser("targets", help="list the devices to compare on")
    targets.set_defaults(command=_targets)
    return parser


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser(
        "compare",
        help="measure strategies, on the built-in workloads or on a function of your own",
        description="Measure strategies, check that they agree, and say which is fastest.",
    )
    add = compare.add_argument
    add(
        "what",
        nargs="*",
        metavar="WORKLOAD | MODULE:FUNCTION",
        help="workloads to run (default: all), or one function of your own",
    )
    add(
        "--shape",
        action="append",
        type=_shape,
        metavar="8,16,64",
        help="shape (batch, time, ...) of an argument of MODULE:FUNCTION; once per argument",
    )
    add("--dtype", default="float32", help="dtype, or one per argument: float32,int32")
    add("--in-axes", default="1", type=_axes, metavar="1,none", help="time axis per argument")
    add("--out-axes", default="1", type=_axis, help="time axis of the output")
    add("--strategies", metavar="vmap,fold", help="strategies (default: those and blocks of rows)")
    add(
        "--targets",
        metavar="cpu,tpu:v5e",
        help="devices of `tdjax targets` (default: the attached one that JAX chooses)",
    )
    add("--mode", choices=("forward", "grad", "both"), default="both", help="default: both")
    add("--rounds", type=int, help="samples of each candidate (default: as time allows)")
    add("--timeout", type=float, default=60.0, help="seconds that one call may take")
    add("--quick", action="store_true", help="tiny arrays: does it all work?")
    add("--json", action="store_true", help="print the comparison as JSON instead of a table")
    add(
        "--out",
        type=Path,
        default=Path("tdjax-results"),
        metavar="DIR",
        help="folder for comparison.json, .png and .html (default: tdjax-results)",
    )
    compare.set_defaults(command=_compare)


def _compare(chosen: argparse.Namespace) -> int:
    from tdjax.comparison import atomic
    from tdjax.comparison.extras import need
    from tdjax.comparison.progress import shown
    from tdjax.comparison.session import Limits, Session, modes
    from tdjax.comparison.targets import resolve

    try:
        need("rich", "tables")
        need("matplotlib", "plots")
        targets = resolve(chosen.targets and chosen.targets.split(","))
        jobs, effort = _jobs(chosen), _effort(chosen)
    except (ValueError, TypeError, ImportError) as error:
        raise _Wrong(error) from None
    try:
        folder = atomic.check_folder(chosen.out)
    except OSError as error:
        raise _Wrong(f"--out {chosen.out}: cannot write there: {error.strerror}") from None
    interrupted = False
    with shown() as progress:
        limits = None if chosen.rounds else Limits(_MEASURING_S, _ALL_S)
        session = Session(targets, modes(chosen.mode), effort, progress, limits)
        try:
            session.run(jobs)
        except KeyboardInterrupt:
            interrupted = True
        except Exception as error:
            # What a user's function raises is the user's: it is named, not explained.
            raise _Wrong(f"{session.current}: {type(error).__name__}: {error}") from error
    comparison = session.comparison(interrupted)
    if comparison.entries:
        _present(comparison, folder, chosen.json, chosen.quick)
    return _INTERRUPTED if interrupted else 0


def _present(comparison: Any, folder: Path, as_json: bool, quick: bool) -> None:
    from rich.console import Console

    if as_json:
        sys.stdout.write(comparison.to_json())
    else:
        Console().print(comparison)
    paths = [
        comparison.save(folder / "comparison.json"),
        comparison.plot(folder / "comparison.png"),
        comparison.report(folder / "comparison.html"),
        *_pictures(comparison, folder, quick),
    ]
    sys.stderr.write(f"\nsaved: {', '.join(str(path) for path in paths)}\n")


def _pictures(comparison: Any, folder: Path, quick: bool) -> list[Path]:
    """Draw what the workloads that were compared look at, where that can be seen."""
    from tdjax import workloads

    paths = []
    for name in {entry.workload: None for entry in comparison.entries}:
        picture = workloads.get(name).picture if name in workloads.names() else None
        if picture is not None:
            paths.append(folder / f"{name}.png")
            picture(paths[-1], quick)
    return paths


def _jobs(chosen: argparse.Namespace) -> list[Any]:
    from tdjax import workloads
    from tdjax.comparison import suite

    strategies = None if chosen.strategies is None else _strategies(chosen.strategies)
    functions = [name for name in chosen.what if ":" in name]
    if not functions:
        if chosen.shape:
            raise ValueError("--shape is for MODULE:FUNCTION; a workload brings its own arrays")
        names = chosen.what or workloads.names()
        return [suite.workload(name, strategies, chosen.quick) for name in names]
    if len(chosen.what) > 1:
        raise ValueError(f"give one MODULE:FUNCTION, and nothing beside it; got {chosen.what}")
    if not chosen.shape:
        raise ValueError(f"{functions[0]} needs --shape, such as --shape 8,16,64, per argument")
    axes = chosen.in_axes
    if len(axes) not in (1, len(chosen.shape)):
        raise ValueError(f"--in-axes has {len(axes)} axes for {len(chosen.shape)} arguments")
    in_axes = axes[0] if len(axes) == 1 else axes
    dtypes = _dtypes(chosen.dtype, len(chosen.shape))
    return [
        suite.function(functions[0], chosen.shape, dtypes, in_axes, chosen.out_axes, strategies)
    ]


def _effort(chosen: argparse.Namespace) -> Any:
    from tdjax.comparison.api import check_effort
    from tdjax.comparison.rounds import Effort

    check_effort(chosen.rounds, chosen.timeout)
    if chosen.quick:
        return Effort(rounds=chosen.rounds, budget_s=0.2, timeout_s=chosen.timeout)
    return Effort(rounds=chosen.rounds, budget_s=3.0, timeout_s=chosen.timeout)


def _strategies(names: str) -> list[Any]:
    from tdjax.comparison.api import parse_strategies

    return parse_strategies([name.strip() for name in names.split(",") if name.strip()])


def _dtypes(names: str, arguments: int) -> list[str]:
    import jax.numpy as jnp

    given = names.split(",")
    if len(given) not in (1, arguments):
        raise ValueError(f"--dtype has {len(given)} dtypes for {arguments} arguments")
    for name in given:
        try:
            jnp.dtype(name)
        except TypeError:
            raise ValueError(f"--dtype: {name!r} is no dtype; use float32, bfloat16, ...") from None
    return given


def _shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = (-1,)
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; write positive sizes, as 8,16,64")
    return sizes


def _axis(text: str) -> int | None:
    if text.strip().lower() == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no axis; write an int or none") from None


def _axes(text: str) -> tuple[int | None, ...]:
    return tuple(_axis(part) for part in text.split(","))


def _show(chosen: argparse.Namespace) -> int:
    from rich.console import Console

    from tdjax.comparison import Comparison

    try:
        comparison = Comparison.load(chosen.file)
    except OSError as error:
        raise _Wrong(f"{chosen.file}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _Wrong(error) from None
    Console().print(comparison)
    return 0


def _targets(chosen: argparse.Namespace) -> int:
    from tdjax.comparison.compiled import catalog
    from tdjax.comparison.targets import ATTACHABLE, attached

    here = attached()
    for target in here:
        sys.stdout.write(f"{target.name}: attached, {target.count} x {target.kind}: measured\n")
    absent = [name for name in ATTACHABLE if name not in {target.name for target in here}]
    if absent:
        sys.stdout.write(f"not attached: {', '.join(absent)}\n")
    for compiler in (catalog.TPU, catalog.CUDA):
        names = ", ".join(name for name, by in catalog.names().items() if by == compiler)
        if compiler.installed:
            sys.stdout.write(f"compiled, without the device, by {compiler.title}: {names}\n")
        else:
            sys.stdout.write(f"after {compiler.install}: {names}\n")
    sys.stdout.write("with a topology of your own: tpu:v5e:2x4, gpu:h100:8\n")
    return 0
