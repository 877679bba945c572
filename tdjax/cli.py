"""The command line: `tdjax compare`, `tdjax tune`, `tdjax show`, `tdjax targets`."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from tdjax import __version__, workloads

_DEFAULT = object()
_MEASURING_S = 160.0
_ALL_S = 325.0
_GROUP_S = 10.0
_UNREAD = 1
_PICTURES = {
    "time": "comparison.png",
    "memory": "comparison-memory.png",
    "roofline": "comparison-roofline.png",
    "density": "comparison-density.png",
}
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
        The exit code: 0; 1 where nobody reads the output; 2 for a call that cannot be answered,
        after one line that begins with `error:`; 130 after Ctrl-C.
    """
    _replace_what_cannot_be_encoded()
    try:
        from tdjax.comparison.hardware import leave_out_absent

        chosen = _parser().parse_args(arguments)
        leave_out_absent()
        code: int = chosen.command(chosen)
        sys.stdout.flush()
    except _Wrong as error:
        return _fail(error)
    except BrokenPipeError:
        # Python flushes standard output once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNREAD
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        code = _INTERRUPTED
    if code == _INTERRUPTED and arguments is None:
        # What JAX was interrupted in, it may stumble over when Python takes everything down: the
        # exit code would be that of a segmentation fault.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _replace_what_cannot_be_encoded() -> None:
    """Let a terminal or file that knows no "±" show "?" in its place."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and "utf" not in stream.encoding.lower():
            stream.reconfigure(errors="replace")


def _fail(error: object) -> int:
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return _USAGE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tdjax", description="Compare the ways to distribute a function over time."
    )
    parser.add_argument("--version", action="version", version=f"tdjax {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_compare(commands)
    _add_tune(commands)
    show = commands.add_parser(
        "show",
        help="print a saved comparison, or two side by side",
        description="Print a saved comparison, or what changed from an old one to a new one. "
        "Times are not compared where device, processor or cores differ.",
    )
    show.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="the comparison.json of a run; of two, the old one first",
    )
    show.add_argument("--json", action="store_true", help="print JSON instead of tables")
    show.set_defaults(command=_show)
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
    targets = commands.add_parser("targets", help="list the devices to compare on")
    targets.set_defaults(command=_targets)
    return parser


def _add_what(command: Any) -> None:
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
        type=_shape,
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
        type=_axes,
        metavar="1,none",
        help="time axis of the arguments of MODULE:NAME, or of each; none shares it (default: 1)",
    )
    add("--out-axes", type=_axis, metavar="1", help="time axis of its output (default: 1)")
    add(
        "--strategies",
        metavar="vmap,fold",
        help="names, or as tables show them: 'vmap,Fold(512, unroll)'; or peers: auto and its "
        "rivals; or every: auto and all that it chooses from, which takes long "
        "(default: vmap, fold, map, unroll, and folds in blocks of rows)",
    )


def _add_tune(commands: Any) -> None:
    tune = commands.add_parser(
        "tune",
        help="measure what is fastest, and let auto take it from then on",
        description="Measure the strategies that promise most on a workload or a function of your "
        "own, and remember the results: auto looks there first.",
    )
    _add_what(tune)
    add = tune.add_argument
    add("--mode", choices=("forward", "grad", "both"), default="both", help="default: both")
    add(
        "--memory-budget",
        type=_bytes,
        metavar="64MB",
        help="temporary memory that the program may take; what takes more is not run",
    )
    add("--timeout", type=float, default=60.0, metavar="SECONDS", help="what a call may take")
    add(
        "--out",
        type=Path,
        metavar="FILE.json",
        help="also write the results, and speeds fitted to them, as a file for tdjax/devices, "
        "where auto finds them on every device of this kind",
    )
    add("--list", action="store_true", help="list the results that are kept")
    add("--clear", action="store_true", help="delete them")
    tune.set_defaults(command=_tune, quick=False)


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser(
        "compare",
        help="measure strategies, on the built-in workloads or on a function of your own",
        description="Measure strategies, check that they agree, and say which is fastest.",
        epilog="""examples:
  tdjax compare
  tdjax compare mlp conv_net --dtype bfloat16 --targets cpu,tpu:v5e
  tdjax compare my.net:step --shape 64,64 --shape 8,16,64 --in-axes none,1
  tdjax compare "my.net:Net(features=(8, 16), train=False)" --shape 8,16,32""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_what(compare)
    add = compare.add_argument
    add(
        "--peers",
        dest="strategies",
        action="store_const",
        const="peers",
        help="short for --strategies peers: auto against jax.vmap, jax.lax.map, Flax' and Haiku's "
        "BatchApply, and the Python loop of Keras 3, on more shapes if no workload is named: "
        f"{', '.join(workloads.unseen())}",
    )
    add(
        "--targets",
        metavar="cpu,tpu:v5e",
        help="devices of `tdjax targets` (default: the attached one that JAX chooses)",
    )
    add("--mode", choices=("forward", "grad", "both"), default="both", help="default: both")
    add(
        "--rounds",
        type=int,
        metavar="N",
        help="samples of each candidate (default: as time allows)",
    )
    add(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="what one call may take, or the compiling of one program for a device that is not "
        "here (default: 60)",
    )
    add(
        "--within",
        type=_seconds,
        default=_DEFAULT,
        metavar="SECONDS",
        help="what everything may take, or none: with more, measuring takes more rounds until "
        "verdicts are clear, and compilers of devices that are not here are waited for longer "
        f"(default: {_MEASURING_S:.0f} for what is here, {_ALL_S:.0f} in all; none if --rounds)",
    )
    add(
        "--control",
        action="store_true",
        help="measure vmap twice: where it differs from itself, no verdict stands",
    )
    add("--quick", action="store_true", help="tiny arrays: does it all work?")
    add("--json", action="store_true", help="print the comparison as JSON instead of tables")
    add(
        "--out",
        type=Path,
        default=Path("tdjax-results"),
        metavar="DIR",
        help="folder for comparison.json, .html and pictures (default: tdjax-results)",
    )
    compare.set_defaults(command=_compare)


