"""`tdjax calibrate` and `tdjax oracle`: the speeds that auto predicts by, and what choices lose."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from tdjax import workloads
from tdjax._version import __version__
from tdjax.cli.arguments import INTERRUPTED, Wrong, wrapped


def add(commands: Any) -> None:
    """Add the commands."""
    calibrate = commands.add_parser(
        "calibrate",
        help="measure this machine's speeds, by which auto predicts",
        description="Measure this machine's speeds by small programs, in half a minute, and keep "
        "them for this version of JAX: auto predicts by them from then on. `tdjax compare` and "
        "`tdjax tune` do it first where it was never done.",
    )
    calibrate.add_argument(
        "--out",
        type=Path,
        metavar="FILE.json",
        help="also write them as a file for tdjax/devices, where auto finds them on every device "
        "of this kind",
    )
    calibrate.set_defaults(command=_calibrate)
    oracle = commands.add_parser(
        "oracle",
        help="measure all that auto could choose, and what its choices lose",
        description="Measure every candidate of auto on the suite and on programs of other kinds, "
        "forward and with gradients, and say how much longer its choices take than the best. This "
        "machine is calibrated first where it never was. It takes a quarter of an hour; what is "
        "saved goes on where it was stopped.",
    )
    oracle.add_argument(
        "names",
        nargs="*",
        metavar="WORKLOAD",
        help=f"of {', '.join(workloads.tabled())} (default: all)",
    )
    oracle.add_argument(
        "--out",
        type=Path,
        default=Path("tdjax-oracle.json"),
        metavar="FILE.json",
        help="the table, for tdjax/devices/tables, where a test holds choices to it; what it has "
        "is not measured again (default: tdjax-oracle.json)",
    )
    oracle.set_defaults(command=_oracle)


def _calibrate(chosen: argparse.Namespace) -> int:
    from tdjax.comparison.calibration import calibrate
    from tdjax.comparison.system.interrupts import heeding
    from tdjax.comparison.system.progress import shown
    from tdjax.devices import calibration, shipped

    try:
        with shown() as shown_progress, heeding(shown_progress) as progress:
            found = calibrate(progress)
    except ValueError as error:
        raise Wrong(error) from None
    sys.stdout.write(f"{found}\n")
    if calibration.find(found.kind) is not None:
        sys.stderr.write(f"{wrapped(f'kept in {calibration.path_of(found.kind)}')}\n")
    if chosen.out is not None:
        about = found.platform, found.kind, found.date, found.speeds
        versions = {**found.versions, "tdjax": __version__}
        _save(chosen.out, shipped.text_of(*about, versions, probed=found.probed))
    return 0


def _oracle(chosen: argparse.Namespace) -> int:
    from tdjax.comparison.system.interrupts import heeding
    from tdjax.comparison.system.progress import shown
    from tdjax.devices import table as tables
    from tdjax.tuning import oracle

    names = chosen.names or workloads.tabled()
    if unknown := [name for name in names if name not in workloads.tabled()]:
        raise Wrong(f"no workload of a table: {', '.join(unknown)} (see tdjax oracle --help)")
    code = 0
    with shown() as shown_progress, heeding(shown_progress) as progress:
        try:
            table = tables.read(chosen.out) if chosen.out.exists() else oracle.begin(progress)
            oracle.check_same(table)
        except (OSError, ValueError) as error:
            raise Wrong(f"--out {chosen.out}: {error}") from None

        def keep(table: Any) -> None:
            _save(chosen.out, oracle.text(table), quiet=True)

        try:
            oracle.record(names, table, keep, progress)
        except KeyboardInterrupt:
            code = INTERRUPTED
    if not chosen.out.exists():
        return code
    judged = oracle.judge(tables.read(chosen.out))
    if not judged:
        return code
    for row, strategy, regret in judged:
        lost = "not measured" if regret == float("inf") else f"{regret:.3f} x the best"
        sys.stdout.write(f"{row.workload} {row.mode}: {strategy}, {lost}\n")
    known = [regret for *_, regret in judged]
    sys.stdout.write(f"on average {fmean(known):.3f}, at worst {max(known):.3f}\n")
    return code


def _save(path: Path, text: str, quiet: bool = False) -> None:
    from tdjax.core import whole_file

    try:
        saved = whole_file.write(path, text)
    except OSError as error:
        raise Wrong(f"--out {path}: cannot be written: {error.strerror}") from None
    if not quiet:
        sys.stderr.write(f"saved: {saved}\n")
