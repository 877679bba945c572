"""Which processor this is: what tells two apart that bear one name, such as "AMD EPYC"."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_USUAL_NEAR, USUAL_FAR = 2**20, 32 * 2**20
_SIZE = re.compile(r"L(\d) (\d+) KiB")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
# What Linux calls the instruction sets that decide how fast arithmetic is, on x86 and on ARM.
_INSTRUCTION_SETS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "amx_tile": "AMX",
    "asimd": "NEON",
    "neon": "NEON",
    "sve": "SVE",
}
_VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel", "0x41": "ARM", "0x61": "Apple"}
_VENDOR = ("vendor_id", "CPU implementer")
_FAMILY = ("cpu family", "CPU architecture")
_MODEL = ("model", "CPU part")
_WRITTEN = re.compile(
    r"(?P<name>.*) \((?P<vendor>[^,()]+), family (?P<family>[^,]+), model (?P<model>[^;]+)"
    r"(?:; (?P<sets>[^()]+))?\)(?:, (?P<cores>\d+) cores)?(?:, (?P<caches>.+))?"
)


@dataclasses.dataclass(frozen=True)
class Processor:
    """A processor, as far as the system says.

    Attributes:
        name: what its vendor sells it as.
        vendor, family, model: which one it is; "?" where that is not known.
        instruction_sets: those of AVX2, AVX-512, AMX, NEON and SVE that it has.
        cores: how many this process may use; 0 where that is not known.
        caches: the sizes of a core's caches, in words; empty where they are not known.
    """

    name: str
    vendor: str = "?"
    family: str = "?"
    model: str = "?"
    instruction_sets: tuple[str, ...] = ()
    cores: int = 0
    caches: str = ""

    def __str__(self) -> str:
        sets = f"; {' '.join(self.instruction_sets)}" if self.instruction_sets else ""
        return f"{self.name} ({self.vendor}, family {self.family}, model {self.model}{sets})"

    @functools.cached_property
    def kind(self) -> str:
        """What files and kept results call a CPU."""
        parts = ("cpu", str(self), f"{self.cores} cores", self.caches)
        return ", ".join(part for part in parts if part)

    @property
    def cache_bytes(self) -> tuple[float, float]:
        """The bytes of all cores' own caches together, and of the cache that they share."""
        sizes = {int(level): int(size) * _UNITS["K"] for level, size in _SIZE.findall(self.caches)}
        return near_and_far(sizes, max(1, self.cores))

    @classmethod
    def of_kind(cls, kind: str) -> Processor:
        """Return the processor that a kind names: of older kinds the name and the cores alone."""
        text = kind.removeprefix("cpu, ")
        found = _WRITTEN.fullmatch(text)
        if found is None:
            name, _, cores = text.removesuffix(" cores").rpartition(", ")
            return cls(name, cores=int(cores)) if cores.isdigit() else cls(text)
        part = found.groupdict(default="")
        return cls(
            part["name"],
            part["vendor"],
            part["family"],
            part["model"],
            tuple(part["sets"].split()),
            int(part["cores"] or 0),
            part["caches"],
        )

    def nearness(self, other: Processor) -> tuple[int, ...]:
        """Return how like another processor this one is: larger is nearer, what matters first.

        Arithmetic is decided by the design, then by the instruction sets, then by the vendor; the
        cores tell the rest.
        """
        ours, theirs = set(self.instruction_sets), set(other.instruction_sets)
        known = self.vendor != "?" and self.vendor == other.vendor
        same_family = known and self.family == other.family
        return (
            int(same_family and self.model == other.model),
            int(same_family),
            -len(ours ^ theirs),
            int(known),
            int(self.name == other.name),
            -abs(self.cores - other.cores),
            int(self.caches == other.caches),
        )

    def likeness(self, other: Processor) -> str:
        """Return in words how like another processor this one is."""
        same_design, same_family, apart, same_vendor, same_name, *_ = self.nearness(other)
        if same_design:
            cores = "" if self.cores == other.cores else f", {other.cores} cores"
            return f"the same design{cores}"
        if same_family:
            return "the same vendor and family, another model"
        if "?" in (self.vendor, other.vendor):
            return "the same name, of a design that is not known" if same_name else "another design"
        sets = "the same instruction sets" if apart == 0 else "other instruction sets"
        return f"{'the same' if same_vendor else 'another'} vendor, another design, {sets}"


@functools.cache
def processor() -> Processor:
    """Return this machine's processor."""
    caches = ", ".join(
        f"L{level} {size / 2**10:.0f} KiB" for level, size in sorted(cache_sizes().items())
    )
    try:
        found = of_cpuinfo(Path("/proc/cpuinfo").read_text())
    except OSError:  # Not Linux.
        name = platform.processor() or platform.machine() or "?"
        arm = platform.machine().lower() in ("arm64", "aarch64")
        found = Processor(name, instruction_sets=("NEON",) if arm else ())
    return dataclasses.replace(found, cores=cores(), caches=caches)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache_sizes() -> dict[int, int]:
    """Return the bytes of a core's caches by level, empty where the system does not say."""
    sizes: dict[int, int] = {}
    try:
        for folder in _CACHES.glob("index*"):
            size, level = (folder / "size").read_text().strip(), (folder / "level").read_text()
            sizes[int(level)] = int(size[:-1]) * _UNITS[size[-1]]
    except (OSError, ValueError, KeyError, IndexError):  # Not Linux, or a text of another form.
        return {}
    return sizes


def near_and_far(sizes: Mapping[int, int], cores: int) -> tuple[float, float]:
    """Return the bytes of all cores' own caches together, and of the cache that they share.

    Args:
        sizes: of a core's caches, by level.
        cores: how many there are.
    """
    near = (sizes.get(2) or _USUAL_NEAR) * cores
    return near, max(sizes.get(3) or USUAL_FAR, near)


def of_cpuinfo(text: str) -> Processor:
    """Return the processor that Linux' /proc/cpuinfo describes."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())

    def first(names: tuple[str, ...]) -> str:
        return next((fields[name] for name in names if fields.get(name)), "?")

    vendor = first(_VENDOR)
    flags = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()
    sets = tuple(dict.fromkeys(name for flag, name in _INSTRUCTION_SETS.items() if flag in flags))
    # Commas and brackets would end a part of what is written.
    name = re.sub(r"[(),;]", "", fields.get("model name") or platform.machine() or "?")
    return Processor(name, _VENDORS.get(vendor, vendor), first(_FAMILY), first(_MODEL), sets)
