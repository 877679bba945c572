"""Results of tuning, kept in files: which strategy was measured to be fastest for a program.

One file a program and mode, written whole or not at all, so that several processes can tune at
once. What cannot be read is left out, with a warning. Where this user has tuned nothing, results
that are shipped with the package for the same kind of device stand in, and where there are none of
these, what was compiled for it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
import warnings
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from tdjax.core import typed, whole_file
from tdjax.core.arrays import on_several_devices
from tdjax.core.call import Call, Program
from tdjax.core.kept_file import KeptFiles, cache_folder, jax_versions
from tdjax.core.recent import Recent
from tdjax.devices import shipped
from tdjax.devices.attached import device_kind
from tdjax.devices.compiled_result import CompiledResult, Result
from tdjax.devices.tuned_result import Tuned

FORMAT = "tdjax-tuning"
VERSION = 4
MODES = ("forward", "grad")
_COMPILED = "-compiled.json"
_ADDRESS = re.compile(r"0x[0-9a-f]+")


@dataclasses.dataclass(frozen=True)
class _Exported:
    results: tuple[Tuned, ...]
    compiled: tuple[CompiledResult, ...]


_WHAT = ("result of tuning", "`tdjax tune --clear` deletes all results.")
_kept = KeptFiles(Tuned, FORMAT, VERSION, *_WHAT)
_kept_compiled = KeptFiles(CompiledResult, "tdjax-compiled", 1, *_WHAT)


def _kept_as(path: Path) -> KeptFiles[Tuned] | KeptFiles[CompiledResult]:
    return _kept_compiled if path.name.endswith(_COMPILED) else _kept


def folder() -> Path:
    """Return where results are kept: `TDJAX_CACHE_DIR`, or the user's cache folder."""
    return cache_folder("tuning")


def program_of(call: Call, step: Program) -> str:
    """Return what results are kept under: the program, its sizes and the device, hashed.

    The values of arrays are not part of it, nor is what a function's derivative rules compute:
    those have no text.
    """
    layout, kind = call.layout(), device_kind()
    shardings = tuple(getattr(leaf, "sharding", None) for leaf in call.leaves)

    def hashed() -> str:
        placed = [_placed(x.sharding) for x in call.leaves if on_several_devices(x)]
        return _hash((_ADDRESS.sub("", str(step.jaxpr.bare)), str(layout), placed, kind))[:32]

    return _programs.made(step.key and (step.key, layout, shardings, kind), hashed)


def _placed(sharding: Any) -> str:
    """Return how an array is spread, whatever devices it is spread over."""
    if not isinstance(sharding, jax.sharding.NamedSharding):
        return str(sharding)
    mesh = sharding.mesh
    return str((dict(mesh.shape), [str(kind) for kind in mesh.axis_types], sharding.spec))


_programs: Recent[str] = Recent()


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions that a result holds for."""
    return {**jax_versions(), "results": str(VERSION)}


def installed(packages: Collection[str]) -> dict[str, str]:
    """Return the versions of those of these packages that are installed."""
    return {name: found for name in packages if (found := _version(name)) is not None}


@functools.cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def find(program: str) -> list[Tuned]:
    """Return what this user has measured of a program with these versions, in any mode."""
    return [found for path in _paths(program) if (found := _kept.read(path)) is not None]


def find_compiled(program: str) -> list[CompiledResult]:
    """Return what was compiled of a program, one result a mode, whichever versions did that.

    Those of the versions that are installed come before others, then the latest.
    """

    def worth(result: CompiledResult) -> tuple[int, str, str]:
        same = result.versions.items() & installed(result.versions).items()
        return len(same), result.date, str(sorted(result.versions.items()))

    found = (_kept_compiled.read(path) for path in _compiled_paths(program))
    ordered = sorted((each for each in found if each is not None), key=worth)
    return list({each.mode: each for each in ordered}.values())


def earlier(result: CompiledResult) -> CompiledResult | None:
    """Return what is kept of the same program, mode, devices and versions."""
    path = _path(result)
    return _kept_compiled.read(path) if path.name in _files() else None


def has_files(program: str) -> bool:
    """Say whether there are files of this user's results of a program."""
    return bool(_paths(program) or _compiled_paths(program))


def _paths(program: str) -> list[Path]:
    listed, paths = _files(), (_path_of(program, mode, versions()) for mode in MODES)
    return [path for path in paths if path.name in listed]


