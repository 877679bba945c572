"""The line of the user's code that an error comes from."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_PACKAGE = Path(__file__).parents[2]


def error_place(error: BaseException) -> str:
    """Return the innermost line of the user's code in a traceback, " at net.py:12", or ""."""
    import flax
    import jax

    others = [Path(str(package.__file__)).parent for package in (flax, jax)]
    libraries = [*others, _PACKAGE]
    # Lines of other installed packages are better than none.
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
    frames = [
        (Path(frame.filename), frame.lineno)
        for frame in reversed(traceback.extract_tb(error.__traceback__))
        if Path(frame.filename).exists() and not _within(frame.filename, libraries)
    ]
    own = [frame for frame in frames if not _within(frame[0], installed)]
    for file, line in (*own, *frames):
        here = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
        return f" at {here}:{line}"
    return ""


def _within(file: Path | str, folders: list[Path]) -> bool:
    return any(Path(file).is_relative_to(folder) for folder in folders)
