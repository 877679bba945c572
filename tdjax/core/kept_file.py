"""Files in the user's cache folder: read once while they do not change, left out where damaged."""

from __future__ import annotations

import functools
import json
import os
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from tdjax.core import typed

_Held = TypeVar("_Held")


def cache_folder(name: str) -> Path:
    """Return where files of a sort are kept: in `TDJAX_CACHE_DIR`, or the user's cache folder."""
    return _folder(name, *map(os.environ.get, ("TDJAX_CACHE_DIR", "HOME", "XDG_CACHE_HOME")))


@functools.cache
def _folder(name: str, given: str | None, *_: str | None) -> Path:
    import platformdirs

    return Path(given or platformdirs.user_cache_dir("tdjax")) / name


@functools.cache
def jax_versions() -> dict[str, str]:
    """Return the versions that what was measured holds for."""
    return {name: metadata.version(name) for name in ("jax", "jaxlib")}


class KeptFiles(Generic[_Held]):
    """Reads files of one format and version.

    Args:
        kind: the dataclass that they hold.
        format, version: what they say they are.
        what: what they hold, in words.
        remedy: what to do about one that cannot be read, a sentence.
    """

    def __init__(
        self, kind: Callable[..., _Held], format: str, version: int, what: str, remedy: str
    ) -> None:
        self._kind, self._format, self._version = kind, format, version
        self._what, self._remedy = what, remedy
        self._known: dict[Path, tuple[int, _Held | None]] = {}

    def load(self, path: Path) -> _Held:
        """Return what a file holds.

        Raises:
            OSError: it cannot be read.
            ValueError: it is of another format, or damaged.
        """
        return typed.load(self._kind, path, self._format, self._version)

    def read(self, path: Path) -> _Held | None:
        """Return what a file holds; None without it, and with a warning if it cannot be read."""
        try:
            changed = os.stat(path).st_mtime_ns
        except OSError:
            return None
        known = self._known.get(path)
        if known is None or known[0] != changed:
            known = self._known[path] = changed, self._read(path)
        return known[1]

    def _read(self, path: Path) -> _Held | None:
        try:
            return self.load(path)
        except (OSError, ValueError) as error:
            warnings.warn(
                f"{path} holds no {self._what} that can be read ({error}); it is left out. "
                f"{self._remedy}",
                stacklevel=2,
            )
            return None

    def forget(self, path: Path) -> None:
        """Read a file anew, whose time may be as before."""
        self._known.pop(path, None)

    def text(self, held: Any) -> str:
        """Return the text of a file that holds this."""
        content = {"format": self._format, "version": self._version, **vars(held)}
        return json.dumps(content, indent=1, default=vars)
