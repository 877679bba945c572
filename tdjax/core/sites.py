"""Tells who listens of every site that is traced: what is distributed there, and how it will run.

A site may lie in the steps of another one, which are traced more than once: on one step, to prove
something, and on as many rows as will run. What counts is what was found where the steps ran, and
else in the trace on as many rows.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any


@dataclasses.dataclass(eq=False)
class Site:
    """A place where something is distributed over time; the listener's own is around all of them.

    Attributes:
        describe: returns a description of a decision, a dataclass with `path` and `layers`.
        path: what the site is called.
        found: the description of what was decided last; None if nothing was.
        rows: the rows that its steps run on at once.
        ran: the sites within its steps, as they ran.
        traced: those of each trace, with the number of rows that it was made on.
    """

    describe: Callable[[Any], Any]
    path: str = ""
    found: Any = None
    rows: Any = None
    ran: list[Any] = dataclasses.field(default_factory=list)
    traced: list[tuple[Any, list[Any]]] = dataclasses.field(default_factory=list)

    def described(self) -> Any:
        """Return the description, with those of the sites within."""
        inside = self.ran
        for rows, found in reversed(self.traced):
            if not inside or (inside is not self.ran and rows == self.rows):
                inside = found
        return dataclasses.replace(self.found, path=self.path, layers=tuple(flat(inside)))

    def add(self, description: Any) -> None:
        """Add a site within, once."""
        if description not in self.ran:
            self.ran.append(description)


def flat(descriptions: list[Any]) -> Iterator[Any]:
    """Yield descriptions, each followed by those within."""
    for each in descriptions:
        yield each
        yield from each.layers


_here: contextvars.ContextVar[Site | None] = contextvars.ContextVar("tdjax_site", default=None)


@contextlib.contextmanager
def _at(site: Site | None) -> Iterator[None]:
    token = _here.set(site)
    try:
        yield
    finally:
        _here.reset(token)


@contextlib.contextmanager
def listening(describe: Callable[[Any], Any], found: list[Any]) -> Iterator[None]:
    """Add descriptions of the sites that are traced inside to `found`; each holds those within."""
    with _at(Site(describe, ran=found)):
        yield


def somebody_listens() -> bool:
    """Say whether sites are of interest to anybody."""
    return _here.get() is not None


def site(path: Callable[[], str]) -> contextlib.AbstractContextManager[None]:
    """Have what is decided inside belong to a site; `path` is asked only if somebody listens."""
    outer = _here.get()
    return contextlib.nullcontext() if outer is None else _inside(outer, path())


@contextlib.contextmanager
def _inside(outer: Site, path: str) -> Iterator[None]:
    inner = Site(outer.describe, path)
    try:
        with _at(inner):
            yield
    finally:
        if inner.found is not None:
            outer.add(inner.described())


def traced_on(rows: Any) -> contextlib.AbstractContextManager[None]:
    """Keep the sites of a trace apart from those that run."""
    here = _here.get()
    return contextlib.nullcontext() if here is None else _apart(here, rows)


@contextlib.contextmanager
def _apart(here: Site, rows: Any) -> Iterator[None]:
    trace = Site(here.describe)
    with _at(trace):
        yield
    here.traced.append((rows, trace.ran))


def tell(decision: Any, rows: Any) -> None:
    """Tell what was decided for the site that is traced, and how many rows its steps run on."""
    here = _here.get()
    if here is None:
        return
    here.ran.clear()
    here.rows = rows
    with _at(None):
        here.found = here.describe(decision)
