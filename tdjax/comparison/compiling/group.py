"""One group of candidates for a device that is not here: lowered, compiled, made into entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tdjax.comparison.compiling.client import Compiled
from tdjax.comparison.compiling.travel import Parcel, pack
from tdjax.comparison.hlo import Facts, Steps, read_facts
from tdjax.comparison.subjects.subject import Subject
from tdjax.comparison.targets.catalog import AbsentDevice
from tdjax.comparison.verdicts.entry import Entry, Group
from tdjax.devices.attached import assume


@dataclass(frozen=True)
class Lowered:
    """One strategy's program for a platform, or why there is none."""

    strategy: Any
    parcel: Parcel | None = None
    error: str | None = None


def lower(
    subject: Subject,
    mode: str,
    strategies: Sequence[Any],
    reference: Any,
    device: AbsentDevice,
    tell: Callable[[str, float], None],
    known: dict[Any, Lowered] | None = None,
) -> list[Lowered]:
    """Lower a subject under every strategy; one that fails keeps its reason.

    Args:
        subject: what is lowered.
        mode: "forward" or "grad".
        strategies: the strategies.
        reference: the one that gives the shapes of cotangents.
        device: what it is lowered for.
        tell: called with what is being done.
        known: what was lowered of the same subject, which grows: devices of one platform share the
            programs of strategies that do not choose for each of them.

    Raises:
        Exception: the function's own error, where it cannot be traced at all.
    """
    platform, known = device.compiler.platform, {} if known is None else known
    arguments = (subject.arrays, subject.cotangent_shapes(reference, mode))
    keys = []
    for index, strategy in enumerate(strategies):
        decides = getattr(strategy, "decides", True)
        keys.append((platform, mode, strategy, device.device_kind if decides else None))
        if keys[-1] in known:
            continue
        tell(f"lowering {strategy} for {platform}", index / len(strategies))
        try:
            with assume(platform, device.device_kind or None):
                parcel = pack(subject.function(strategy, mode), arguments, platform)
        except Exception as error:  # A strategy that cannot run here is a row with its reason.
            known[keys[-1]] = Lowered(strategy, error=f"{type(error).__name__}: {error}")
        else:
            known[keys[-1]] = Lowered(strategy, parcel)
    return [known[key] for key in keys]


@dataclass(eq=False)
class CompiledCandidate:
    """One strategy's progress towards a compiled program.

    Attributes:
        lowered: its program.
        status, error: as in `Entry`.
        compiled: what the compiler made of it, once it has.
        facts: what that says.
    """

    lowered: Lowered
    status: str = "ok"
    error: str | None = None
    compiled: Compiled | None = None
    facts: Facts = field(default_factory=Facts)

    def __post_init__(self) -> None:
        if self.lowered.error is not None:
            self.drop("failed", self.lowered.error)

    @property
    def waiting(self) -> bool:
        """Whether it is yet to be compiled."""
        return self.status == "ok" and self.compiled is None

    def drop(self, status: str, error: str) -> None:
        """Compile it no further, and keep the reason in one line; unless it has been compiled."""
        if self.waiting:
            self.status, self.error = status, " ".join(error.split())

    def accept(self, compiled: Compiled, steps: Steps | None, note: str | None = None) -> None:
        """Keep what the compiler made, and what it says; the note tells what is missing."""
        facts = read_facts(compiled.text, steps)
        if compiled.compile_s is None:
            # A finished text says more, so that its hash is another.
            facts = replace(facts, program=None, estimated_cycles=None)
        self.facts = facts
        self.error = note
        self.compiled = compiled


class CompiledGroup:
    """A subject in a mode, for one device, under several strategies.

    Args:
        group: what its entries share.
        device: what it is compiled for.
        lowered: the programs.
        reference: the strategy that the others are compared with.
        steps: batch and time size, to name the axes that move.
    """

    def __init__(
        self,
        group: Group,
        device: AbsentDevice,
        lowered: Sequence[Lowered],
        reference: Any,
        steps: Steps | None,
    ) -> None:
        self.group = group
        self.device = device
        self.reference = reference
        self.steps = steps
        self.candidates = [CompiledCandidate(each) for each in lowered]

    @property
    def entries(self) -> list[Entry]:
        """What is known so far, one entry a candidate."""
        first: dict[str, str] = {}
        found = []
        for candidate in self.candidates:
            program, name = candidate.facts.program, str(candidate.lowered.strategy)
            same_as = None if program is None else first.get(program)
            if program is not None:
                first.setdefault(program, name)
            found.append(_entry(candidate, self.group, name, same_as))
        return found


def _entry(candidate: CompiledCandidate, group: Group, strategy: str, same_as: str | None) -> Entry:
    status, error = candidate.status, candidate.error
    if candidate.waiting:
        status, error = "failed", "interrupted before it was compiled"
    parcel, compiled = candidate.lowered.parcel, candidate.compiled
    return Entry(
        *group,
        strategy=strategy,
        status=status,
        error=error,
        trace_s=None if parcel is None else parcel.trace_s,
        lower_s=None if parcel is None else parcel.lower_s,
        compile_s=None if compiled is None else compiled.compile_s,
        temp_bytes=None if compiled is None else compiled.temp_bytes,
        same_as=same_as,
        **candidate.facts.to_entry(),
    )
