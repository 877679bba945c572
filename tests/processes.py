"""Processes that call and compile programs, kept from one test to the next: a start takes a second.

Tests that are about such a process open their own.
"""

from __future__ import annotations

import os
from typing import Any

import jax

from tdjax.comparison import session
from tdjax.comparison.compiling import queue
from tdjax.comparison.compiling.client import Client, Compiled
from tdjax.comparison.measuring.call_client import CallClient
from tdjax.comparison.system.child import Child
from tdjax.tuning import compiled, tune

# What differs between tests, and makes no other process.
_OWN = ("PYTEST_CURRENT_TEST", "TDJAX_CACHE_DIR", "COLUMNS", "LINES")
_MOST = 4
_calling: dict[Any, dict[str, Child]] = {}
_compiling: dict[Any, tuple[Child, float | None]] = {}


def _surroundings() -> Any:
    variables = {name: value for name, value in os.environ.items() if name not in _OWN}
    return jax.config.values["jax_enable_x64"], frozenset(variables.items())


class SharedClient(CallClient):
    """A client that goes on with the processes of the last one of its kind."""

    def __init__(self, platform: str) -> None:
        super().__init__(platform)
        self._kind = platform, _surroundings()
        self._children = _calling.pop(self._kind, {})
        self._asking = 0

    def _ask(self, *request: Any) -> Any:
        self._asking += 1
        try:
            return super()._ask(*request)
        finally:
            self._asking -= 1

    def close(self) -> None:
        """Keep the processes, unless one is still at work or others are kept already."""
        known = self._kind in _calling or len(_calling) == _MOST
        if not (self._asking or known):
            _calling[self._kind], self._children = self._children, {}
        super().close()


class SharedCompiler(Client):
    """A compiler that goes on with the process of the last one for its device."""

    def __init__(self, device: Any, *watch: Any) -> None:
        super().__init__(device, *watch)
        self._kind = str(device.topology), str(device.environment), _surroundings()
        self._child, self.start_s = _compiling.pop(self._kind, (None, None))
        self._asking = 0

    def compile(self, *request: Any) -> Compiled:
        """Compile, and know that it is at work."""
        self._asking += 1
        try:
            return super().compile(*request)
        finally:
            self._asking -= 1

    def close(self) -> None:
        """Keep the process, unless it is still at work or others are kept already."""
        known = self._kind in _compiling or len(_compiling) == _MOST
        if self._child is not None and not (self._asking or self._child.ended or known):
            _compiling[self._kind] = self._child, self.start_s
            self._child = None
        super().close()


def share_processes() -> None:
    """Let comparisons and tuning share processes; they still close what they have opened."""
    for module in (session, compiled, tune):
        module.CallClient = SharedClient
    queue.Client = SharedCompiler


def end_processes() -> None:
    """End what is kept."""
    children = [child for each in _calling.values() for child in each.values()]
    for child in (*children, *(child for child, _ in _compiling.values())):
        child.close()
    _calling.clear(), _compiling.clear()
