"""How many rounds are taken, and of whom; on times that are drawn, not measured."""

from types import SimpleNamespace

import numpy as np
import pytest

from tdjax.comparison.measuring import rounds
from tdjax.comparison.measuring.candidate import MeasuredCandidate
from tdjax.comparison.measuring.rounds import MOST_ROUNDS, Effort, Rounds


@pytest.fixture
def prepare(monkeypatch):
    """Give `prepare(noise, effort, **seconds)`: rounds that draw their samples, and whose."""

    def make(noise, effort=None, **seconds):
        random = np.random.default_rng(0)

        def sample(candidate, inputs):
            return seconds[candidate.name] * (1 + noise * random.standard_normal())

        monkeypatch.setattr(rounds, "_sample", sample)
        candidates = [MeasuredCandidate(name) for name in seconds]
        return Rounds(candidates, effort or Effort(budget_s=60), seed=""), candidates

    return make


@pytest.fixture
def race(prepare):
    """Give `race(noise, effort, **seconds)`: how many samples each candidate got."""

    def run(noise, effort=None, **seconds):
        made, candidates = prepare(noise, effort, **seconds)
        made.begin(None, quiet)
        return taken(candidates)

    return run


def quiet(text, done):
    pass


def taken(candidates):
    return {candidate.name: len(candidate.samples) for candidate in candidates}


def test_rounds_end_when_two_looks_find_all_clear(race):
    assert race(0.005, vmap=1.0, fold=1.15) == {"vmap": 10, "fold": 10}
    assert race(0.005, vmap=1.0, fold=1.01) == {"vmap": 10, "fold": 10}


def test_who_is_far_behind_leaves_early(race):
    found = race(0.005, vmap=1.0, fold=1.15, map=1.3, unroll=9.0)
    assert found == {"vmap": 10, "fold": 10, "map": 5, "unroll": 3}


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


def test_a_verdict_is_found_twice(prepare):
    made, candidates = prepare(0.005, vmap=1.0, fold=1.08, map=1.6)
    made.begin(None, quiet)
    assert made.undecided
    made.go_on(None, 60, quiet)
    assert not made.undecided
    assert taken(candidates) == {"vmap": 16, "fold": 16, "map": 5}


def test_no_visit_is_wasted_on_what_is_over(prepare):
    made, _ = prepare(0.005, vmap=1.0, map=1.6, unroll=9.0)
    made.begin(None, quiet)
    assert not made.undecided


def test_rounds_that_are_asked_for_are_all(prepare):
    made, _ = prepare(0.5, Effort(rounds=4), vmap=1.0, fold=1.01)
    made.begin(None, quiet)
    assert not made.undecided


def test_visits_go_on_until_the_samples_tell(prepare):
    made, candidates = prepare(0.2, Effort(budget_s=1e-9), vmap=1.0, fold=1.12)
    made.begin(None, quiet)
    assert taken(candidates) == {"vmap": 5, "fold": 5}
    visits = 0
    while made.undecided:
        made.go_on(None, 0.01, quiet)
        visits += 1
    assert visits >= 1 and taken(candidates)["fold"] > 20


def asked(prepare, noise, **seconds):
    """Return how many samples each got where it is asked whether vmap or fold is faster."""
    made, candidates = prepare(noise, **seconds)
    by_name = {candidate.name: candidate for candidate in candidates}
    made = Rounds(candidates, Effort(budget_s=60), "", [(by_name["fold"], by_name["vmap"])])
    made.begin(None, quiet)
    return taken(candidates)


def test_an_open_question_keeps_those_that_are_far_behind_the_leader(prepare):
    seconds = {"vmap": 2.0, "fold": 2.0, "map": 1.0, "unroll": 4.0}
    found = asked(prepare, 0.05, **seconds)
    assert found["vmap"] == found["fold"] > 20 > found["unroll"]


def test_a_closed_question_frees_them(prepare):
    found = asked(prepare, 0.005, vmap=2.0, fold=2.6, map=1.0, unroll=4.0)
    assert found["fold"] == found["vmap"] == 5