def _compare(chosen: argparse.Namespace) -> int:
    from tdjax.comparison import atomic
    from tdjax.comparison.error_place import error_place
    from tdjax.comparison.extras import need
    from tdjax.comparison.interrupts import heeding
    from tdjax.comparison.progress import shown
    from tdjax.comparison.session import Limits, Session, modes
    from tdjax.comparison.targets import installed

    try:
        need("rich", "tables")
        need("matplotlib", "plots")
        asked = None if chosen.targets is None else _words(chosen.targets)
        targets, missing = installed(asked)
        jobs, effort = _jobs(chosen), _effort(chosen)
    except (ValueError, TypeError, ImportError) as error:
        raise _Wrong(error) from None
    try:
        folder = atomic.check_folder(chosen.out)
    except OSError as error:
        raise _Wrong(f"--out {chosen.out}: cannot write there: {error.strerror}") from None
    for text in missing:
        sys.stderr.write(f"left out: {text}\n")
    interrupted = False
    with shown() as shown_progress, heeding(shown_progress) as progress:
        limits = _limits(chosen, targets, Limits)
        session = Session(targets, modes(chosen.mode), effort, progress, limits, chosen.control)
        try:
            session.run(jobs)
        except KeyboardInterrupt:
            interrupted = True
        except Exception as error:
            # What a user's function raises is the user's: it is named, not explained.
            said = f"{session.current}: {type(error).__name__}{error_place(error)}: {error}"
            interrupted = progress.asked  # If so, it is Ctrl-C in disguise.
            if not interrupted:
                raise _Wrong(said) from error
    comparison = session.comparison(interrupted)
    if not interrupted:
        _present(comparison, folder, chosen.json, chosen.quick)
        return 0
    if not any(entry.status == "ok" for entry in comparison.entries):
        raise KeyboardInterrupt
    _present(comparison, folder, chosen.json, chosen.quick)
    sys.stderr.write("interrupted\n")
    return _INTERRUPTED


