"""Refuses steps that reach what a Haiku transform around them holds, without importing Haiku.

Steps are traced, each more than once. A parameter that one makes in the transform around it would
be a tracer whose trace has ended, and have another name in every trace.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_MARK = "tdjax"


def run_apart(fun: Callable[..., Any], run: Callable[[], Any]) -> Any:
    """Return `run()`, which traces the steps of `fun`, apart from a Haiku transform around it.

    It runs in an empty transform of its own, where whatever asks for a module, a parameter, state
    or a key is caught. A transform inside of a step is a pure function, and keeps what is its own.

    Raises:
        TypeError: a step reaches the transform around it.
    """
    hk: Any = sys.modules.get("haiku")
    initializing = _initializes(hk)
    if initializing is None:
        return run()
    mark, outputs = object(), []

    def check(reached: str) -> None:
        if any(held.get(_MARK) is mark for held in hk.get_initial_state().values()):
            name = getattr(fun, "__qualname__", None) or repr(fun)
            raise TypeError(
                f"{name} reaches {reached} of the Haiku transform around it, while its steps are "
                f"traced: they would leak tracers into it. Make the step a pure function: "
                f"step = hk.transform(fun); params = hk.lift(step.init)(key, x[:, 0]); "
                f"tdjax.time_distributed(step.apply, in_axes=(None, None, 1))(params, key, x)."
            )

    def on_method(call: Any, args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
        check(f"the module {type(context.module).__name__}")
        return call(*args, **kwargs)

    def on_value(call: Any, *given: Any) -> Any:
        *values, context = given
        check(f"the parameter or state {context.full_name}")
        return call(*values)

    def marked() -> None:
        hk.set_state(_MARK, mark)
        before = hk.maybe_get_rng_sequence_state()
        with (
            hk.intercept_methods(on_method),
            hk.custom_creator(on_value, state=True),
            hk.custom_getter(on_value, state=True),
            hk.custom_setter(on_value),
        ):
            outputs.append(run())
        if _keys_left(before) != _keys_left(hk.maybe_get_rng_sequence_state()):
            check("the keys (hk.next_rng_key)")

    apart = hk.transform_with_state(marked)
    keys = hk.maybe_get_rng_sequence_state()
    if initializing:  # a step may ask whether it is
        apart.init(keys)
    else:
        apart.apply({}, {}, keys)
    return outputs[0]


def _initializes(hk: Any) -> bool | None:
    """Say whether the transform around initializes; None if none is around, or no Haiku in use."""
    try:
        return None if hk is None else hk.running_init()
    except (AttributeError, ValueError):  # it is being imported; there is no transform
        return None


def _keys_left(state: Any) -> Any:
    return state and (id(state[0]), len(state[1]))