def test_from_the_second_visit_on_only_what_is_open_is_measured(prepare):
    made, candidates = prepare(0.02, vmap=2.0, fold=2.06, map=1.0, unroll=1.0)
    vmap, fold, *_ = candidates
    made = Rounds(candidates, Effort(budget_s=1e-9), "", [(fold, vmap)])
    made.begin(None, quiet)
    assert set(taken(candidates).values()) == {5}
    made.go_on(None, 60, quiet)
    found = taken(candidates)
    assert 5 < found["map"] == found["unroll"] < found["vmap"] == found["fold"]


def test_once_it_is_clear_who_is_fastest_only_what_is_open_is_measured(prepare):
    made, candidates = prepare(0.02, vmap=2.0, fold=2.06, map=1.0, unroll=1.0)
    vmap, fold, *_ = candidates
    made = Rounds(candidates, Effort(budget_s=60), "", [(fold, vmap)])
    made.begin(None, quiet)
    found = taken(candidates)
    assert found["map"] == found["unroll"] <= 25 < found["vmap"] == found["fold"]


@pytest.mark.parametrize(("count", "leaves"), [(10, False), (22, True)])
def test_after_many_rounds_who_is_clearly_behind_leaves_though_it_is_close(count, leaves):
    random = np.random.default_rng(0)
    candidates = [MeasuredCandidate(name) for name in ("vmap", "fold", "map")]
    for candidate, seconds in zip(candidates, (1.0, 1.03, 1.12), strict=True):
        candidate.samples += list(seconds * (1 + 0.005 * random.standard_normal(count)))
    race = rounds._Race(candidates, [tuple(candidates[:2])])
    race.look(count)
    assert (candidates[2] not in race.running) == leaves and not race.decided


def test_what_is_open_takes_so_many_rounds_about(prepare):
    made, candidates = prepare(0.05, Effort(budget_s=1e-9), vmap=1.0, fold=1.0)
    made.begin(None, quiet)
    for candidate in candidates:
        candidate.call_s, candidate.calls_per_sample = 0.5, 2
    assert made.round_s == 2.0 and 0 < made.open_s <= 4 * 2.0 * 5
    for candidate in candidates:
        candidate.samples[:] = [1.0] * 9
    assert made.open_s == 0.0 and made.undecided  # An answer should be reached twice.


@pytest.mark.parametrize(
    ("call_s", "turns"),
    [([0.001] * 3, 3), ([0.03, 0.035, 0.09], 2), ([0.02, 0.1, 0.1], 1), ([], 0)],
)
def test_a_sample_is_the_shortest_of_as_many_turns_for_one_as_for_another(call_s, turns):
    candidates = [MeasuredCandidate(str(i), call_s=s) for i, s in enumerate(call_s)]
    rounds._choose_turns(candidates)
    assert [candidate.turns for candidate in candidates] == [turns] * len(call_s)


def test_what_disturbs_a_turn_is_not_in_the_sample(monkeypatch):
    """Two calls a turn; the clock says that the first turn took long, and the second did not."""
    ticks = iter([0.0, 9.0, 10.0, 10.5, 11.0, 14.0])
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: next(ticks))
    program = SimpleNamespace(executable=lambda: ())
    candidate = MeasuredCandidate("vmap", program=program, call_s=1, calls_per_sample=2, turns=3)
    assert rounds._sample(candidate, SimpleNamespace(turn=lambda: ())) == 0.25


def test_who_is_in_doubt_is_measured_on_and_who_is_clear_is_not(prepare):
    seconds = {"vmap": 1.0, "fold": 1.0, "near": 1.08, "map": 1.14}
    made, candidates = prepare(0.012, Effort(budget_s=1e-9), **seconds)
    made.begin(None, quiet)
    made.go_on(None, 60, quiet)
    found = taken(candidates)
    assert found["map"] <= found["near"] <= found["vmap"] == found["fold"] > 5