def _fit(chosen: argparse.Namespace) -> int:
    comparisons = [_load(path) for path in chosen.files]
    entries = [entry for comparison in comparisons for entry in comparison.entries]
    _keep_device(entries, comparisons[0].environment, (), chosen.out)
    return 0


def _keep_device(entries: Sequence[Any], environment: Any, results: Any, out: Path | None) -> None:
    """Fit speeds to what was measured, say how good they are, and write a device's file."""
    from tdjax import _fit as fitting
    from tdjax.comparison import atomic
    from tdjax.costs.machine import machine_of

    try:
        measured = fitting.measured(entries)
    except ValueError as error:
        raise _Wrong(error) from None
    platform = next(entry.target for entry in entries if entry.evidence == "measured")
    start = fitting.fit(measured, machine_of(platform), steps=0)
    found = fitting.fit(measured, machine_of(platform))
    for title, fit in (("shipped", start), ("fitted", found)):
        choices = ", ".join(f"{name}: {strategy}" for name, strategy in fit.chosen.items())
        sys.stdout.write(
            f"{title}: choices take {fit.regret:.3f}x the best that was measured; predictions "
            f"differ by {fit.error:.0%}\n  {choices}\n"
        )
    text = fitting.device_file(found, environment, platform, results)
    if out is None:
        sys.stdout.write(text)
        return
    try:
        saved = atomic.write(out, text)
    except OSError as error:
        raise _Wrong(f"--out {out}: cannot be written: {error.strerror}") from None
    sys.stderr.write(f"saved: {saved}\n")


def _tune(chosen: argparse.Namespace) -> int:
    from tdjax import _tuned
    from tdjax.comparison.extras import need
    from tdjax.comparison.interrupts import heeding
    from tdjax.comparison.progress import shown

    if chosen.clear:
        try:
            sys.stdout.write(f"deleted {_tuned.clear()} results in {_tuned.folder()}\n")
        except OSError as error:
            raise _Wrong(f"{_tuned.folder()}: cannot be cleared: {error.strerror}") from None
        return 0
    if chosen.list:
        return _list_results()
    from tdjax._tune import tune_subject

    try:
        need("rich", "progress")
        jobs = _jobs(chosen)
    except (ValueError, TypeError, ImportError) as error:
        raise _Wrong(error) from None
    tunings = []
    with shown() as shown_progress, heeding(shown_progress) as progress:
        for job in jobs:
            try:
                made, strategies = job.make()
                given = None if chosen.strategies is None else strategies
                modes = chosen.mode, given, chosen.memory_budget, chosen.timeout
                tunings.append(tune_subject(made, *modes, progress))
            except ValueError as error:
                raise _Wrong(f"{job.name}: {error}") from error
            progress.log(f"{job.name}: {tunings[-1]}")
    if chosen.out is not None:
        from tdjax.comparison.environment import environment
        from tdjax.comparison.targets import resolve

        entries = [entry for tuning in tunings for entry in tuning.entries]
        results = [result for tuning in tunings for result in tuning.results]
        _keep_device(entries, environment(resolve(None)), results, chosen.out)
    return 0


def _list_results() -> int:
    from tdjax import _tuned

    results = _tuned.everything()
    for each in results:
        fastest = min(each.times, key=lambda name: each.times[name], default="nothing ran")
        sizes = " x ".join(map(str, each.sizes))
        sys.stdout.write(
            f"{each.title} {each.mode}, {sizes} rows, {each.device}, {each.date}: {fastest}\n"
        )
    sys.stdout.write(f"{len(results)} results in {_tuned.folder()}\n")
    return 0


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

    from tdjax.comparison.plot import kinds

    # Saved first: a reader that has gone away must not cost what was measured.
    saved = comparison.save(folder / "comparison.json")
    if as_json:
        sys.stdout.write(comparison.to_json())
    else:
        Console().print(comparison)
    paths = [
        saved,
        *(comparison.plot(folder / _PICTURES[kind], kind) for kind in kinds(comparison)),
        comparison.report(folder / "comparison.html"),
        *_pictures(comparison, folder, quick),
    ]
    sys.stderr.write(f"\nsaved: {', '.join(str(path) for path in paths)}\n")


