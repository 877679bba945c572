"""A memory of what was computed last, under keys."""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Keeps values under hashable keys, those that were used last."""

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._entries: collections.OrderedDict[Hashable, T] = collections.OrderedDict()

    def get(self, key: Hashable) -> T | None:
        """Return what is kept under a key, if anything."""
        try:
            self._entries.move_to_end(key)
        except KeyError:
            return None
        return self._entries[key]

    def keep(self, key: Hashable, value: T) -> T:
        """Keep a value and return it."""
        self._entries[key] = value
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
        return value

    def made(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under a key, made now if nothing is; under a false key always."""
        found = self.get(key) if key else None
        if found is None:
            found = make()
            if key:
                self.keep(key, found)
        return found
