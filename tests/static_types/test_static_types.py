"""What type checkers are told is so; `check.py` asks them themselves."""

import inspect
import typing

import pytest
from static_types import good, not_caught

from tdjax.strategies import NAMES
from tdjax.strategies.names import StrategyName

CAUGHT_AT_RUN_TIME = {
    "arguments_beside_a_mask": (TypeError, "positional"),
    "keywords_beside_a_mask": (TypeError, "factor"),
    "mask_and_lengths": (ValueError, "mask"),
    "shapes": (ValueError, r"bool\[3,2\]"),
    "dtypes": (TypeError, "bool"),
    "axes": (TypeError, "in_axes"),
    "numbers_out_of_range": (ValueError, "chunk_size"),
    "strategies_that_a_function_does_not_allow": (ValueError, "cannot be folded"),
    "misspelled_texts": (ValueError, "64 elephants"),
    "classes_for_modules": (TypeError, "class Dense"),
}


def functions(module):
    """Return the functions of a module that take nothing, by name."""
    found = inspect.getmembers(module, inspect.isfunction)
    return {n: f for n, f in found if f.__module__ == module.__name__ and not n.startswith("_")}


@pytest.mark.parametrize("name", functions(not_caught))
def test_what_checkers_do_not_catch_is_caught_at_run_time(name):
    kind, said = CAUGHT_AT_RUN_TIME[name]
    with pytest.raises(kind, match=said):
        functions(not_caught)[name]()


@pytest.mark.parametrize("name", sorted(functions(good).keys() - {"measuring"}))
def test_what_checkers_accept_runs(name):
    functions(good)[name]()


def test_the_names_of_strategies_are_those_that_there_are():
    assert typing.get_args(StrategyName) == tuple(NAMES)
