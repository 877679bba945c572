"""`tdjax compare`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tdjax import workloads
from tdjax.cli.arguments import (
    INTERRUPTED,
    Wrong,
    add_what,
    read_fractions,
    read_seconds,
    read_words,
    series_of,
    wrapped,
)

_DEFAULT = object()
_MEASURING_S = 160.0
_ALL_S = 310.0
_GROUP_S = 10.0


def add(commands: Any) -> None:
    """Add the command."""
    compare = commands.add_parser(
        "compare",
        help="measure strategies, on the built-in workloads or on a function of your own",
        description="Measure strategies, check that they agree, and say which is fastest.",
        epilog="""examples:
  tdjax compare
  tdjax compare mlp conv_net --dtype bfloat16 --targets cpu,tpu:v5e
  tdjax compare my.net:step --shape 64,64 --shape 8,16,64 --in-axes none,1
  tdjax compare my.net:Net --shape 32,128,64 --valid-fractions 0.25,0.5,1
  tdjax compare "my.net:Net(features=(8, 16), train=False)" --shape 8,16,32""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_what(compare)
    option = compare.add_argument
    option(
        "--peers",
        dest="strategies",
        action="store_const",
        const="peers",
        help="short for --strategies peers: auto against jax.vmap, jax.lax.map, Flax' and Haiku's "
        "BatchApply, and the Python loop of Keras 3, on more shapes if no workload is named: "
        f"{', '.join(workloads.unseen())}",
    )
    option(
        "--valid-fractions",
        type=read_fractions,
        metavar="0.25,0.5,1",
        help="run with masks that keep these parts of all steps, each part a workload of its own: "
        "time against padding, as a table, a picture and a chart in the report; `packed` joins in",
    )
    option(
        "--targets",
        metavar="cpu,tpu:v5e",
        help="devices of `tdjax targets` (default: the attached one that JAX chooses)",
    )
    option("--mode", choices=("forward", "grad", "both"), default="both", help="default: both")
    option(
        "--rounds",
        type=int,
        metavar="N",
        help="samples of each candidate (default: as time allows)",
    )
    option(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="what one call may take, or the compiling of one program for a device that is not "
        "here (default: 60)",
    )
    option(
        "--within",
        type=read_seconds,
        default=_DEFAULT,
        metavar="SECONDS",
        help="what everything may take, or none: with more, measuring takes more rounds until "
        "questions are closed, and compilers of devices that are not here are waited for longer "
        f"(default: {_MEASURING_S:.0f} for what is here, {_ALL_S:.0f} in all; none if --rounds)",
    )
    option(
        "--control",
        action="store_true",
        help="measure vmap twice: where it differs from itself, nothing is clear",
    )
    option("--quick", action="store_true", help="tiny arrays: does it all work?")
    option("--json", action="store_true", help="print the comparison as JSON instead of tables")
    option(
        "--out",
        type=Path,
        default=Path("tdjax-results"),
        metavar="DIR",
        help="folder for comparison.json, .html and pictures (default: tdjax-results)",
    )
    compare.set_defaults(command=_compare)


def _compare(chosen: argparse.Namespace) -> int:
    from tdjax.comparison.session import Limits, Session, modes
    from tdjax.comparison.subjects.benchmark import check_densities
    from tdjax.comparison.system.error_place import error_place
    from tdjax.comparison.system.extras import need
    from tdjax.comparison.system.interrupts import heeding
    from tdjax.comparison.system.progress import shown
    from tdjax.comparison.targets.target import installed
    from tdjax.core import whole_file

    try:
        need("rich", "tables")
        need("matplotlib", "plots")
        asked = None if chosen.targets is None else read_words(chosen.targets)
        targets, missing = installed(asked)
        effort, all_series = _effort(chosen), series_of(chosen)
        benchmarks = [
            each for series in all_series for each in series.benchmarks(chosen.valid_fractions)
        ]
        check_densities(benchmarks, targets)
    except (ValueError, TypeError, ImportError) as error:
        raise Wrong(error) from None
    try:
        folder = whole_file.check_folder(chosen.out)
    except OSError as error:
        raise Wrong(f"--out {chosen.out}: cannot write there: {error.strerror}") from None
    for text in missing:
        sys.stderr.write(f"left out: {text}\n")
    interrupted = False
    with shown() as shown_progress, heeding(shown_progress) as progress:
        limits = _limits(chosen, targets, Limits)
        session = Session(targets, modes(chosen.mode), effort, progress, limits, chosen.control)
        try:
            session.run(benchmarks)
        except KeyboardInterrupt:
            interrupted = True
        except Exception as error:
            # An error of the user's function: its kind, place and message are enough.
            said = f"{session.current}: {type(error).__name__}{error_place(error)}: {error}"
            interrupted = progress.asked  # If so, Ctrl-C caused it.
            if not interrupted:
                raise Wrong(said) from error
    comparison = session.comparison(interrupted)
    if not interrupted:
        _present(comparison, folder, chosen.json, chosen.quick)
        return 0
    if not any(entry.status == "ok" for entry in comparison.entries):
        raise KeyboardInterrupt
    _present(comparison, folder, chosen.json, chosen.quick)
    sys.stderr.write("interrupted\n")
    return INTERRUPTED


def _limits(chosen: argparse.Namespace, targets: Sequence[Any], make: Any) -> Any:
    if chosen.rounds or chosen.within is None:
        return None
    if chosen.within is _DEFAULT:
        return make(measuring=_MEASURING_S, all=_ALL_S)
    only_measured = all(target.evidence == "measured" for target in targets)
    share = 1.0 if only_measured else _MEASURING_S / _ALL_S
    return make(measuring=share * chosen.within, all=chosen.within)


def _present(comparison: Any, folder: Path, as_json: bool, quick: bool) -> None:
    from rich.console import Console

    from tdjax.comparison.rendering.pictures.kinds import kinds

    # Saved first, so that nothing is lost if the output's reader is gone.
    saved = comparison.save(folder / "comparison.json")
    if as_json:
        sys.stdout.write(comparison.to_json())
    else:
        Console().print(comparison)
    paths = [
        saved,
        *(
            comparison.plot(folder / f"comparison{'' if kind == 'time' else f'-{kind}'}.png", kind)
            for kind in kinds(comparison)
        ),
        comparison.report(folder / "comparison.html"),
        *_pictures(comparison, folder, quick),
    ]
    names = ", ".join(path.name for path in paths)
    sys.stderr.write(f"\n{wrapped(f'saved in {folder}: {names}')}\n")


def _pictures(comparison: Any, folder: Path, quick: bool) -> list[Path]:
    """Draw what the compared workloads work on, where they have a picture."""
    paths = []
    for name in {entry.workload: None for entry in comparison.entries}:
        picture = workloads.get(name).picture if name in workloads.names() else None
        if picture is not None:
            paths.append(folder / f"{name}.png")
            picture(paths[-1], quick)
    return paths


def _effort(chosen: argparse.Namespace) -> Any:
    from tdjax.comparison.measuring.rounds import Effort, check_effort

    check_effort(chosen.rounds, chosen.timeout)
    if chosen.quick:
        return Effort(rounds=chosen.rounds, budget_s=0.2, timeout_s=chosen.timeout)
    return Effort(rounds=chosen.rounds, budget_s=_GROUP_S, timeout_s=chosen.timeout)
