"""`tdjax show` and `tdjax targets`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tdjax.cli.arguments import Wrong, wrapped


def add(commands: Any) -> None:
    """Add the commands."""
    show = commands.add_parser(
        "show",
        help="print a saved comparison, or two side by side",
        description="Print a saved comparison, or which answers changed from an old one to a new "
        "one, with a warning where the machine, versions or the reference itself differ.",
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
    targets = commands.add_parser("targets", help="list the devices to compare on")
    targets.set_defaults(command=_targets)


def _show(chosen: argparse.Namespace) -> int:
    from rich.console import Console

    from tdjax.comparison.rendering.terminal.changes import renderable
    from tdjax.comparison.verdicts.changes import changes

    if len(chosen.files) > 2:
        raise Wrong(f"show takes one file, or an old and a new one; got {len(chosen.files)}")
    runs = [load(file) for file in chosen.files]
    found = changes(*runs) if len(runs) == 2 else None
    if chosen.json:
        sys.stdout.write((found or runs[0]).to_json())
    else:
        Console().print(renderable(found) if found else runs[0])
    return 0


def load(file: Path) -> Any:
    """Return a saved comparison."""
    from tdjax.comparison import Comparison

    try:
        return Comparison.load(file)
    except OSError as error:
        raise Wrong(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Wrong(error) from None


def _targets(chosen: argparse.Namespace) -> int:
    from tdjax.comparison.targets import catalog
    from tdjax.comparison.targets.target import ATTACHABLE, attached

    here = attached()
    lines = [f"{each.name}: attached, {each.count} x {each.kind}: measured" for each in here]
    absent = [name for name in ATTACHABLE if name not in {target.name for target in here}]
    if absent:
        lines.append(f"not attached: {', '.join(absent)}")
    for compiler in dict.fromkeys(catalog.names().values()):
        names = ", ".join(name for name, by in catalog.names().items() if by == compiler)
        by = f"compiled, without the device, by {compiler.title}"
        lines.append(f"{by if compiler.installed else f'after {compiler.install}'}: {names}")
    lines.append("with a topology of your own: tpu:v5e:2x4, gpu:h100:8")
    sys.stdout.writelines(f"{wrapped(line)}\n" for line in lines)
    return 0