def _compiled_paths(program: str) -> list[Path]:
    listed = (name for name in _files() if name.startswith(f"{program}-"))
    return [folder() / name for name in sorted(listed) if name.endswith(_COMPILED)]


def find_shipped(program: str) -> list[Tuned]:
    """Return what is shipped of a program, with whichever versions it was measured."""
    return [each for each in shipped.results(device_kind()) if each.program == program]


def anything_known(sizes: tuple[int, int]) -> bool:
    """Say whether there may be results for calls of this batch and time size.

    Where there are none, a program need not be hashed.
    """
    files, shipped_here = sources(device_kind())
    return bool(files) or any(each.sizes == sizes for each in shipped_here)


def sources(kind: str) -> tuple[frozenset[str], tuple[Tuned, ...]]:
    """Return the names of this user's files, and what is shipped for a kind of device."""
    return _files(), shipped.results(kind)


def _files() -> frozenset[str]:
    """Return the names of what is in the folder, listed anew when files came or went."""
    path = str(folder())
    try:
        changed = os.stat(path).st_mtime_ns
        if path not in _listed or _listed[path][0] != changed:
            _listed[path] = changed, frozenset(os.listdir(path))
    except OSError:
        return frozenset()
    return _listed[path][1]


_listed: dict[str, tuple[int, frozenset[str]]] = {}


def everything(names: Collection[str] = ()) -> dict[Path, Result]:
    """Return all results by their files, or those of these workloads or functions.

    Raises:
        ValueError: there is none of a name.
    """
    paths = sorted(folder().glob("*.json"))
    found = {path: each for path in paths if (each := _kept_as(path).read(path))}
    known = dict.fromkeys(each.title for each in found.values())
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} was not tuned; results are of {', '.join(known) or 'none'}")
    return {path: each for path, each in found.items() if not names or each.title in names}


def clear(names: Collection[str] = ()) -> int:
    """Delete all results, or those of these workloads or functions; return how many there were.

    Raises:
        OSError: one cannot be deleted.
        ValueError: there is none of a name.
    """
    paths = list(everything(names) if names else folder().glob("*.json"))
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def export(path: Path, names: Collection[str] = ()) -> int:
    """Write all results, or those of these workloads or functions, to one file; return how many.

    Raises:
        OSError: it cannot be written.
        ValueError: there is none of a name.
    """
    found = everything(names).values()
    measured = tuple(each for each in found if isinstance(each, Tuned))
    compiled = tuple(each for each in found if isinstance(each, CompiledResult))
    whole_file.write(path, _kept.text(_Exported(measured, compiled)))
    return len(found)


def take_in(path: Path) -> tuple[Result, ...]:
    """Keep the results of a file that `export` wrote, over own ones of the same; return them.

    Raises:
        OSError: it cannot be read, or they cannot be kept.
        ValueError: it holds something else.
    """
    exported = typed.load(_Exported, path, FORMAT, VERSION, compiled=[])
    found: tuple[Result, ...] = (*exported.results, *exported.compiled)
    for each in found:
        _write(each)
    return found


def keep(tuned: Result) -> Path | None:
    """Write a result over an earlier one; warn, once, where that cannot be done."""
    try:
        return _write(tuned)
    except OSError as error:
        if folder() not in _not_written:
            _not_written.add(folder())
            warnings.warn(
                f"results of tuning cannot be kept in {folder()} ({error.strerror}), and are "
                f"lost: set TDJAX_CACHE_DIR to a folder that can be written.",
                stacklevel=2,
            )
        return None


_not_written: set[Path] = set()


def _write(tuned: Result) -> Path:
    path = _path(tuned)
    kept = _kept_as(path)
    whole_file.write(path, kept.text(tuned))
    kept.forget(path)
    _listed.clear()  # a folder's time is coarse
    return path


def _path(result: Result) -> Path:
    if isinstance(result, Tuned):
        return _path_of(result.program, result.mode, result.versions)
    versions = {**result.versions, "topology": result.topology}
    path = _path_of(result.program, result.mode, versions)
    return path.with_name(path.stem + _COMPILED)


def _path_of(program: str, mode: str, versions: Mapping[str, str]) -> Path:
    return _path_in(folder(), program, mode, tuple(sorted(versions.items())))


@functools.lru_cache(1024)
def _path_in(folder: Path, program: str, mode: str, versions: tuple[tuple[str, str], ...]) -> Path:
    return folder / f"{program}-{_hash(list(versions))[:8]}-{mode}.json"


def _hash(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()
