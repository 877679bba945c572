"""`tdjax compare`."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
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
    strategies_of,
    wrapped,
)
from tdjax.cli.show import load

_NAME = "comparison.json"
_DEFAULT = object()
_MEASURING_S = 180.0
_ALL_S = 320.0
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
    add_what(
        compare,
        "; or peers: auto and its rivals; or every: auto and all that it chooses from, which takes "
        "long (default: vmap, fold, map, unroll, auto, and folds in blocks of rows)",
    )
    option = compare.add_argument
    option(
        "--peers",
        dest="strategies",
        action="store_const",
        const="peers",
        help="short for --strategies peers: auto against jax.vmap, jax.lax.map, Flax' and Haiku's "
        "BatchApply, the Python loop of Keras 3, and, where it is installed, Keras on TensorFlow "
        "(pip install 'tdjax[tensorflow]'), on more shapes if no workload is named: "
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
    option(
        "--resume",
        action="store_true",
        help="go on with what --out holds of a run that was stopped; with no other words, with "
        "those of that run",
    )
    compare.set_defaults(command=_compare, parser=compare)


def _compare(chosen: argparse.Namespace) -> int:
    from tdjax.comparison.calibration import calibrate_first
    from tdjax.comparison.session import Limits, Session, modes
    from tdjax.comparison.subjects.benchmark import check_densities
    from tdjax.comparison.system.error_place import error_place
    from tdjax.comparison.system.interrupts import heeding
    from tdjax.comparison.system.progress import shown
    from tdjax.comparison.targets.target import installed
    from tdjax.core import whole_file

    chosen, earlier = _resumed(chosen) if chosen.resume else (chosen, None)
    try:
        asked = None if chosen.targets is None else read_words(chosen.targets)
        targets, missing = installed(asked)
        effort, all_series = _effort(chosen), series_of(chosen)
        benchmarks = [
            each for series in all_series for each in series.benchmarks(chosen.valid_fractions)
        ]
        check_densities(benchmarks, targets)
        _check_packed(chosen)
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
        kept = _ResultFile(folder / _NAME, chosen.words, progress)
        start = time.perf_counter()
        if chosen.calibrate and not chosen.quick and any(t.evidence == "measured" for t in targets):
            calibrate_first(progress)
        limits = _limits(chosen, targets, Limits, time.perf_counter() - start)
        options = modes(chosen.mode), effort, progress, limits
        try:
            session = Session(targets, *options, chosen.control, kept.save_group, earlier)
        except ValueError as error:
            raise Wrong(f"--resume: {error}") from None
        try:
            session.run(benchmarks)
        except KeyboardInterrupt:
            interrupted = True
        except Exception as error:
            # An error of the user's function: its kind, place and message are enough.
            said = f"{session.current}: {type(error).__name__}{error_place(error)}: {error}"
            interrupted = progress.asked  # If so, Ctrl-C caused it.
            if not interrupted:
                raise Wrong(f"{said}{kept.so_far()}") from error
    comparison = kept.with_words(session.comparison(interrupted))
    if interrupted and not any(entry.status == "ok" for entry in comparison.entries):
        raise KeyboardInterrupt
    _present(comparison, kept, chosen.json, chosen.quick)
    if interrupted:
        sys.stderr.write("interrupted\n")
    return INTERRUPTED if interrupted else 0


def _check_packed(chosen: argparse.Namespace) -> None:
    """Raise ValueError where steps are to be packed that no mask leaves out."""
    from tdjax.comparison.subjects.suite import SETS

    text = chosen.strategies
    named = text is not None and text not in SETS and not chosen.valid_fractions
    packing = [str(each) for each in (strategies_of(text) if named else ()) if each.packs]
    if packing:
        raise ValueError(
            f"--strategies {packing[0]} leaves out steps that are padding, and there are none: "
            "add --valid-fractions 0.25,0.5,1"
        )


def _resumed(chosen: argparse.Namespace) -> tuple[argparse.Namespace, Any]:
    """Return what a run that was stopped was asked for, unless other words are given, and it."""
    if not (chosen.out / _NAME).exists():
        sys.stderr.write(f"{chosen.out} holds no comparison: it begins now\n")
        return chosen, None
    earlier = load(chosen.out / _NAME)
    given = {**vars(chosen), "words": []}
    nothing = chosen.parser.parse_args(["--resume", "--out", str(chosen.out)])
    command = earlier.environment.get("command")
    if command and given == {**vars(nothing), "words": []}:
        words = shlex.split(str(command))
        chosen = chosen.parser.parse_args([*words, "--out", str(chosen.out)])
        chosen.words = words
    return chosen, earlier


class _ResultFile:
    """The file of a run, written whenever a group is finished: what is killed leaves the others.

    Args:
        path: the file.
        words: what the run was asked for, which `--resume` needs.
        progress: who is told where it cannot be written.
    """

    def __init__(self, path: Path, words: Sequence[str], progress: Any) -> None:
        self.path = path
        self._command = shlex.join(words)
        self._progress = progress
        self._groups = 0

    def with_words(self, comparison: Any) -> Any:
        """Return a comparison that says what it was asked for."""
        return replace(comparison, environment={**comparison.environment, "command": self._command})

    def save(self, comparison: Any) -> Path:
        """Write it."""
        path: Path = comparison.save(self.path)
        self._groups = len(comparison.verdicts)
        return path

    def save_group(self, comparison: Any) -> None:
        """Write it, or say that it cannot be; measuring goes on."""
        try:
            self.save(self.with_words(comparison))
        except OSError as error:
            self._progress.log(f"{self.path}: cannot be written: {error.strerror}")

    def so_far(self) -> str:
        """Return what is saved, for the end of an error."""
        groups = "1 group" if self._groups == 1 else f"{self._groups} groups"
        return f"; saved: {self.path} with {groups}" if self._groups else ""


def _limits(chosen: argparse.Namespace, targets: Sequence[Any], make: Any, spent: float) -> Any:
    """Return what measuring, and everything, may take, of which so many seconds are spent."""
    if chosen.rounds or chosen.within is None:
        return None
    if chosen.within is _DEFAULT:
        return make(*(max(0.0, limit - spent) for limit in (_MEASURING_S, _ALL_S)))
    only_measured = all(target.evidence == "measured" for target in targets)
    share = 1.0 if only_measured else _MEASURING_S / _ALL_S
    left = max(0.0, chosen.within - spent)
    return make(measuring=share * left, all=left)


def _present(comparison: Any, kept: _ResultFile, as_json: bool, quick: bool) -> None:
    """Save the comparison, print it, and draw what can be drawn here."""
    from rich.console import Console

    from tdjax.comparison.system.extras import COMPARE, need

    folder = kept.path.parent
    saved: list[Path] = []
    failed: OSError | None = None
    # Saved first, so that nothing is lost if the output's reader is gone.
    try:
        saved.append(kept.save(comparison))
    except OSError as error:
        failed = error
    if as_json:
        sys.stdout.write(comparison.to_json())
    else:
        Console().print(comparison)
    drawings: Iterable[Callable[[], Path]] = [] if failed else _drawings(comparison, folder, quick)
    try:
        need("matplotlib", "pictures")
        need("jinja2", "the report")
    except ImportError:
        drawings = []
        sys.stderr.write(f'no pictures and no report; for these: pip install "{COMPARE}"\n')
    try:
        for draw in drawings:
            saved.append(draw())
    except OSError as error:
        failed = error
    if failed is not None:
        names = f"; saved: {', '.join(map(str, saved))}" if saved else kept.so_far()
        raise Wrong(f"{folder}: cannot be written: {failed.strerror}{names}")
    names = ", ".join(path.name for path in saved)
    sys.stderr.write(f"\n{wrapped(f'saved in {folder}: {names}')}\n")


def _drawings(comparison: Any, folder: Path, quick: bool) -> Iterator[Callable[[], Path]]:
    """Yield what draws each picture, and the report, into a file."""
    from tdjax.comparison.rendering.pictures.beside import plot_beside
    from tdjax.comparison.rendering.pictures.kinds import kinds

    for kind in kinds(comparison):
        name = "comparison.png" if kind == "time" else f"comparison-{kind}.png"
        yield partial(comparison.plot, folder / name, kind)
    yield partial(comparison.report, folder / "comparison.html")
    for name in dict.fromkeys(entry.workload for entry in comparison.entries):
        draw = workloads.get(name).picture if name in workloads.names() else None
        if draw is not None:
            yield partial(plot_beside, comparison, name, draw, quick, folder / f"{name}.png")


def _effort(chosen: argparse.Namespace) -> Any:
    from tdjax.comparison.measuring.rounds import Effort, check_effort

    check_effort(chosen.rounds, chosen.timeout)
    if chosen.quick:
        return Effort(rounds=chosen.rounds, budget_s=0.2, timeout_s=chosen.timeout)
    return Effort(rounds=chosen.rounds, budget_s=_GROUP_S, timeout_s=chosen.timeout)
