"""What a session runs: subjects that are made when their turn comes, one a density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tdjax.comparison.subjects.subject import Subject
from tdjax.comparison.targets.target import Target
from tdjax.comparison.verdicts.density import Density, check_fractions, density_name

Made = tuple[Subject, Sequence[Any]]


@dataclass(frozen=True)
class Job:
    """A subject that is made when its turn comes, with the strategies to compare on it.

    Attributes:
        name: the workload's name.
        make: gives the subject, and the strategy objects, the same in every mode.
        placed: whether its arrays already lie where they should run.
        density: the series it belongs to, and the part of its steps that is real.
    """

    name: str
    make: Callable[[], Made]
    placed: bool = False
    density: Density | None = None


@dataclass(frozen=True)
class Source:
    """Where jobs come from.

    Attributes:
        name: the workload's name, or that of a series of workloads.
        make: gives the subject and its strategies, with a mask that keeps a part of all steps; of
            None, as it is.
    """

    name: str
    make: Callable[..., Made]

    def jobs(self, fractions: Sequence[float] | None, placed: bool = False) -> list[Job]:
        """Return a job for each part of steps that is real; a single one where none is given.

        Args:
            fractions: the parts; None for none.
            placed: as in `Job`.

        Raises:
            ValueError: a part does not lie between 0 and 1.
        """
        if fractions is None:
            return [Job(self.name, partial(self.make, None), placed)]
        return [
            Job(density_name(*density), partial(self.make, density.part), placed, density)
            for density in (Density(self.name, part) for part in check_fractions(fractions))
        ]


def check_densities(jobs: Sequence[Job], targets: Sequence[Target]) -> None:
    """Raise ValueError if masks are to be compared where nothing runs."""
    absent = [target.name for target in targets if target.evidence != "measured"]
    if absent and any(job.density is not None for job in jobs):
        raise ValueError(
            f"valid_fractions: got the targets {', '.join(absent)}, for which programs are "
            f"compiled and not run, and one program serves all masks; needed devices that are "
            f"attached (`tdjax targets` lists them)."
        )