def _pictures(comparison: Any, folder: Path, quick: bool) -> list[Path]:
    """Draw what the workloads that were compared look at, where that can be seen."""
    paths = []
    for name in {entry.workload: None for entry in comparison.entries}:
        picture = workloads.get(name).picture if name in workloads.names() else None
        if picture is not None:
            paths.append(folder / f"{name}.png")
            picture(paths[-1], quick)
    return paths


def _jobs(chosen: argparse.Namespace) -> list[Any]:
    from tdjax.comparison import suite

    strategies = None if chosen.strategies is None else _read_strategies(chosen.strategies)
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
        dtype = None if chosen.dtype is None else _workload_dtype(chosen.dtype)
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
    dtypes = _dtypes("float32" if chosen.dtype is None else chosen.dtype)
    if len(dtypes) not in (1, len(chosen.shape)):
        raise ValueError(f"--dtype has {len(dtypes)} dtypes for {len(chosen.shape)} arguments")
    return [suite.function(functions[0], chosen.shape, dtypes, in_axes, out_axes, strategies)]


def _read_strategies(text: str) -> Any:
    from tdjax.comparison import suite
    from tdjax.comparison.strategy_list import read_strategies

    return text if text in suite.SETS else read_strategies(text)


def _effort(chosen: argparse.Namespace) -> Any:
    from tdjax.comparison.api import check_effort
    from tdjax.comparison.rounds import Effort

    check_effort(chosen.rounds, chosen.timeout)
    if chosen.quick:
        return Effort(rounds=chosen.rounds, budget_s=0.2, timeout_s=chosen.timeout)
    return Effort(rounds=chosen.rounds, budget_s=_GROUP_S, timeout_s=chosen.timeout)


def _workload_dtype(name: str) -> str:
    import jax.numpy as jnp

    dtypes = _dtypes(name)
    if len(dtypes) > 1 or not jnp.issubdtype(dtypes[0], jnp.floating):
        raise ValueError(
            f"--dtype {name}: a workload takes one floating point dtype; use float32, bfloat16, ..."
        )
    return dtypes[0]


def _dtypes(names: str) -> list[str]:
    """Return the full names of the dtypes in a list of them."""
    import jax
    import jax.numpy as jnp

    dtypes = []
    for name in _words(names):
        try:
            dtypes.append(jnp.dtype(name))
        except TypeError:
            raise ValueError(f"--dtype: {name!r} is no dtype; use float32, bfloat16, ...") from None
        if jax.dtypes.canonicalize_dtype(dtypes[-1]) != dtypes[-1]:
            raise ValueError(
                f"--dtype {name}: JAX works with 32 bits here; set JAX_ENABLE_X64=1 for 64"
            )
    return [dtype.name for dtype in dtypes]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = (-1,)
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; write positive sizes, as 8,16,64")
    return sizes


def _bytes(text: str) -> int:
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


def _seconds(text: str) -> float | None:
    if text.strip().lower() == "none":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write seconds above 0, or none")
    return seconds


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

    from tdjax.comparison.changes import changes

    if len(chosen.files) > 2:
        raise _Wrong(f"show takes one file, or an old and a new one; got {len(chosen.files)}")
    runs = [_load(file) for file in chosen.files]
    shown = runs[0] if len(runs) == 1 else changes(*runs)
    if chosen.json:
        sys.stdout.write(shown.to_json())
    else:
        Console().print(shown)
    return 0


def _load(file: Path) -> Any:
    from tdjax.comparison import Comparison

    try:
        return Comparison.load(file)
    except OSError as error:
        raise _Wrong(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _Wrong(error) from None


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
