"""The fuzzer reaches every rule, and some of its programs are run: more are by `tests.fuzz`."""

import types

import jax
import pytest
from fuzz import coverage, report, session
from fuzz.operations.registry import BUILDERS, UNREACHED

from tdjax.independence.rules.rule import known_primitives, traits_of

PROGRAMS = 60


@pytest.fixture(autouse=True)
def as_the_fuzzer_runs():
    """Random programs are written as users write theirs, in float64."""
    with (
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
        jax.enable_x64(True),
    ):
        yield


def with_rule():
    """Return the primitives that a rule speaks for."""
    names = [each for each in known_primitives() if each not in UNREACHED]
    traits = {name: traits_of(types.SimpleNamespace(name=name)) for name in names}
    return [name for name in names if traits[name].rows or traits[name].nested]


def test_every_primitive_with_a_rule_has_a_builder():
    assert set(with_rule()) - BUILDERS.keys() == set()


NUMBERS = [
    ("integer_pow", "y"), ("reduce_precision", "mantissa_bits"), ("pad", "padding_config"),
    ("slice", "start_indices"), ("slice", "strides"), ("dynamic_slice", "slice_sizes"),
    ("reduce_window_sum", "window_dimensions"), ("reduce_window_max", "window_strides"),
    ("reduce_window_min", "padding"), ("reduce_window_sum", "base_dilation"),
    ("reduce_window_sum", "window_dilation"), ("conv_general_dilated", "window_strides"),
    ("conv_general_dilated", "padding"), ("conv_general_dilated", "lhs_dilation"),
    ("conv_general_dilated", "rhs_dilation"),
    ("fft", "fft_lengths"), ("top_k", "k"), ("gather", "slice_sizes"), ("scan", "length"),
    ("sort", "num_keys"), ("reduce_sum", "axes"), ("random_split", "shape"),
]  # fmt: skip
"""Parameters that take numbers, of the kinds that there are."""


@pytest.mark.parametrize(("primitive", "parameter"), NUMBERS)
def test_a_number_in_a_parameter_follows_the_batch_in_some_programs(primitive, parameter):
    assert coverage.follows(primitive, parameter)


@pytest.mark.filterwarnings("ignore")
def test_the_programs_of_a_seed_are_proven_to_be_the_loop_or_are_refused_rightly():
    summary = session.run((f"suite-{count}" for count in range(PROGRAMS)), shrink=False)
    assert not summary.failures, "\n".join(
        report.code(program, failure) for _, program, failure in summary.failures
    )
    assert summary.verdicts["proven"] > PROGRAMS // 4
    assert summary.verdicts["refused"] > PROGRAMS // 6
    assert summary.verdicts["invalid"] < PROGRAMS // 10
