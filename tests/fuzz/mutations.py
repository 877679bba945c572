"""Takes back what keeps wrong proofs out, one thing at a time, to see whether programs show it.

`python -m tests.fuzz --mutation NAME` goes on until a program is wrong. Each patches the process
that it is called in, for good.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from typing import Any

from tdjax.core.opened import without_dead_code
from tdjax.independence import analysis, two_traces
from tdjax.independence.kinds import CONST, NotProvenError
from tdjax.independence.rules import control, derivatives, random, rule, sums
from tdjax.strategies import vmap
from tdjax.strategies.convolution import primitive


def _same_key_for_all_rows() -> None:
    """Gamma variates are taken for drawn a row, whatever their key."""
    known = rule.traits_of(types.SimpleNamespace(name="random_gamma"))
    rule.unregister("random_gamma")
    given = {f.name: getattr(known, f.name) for f in dataclasses.fields(known)}
    rule.register("random_gamma", **{**given, "rows": random.bits})


def _numbers_that_follow() -> None:
    """The number of rows may stand in any parameter."""
    analysis.Analysis._check_params = lambda *args: None  # type: ignore[method-assign]


def _rules_beside_whole_numbers() -> None:
    """Rules of functions that also return whole numbers are not followed."""
    check = derivatives.check_rules

    def checked(follows: Any, eqn: Any, kinds: Any, outputs: Any) -> None:
        if len(derivatives.differentiated(eqn)[2]) == len(outputs):
            check(follows, eqn, kinds, outputs)

    control.check_rules = checked


def _rules_known_by_program() -> None:
    """A rule that holds is remembered by its function, not by itself."""
    derivatives._written = lambda value, most=5: ()


def _casts_of_sums() -> None:
    """Sums over rows are followed through casts to whole numbers and back."""
    sums.jnp = types.SimpleNamespace(inexact=None, issubdtype=lambda *_: True)  # type: ignore[assignment]


def _conditions_on_sums() -> None:
    """Branches and loops may look at a sum over rows."""
    control._refuse_sum = lambda *args: None
    known = rule.traits_of(types.SimpleNamespace(name="convert_element_type"))
    of_sums = sums.of_sums

    def followed(eqn: Any, kinds: Any, traits: Any) -> Any:
        try:
            return of_sums(eqn, kinds, traits)
        except NotProvenError:
            if traits is known or eqn.outvars[0].dtype == bool:
                return [CONST] * len(eqn.outvars)
            raise

    analysis.of_sums = followed


def _constants_for_shared_arrays() -> None:
    """A rule may give a shared array the same gradient whatever the rows are.

    That is not zero for a cotangent of zero, either, which here it need not be.
    """
    demand, check = derivatives._demand_gradients, derivatives.check_rules
    constant = []

    def demanded(*args: Any) -> None:
        try:
            demand(*args)
        except NotProvenError as error:
            if "the loop adds it up once a step" not in str(error):
                raise
            constant.append(error)

    def checked(*args: Any) -> None:
        constant.clear()
        try:
            check(*args)
        except NotProvenError as error:
            if not constant or derivatives.NOT_ZERO not in str(error):
                raise

    derivatives._demand_gradients, control.check_rules = demanded, checked


def _shared_by_many_steps() -> None:
    """`jax.vmap` of steps is taken for the loop, whatever rules give to shared arrays."""
    vmap.needs_own_copies = lambda *args: False


def _gradients_of_nothing() -> None:
    """A rule may give something for a cotangent of zero."""
    check = derivatives.check_rules

    def checked(*args: Any) -> None:
        try:
            check(*args)
        except NotProvenError as error:
            if derivatives.NOT_ZERO not in str(error):
                raise

    control.check_rules = checked


def _steps_that_fill_a_chunk() -> None:
    """Steps that fill up a last chunk are taken for steps without gradients."""
    needs = vmap.needs_own_copies
    vmap.needs_own_copies = lambda program, mapped, fills: needs(program, mapped, False)


def _values_of_rules() -> None:
    """What a rule gives in place of its function's value is taken for that."""

    demand = derivatives._demand_places

    def moved_alone(derive: Any, moving: int) -> Any:
        def derived(eqn: Any, *places: list[int]) -> Any:
            read = [True] * len(places[moving]) + [False] * len(eqn.outvars)
            return without_dead_code(derive(eqn, *places), read)

        return derived

    derivatives.pullback = moved_alone(derivatives.pullback, 1)
    derivatives.pushforward = moved_alone(derivatives.pushforward, 2)
    derivatives._demand_places = lambda kinds, wanted: demand(kinds, wanted[: len(kinds)])


def _named_tuples() -> None:
    """Parameters are rebuilt as lists and tuples are, whatever their type."""
    plain: Callable[..., Any] = lambda sequence, values: type(sequence)(values)  # noqa: E731
    primitive.rebuilt = two_traces.rebuilt = plain


MUTATIONS: dict[str, Callable[[], None]] = {
    "1-same-key": _same_key_for_all_rows,
    "2-parameters": _numbers_that_follow,
    "3-whole-numbers": _rules_beside_whole_numbers,
    "4-known-by-program": _rules_known_by_program,
    "5-casts": _casts_of_sums,
    "5-conditions": _conditions_on_sums,
    "6-constants": _constants_for_shared_arrays,
    "6-vmap": _shared_by_many_steps,
    "7-zeros": _gradients_of_nothing,
    "7-chunks": _steps_that_fill_a_chunk,
    "8-named-tuples": _named_tuples,
    "9-values": _values_of_rules,
}
