"""Keras' TimeDistributed on TensorFlow: the step's operations, one by one, in TensorFlow's own.

TensorFlow computes with libraries that XLA does not use (oneDNN on a CPU), so that a step has to be
written anew for it: its trace is read, and every operation translated. Keras computes with one
library in a process; where it was imported with another than TensorFlow, this rival says so.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import jax

from tdjax.comparison.hlo import Facts
from tdjax.comparison.measuring.program import CompiledProgram
from tdjax.comparison.measuring.translating import translated
from tdjax.comparison.peers import StepOverTime, TensorFlowPeer
from tdjax.comparison.subjects.subject import Subject


class TensorFlowBuilding:
    """A program of TensorFlow's in the making; built where it is started, as others are.

    Args:
        subject: what runs.
        strategy: how: the peer.
        arguments: arrays and cotangents.
        mode: "forward" or "grad".
    """

    def __init__(
        self, subject: Subject, strategy: TensorFlowPeer, arguments: Sequence[Any], mode: str
    ) -> None:
        start = time.perf_counter()
        arrays, cotangents = arguments
        step = _step_of(subject, strategy, arrays)
        tf, layers = _tensorflow()
        leaves, structure = jax.tree.flatten(tuple(step.given))
        places = {id(array): place for place, array in enumerate(arrays)}
        where = [places[id(leaf)] for leaf in leaves]
        (argument,) = step.mapped
        mapped = next(i for i, leaf in enumerate(leaves) if leaf is step.given[argument])

        def one(*leaves: Any) -> Any:
            return step.fun(*jax.tree.unflatten(structure, leaves))

        first = [leaf[:, 0] if i == mapped else leaf for i, leaf in enumerate(leaves)]
        traced = jax.make_jaxpr(one)(*first)
        if len(traced.out_avals) != 1:
            raise ValueError(f"{strategy} gives one array, this step {len(traced.out_avals)}.")

        def forward(tensors: Sequence[Any]) -> list[Any]:
            given = [tensors[place] for place in where]

            class KerasStep(layers.Layer):  # type: ignore[name-defined]
                def call(self, x: Any) -> Any:
                    values = [*given[:mapped], x, *given[mapped + 1 :]]
                    return translated(tf, traced.jaxpr, traced.consts, values)[0]

            return [layers.TimeDistributed(KerasStep())(given[mapped])]

        def run(tensors: list[Any], cotangents: list[Any]) -> list[Any]:
            if mode == "forward":
                return forward(tensors)
            chosen = [tensors[place] for place in subject.differentiated]
            with tf.GradientTape() as tape:
                tape.watch(chosen)
                outputs = forward(tensors)
            found = tape.gradient(outputs, chosen, output_gradients=cotangents)
            return [*outputs, *map(tf.convert_to_tensor, found)]

        compiled = tf.function(run, autograph=False)

        def executable(*arguments: list[Any]) -> Any:
            from_dlpack = tf.experimental.dlpack.from_dlpack  # where the array lies
            tensors = [[from_dlpack(array.__dlpack__()) for array in part] for part in arguments]
            return compiled(*tensors)

        executable(arrays, cotangents)
        self.operations, self.text = 0, str(strategy)
        self._program = CompiledProgram(
            executable, Facts(), 0.0, 0.0, time.perf_counter() - start, None
        )

    def start(self, compiler: Executor, same: object = None) -> None:
        """Do nothing: TensorFlow builds a program when it is first called."""

    def finish(self) -> CompiledProgram:
        """Return the program."""
        return self._program


def _tensorflow() -> tuple[Any, Any]:
    """Return TensorFlow and Keras' layers on it."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    if (backend := keras.backend.backend()) != "tensorflow":
        raise ValueError(
            f"Keras computes with {backend} in this process, and it can only be one library: run "
            f"this comparison where keras is not imported before, or KERAS_BACKEND is tensorflow."
        )
    import tensorflow

    return tensorflow, keras.layers


def _step_of(subject: Subject, strategy: TensorFlowPeer, arrays: Sequence[Any]) -> StepOverTime:
    """Return the step that the peer was given."""
    try:
        subject.call(strategy, arrays)
    except StepOverTime as found:
        over_time = [found.given[place] for place in found.mapped]
        if len(over_time) != 1 or over_time[0] is not jax.tree.leaves(over_time)[0]:
            raise ValueError(f"{strategy} takes one array over time, this step several.") from None
        return found
    raise ValueError(f"{strategy} is compared on functions; this is a module.")
