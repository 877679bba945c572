"""Refuses steps that change variables of Keras, without importing Keras.

On the JAX backend a variable holds an array. A step is traced, and what it would assign is a tracer
whose trace has ended.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import jax


def no_variable_changed(fun: Callable[..., Any]) -> contextlib.AbstractContextManager[Any]:
    """Refuse assignments to Keras variables, new variables and losses in the steps of `fun`.

    Reading variables is no change, and `stateless_call` of a layer is a pure function.

    Raises:
        TypeError: a step does one of these.
    """
    keras: Any = sys.modules.get("keras")
    config = getattr(keras, "config", None)
    if config is None or config.backend() != "jax":
        return contextlib.nullcontext()
    return _watching_scope(keras)(fun)


@functools.cache
def _watching_scope(keras: Any) -> Any:
    """Return a class of Keras scopes, inside which variables are not changed but refused."""

    class Watching(keras.StatelessScope):
        def __init__(self, fun: Callable[..., Any]) -> None:
            super().__init__(collect_losses=True)
            self.fun = fun

        def __enter__(self) -> Any:
            super().__enter__()
            if self.original_scope is not None:  # the caller may be a `stateless_call` itself
                self.state_mapping.update(self.original_scope.state_mapping)
            return self

        def __exit__(self, *error: Any) -> None:
            with jax.ensure_compile_time_eval():  # new variables are filled now: with arrays
                super().__exit__(*error)

        def get_current_value(self, variable: Any) -> Any:
            if getattr(variable, "_value", variable) is None:
                _refuse(self.fun, f"makes the Keras variable {variable.path}")
            return super().get_current_value(variable)

        def add_update(self, update: tuple[Any, Any]) -> None:
            _refuse(self.fun, f"assigns to the Keras variable {update[0].path}")

        def add_loss(self, loss: Any) -> None:
            _refuse(self.fun, "adds a loss to a Keras layer")

    return Watching


def _refuse(fun: Callable[..., Any], what: str) -> NoReturn:
    name = getattr(fun, "__qualname__", None) or repr(fun)
    raise TypeError(
        f"{name} {what} while its steps are traced, which would leak a tracer into it. Build the "
        f"layer first, and call it with training=False, or make the step a pure function: "
        f"output, state = layer.stateless_call(weights, state, x)."
    )
