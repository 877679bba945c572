"""What a session runs: subjects that are made when their turn comes, one for each density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tdjax.comparison.subjects.subject import Subject
from tdjax.comparison.subjects.thinned_masks import check_fractions
from tdjax.comparison.targets.target import Target
from tdjax.comparison.verdicts.density import Density

Made = tuple[Subject, Sequence[Any]]


@dataclass(frozen=True)
class Benchmark:
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
class Series:
    """A workload from which benchmarks are made, one for each density.

    Attributes:
        name: the workload's name.
        make: gives the subject and its strategies, with a mask that keeps a part of all steps; of
            None, as it is.
    """

    name: str
    make: Callable[..., Made]

    def benchmarks(
        self, fractions: Sequence[float] | None, placed: bool = False
    ) -> list[Benchmark]:
        """Return a benchmark for each part of steps that is real; of None, a single one.

        Raises:
            ValueError: a part does not lie between 0 and 1.
        """
        if fractions is None:
            return [Benchmark(self.name, partial(self.make, None), placed)]
        return [
            Benchmark(density.name, partial(self.make, density.part), placed, density)
            for density in (Density(self.name, part) for part in check_fractions(fractions))
        ]


def check_densities(benchmarks: Sequence[Benchmark], targets: Sequence[Target]) -> None:
    """Raise ValueError if masks are to be compared where nothing runs."""
    absent = [target.name for target in targets if target.evidence != "measured"]
    if absent and any(benchmark.density is not None for benchmark in benchmarks):
        raise ValueError(
            f"valid_fractions: got the targets {', '.join(absent)}, for which programs are "
            f"compiled and not run, and one program serves all masks; needed devices that are "
            f"attached (`tdjax targets` lists them)."
        )
