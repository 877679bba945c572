"""How many rounds are taken, and of whom; on times that are drawn, not measured."""

import numpy as np
import pytest

from tdjax.comparison import rounds
from tdjax.comparison.candidate import Candidate
from tdjax.comparison.rounds import MOST_ROUNDS, Effort, measure_rounds


@pytest.fixture
def race(monkeypatch):
    """Give `race(noise, **seconds)`: the candidates after their rounds."""

    def run(noise, effort=None, **seconds):
        random = np.random.default_rng(0)

        def sample(candidate, inputs):
            return seconds[candidate.name] * (1 + noise * random.standard_normal())

        monkeypatch.setattr(rounds, "_sample", sample)
        candidates = {name: Candidate(name) for name in seconds}
        measure_rounds(
            list(candidates.values()),
            inputs=None,
            effort=effort or Effort(budget_s=60),
            seed="",
            tell=lambda text, done: None,
        )
        return {name: len(candidate.samples) for name, candidate in candidates.items()}

    return run


def test_rounds_end_when_two_looks_find_all_clear(race):
    assert race(0.005, vmap=1.0, fold=1.15) == {"vmap": 10, "fold": 10}
    assert race(0.005, vmap=1.0, fold=1.01) == {"vmap": 10, "fold": 10}


def test_who_is_far_behind_leaves_early(race):
    found = race(0.005, vmap=1.0, fold=1.15, map=1.6, unroll=9.0)
    assert found == {"vmap": 10, "fold": 10, "map": 7, "unroll": 3}


def test_more_rounds_are_taken_where_noise_hides_who_leads(race):
    few, many = race(0.02, vmap=1.0, fold=1.12), race(0.2, vmap=1.0, fold=1.12)
    assert few["fold"] < many["fold"] <= MOST_ROUNDS


def test_rounds_end_when_the_time_is_used_up(race):
    spent = Effort(budget_s=1e-9)
    assert race(0.5, spent, vmap=1.0, fold=1.01) == {"vmap": 5, "fold": 5}


def test_rounds_that_are_asked_for_are_taken_by_all(race):
    found = race(0.005, Effort(rounds=4), vmap=1.0, fold=1.01, unroll=9.0)
    assert found == {"vmap": 4, "fold": 4, "unroll": 4}


def test_one_candidate_needs_no_more_than_the_fewest(race):
    assert race(0.3, vmap=1.0) == {"vmap": 7}
