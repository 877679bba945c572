"""Layers in Keras, in Linen and in NNX, and how the arrays of one become those of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
from copying import (
    as_nnx,
    batch_norm,
    embedding,
    kernel_and_bias,
    lstm_cell,
    nest,
    nnx_lstm_cell,
)
from flax import nnx
from keras import Sequential, layers
from keras_models import build
from keras_roi_head import roi_head, roi_head_variables

from tdjax.workloads.faster_rcnn.head import Flatten, RoIHead

BATCH, TIME = 3, 2
IMAGES = (TIME, 7, 6, 3)  # an odd and an even side: padding="same" with strides pads each its way


@dataclass(frozen=True)
class Case:
    """One layer.

    Attributes:
        keras: makes the model, with TimeDistributed in it.
        linen: the layer of one step.
        copied: the variables of `linen`, from the model's arrays by the names of their layers.
        nnx: makes the layer of one step in NNX; None: not tried.
        nnx_copied: its state.
    """

    keras: Callable[[], Any]
    linen: nn.Module
    copied: Callable[[dict[str, list]], dict]
    nnx: Callable[[nnx.Rngs], nnx.Module] | None = None
    nnx_copied: Callable[[dict[str, list]], dict] | None = None


def over_time(*each):
    return [layers.TimeDistributed(layer) for layer in each]


CASES = {
    "dense": Case(
        lambda: build((TIME, 5), *over_time(layers.Dense(4, name="dense"))),
        nn.Dense(4),
        lambda arrays: kernel_and_bias(*arrays["dense"]),
        lambda rngs: nnx.Linear(5, 4, rngs=rngs),
        lambda arrays: as_nnx(kernel_and_bias(*arrays["dense"])),
    ),
    "conv": Case(
        lambda: build(
            IMAGES, *over_time(layers.Conv2D(4, (3, 2), strides=2, padding="same", name="conv"))
        ),
        nn.Conv(4, (3, 2), strides=(2, 2), padding="SAME"),
        lambda arrays: kernel_and_bias(*arrays["conv"]),
    ),
    "conv and batch norm": Case(
        lambda: build(
            IMAGES,
            *over_time(layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm")),
        ),
        nn.Sequential(
            [
                nn.Conv(4, (3, 3), padding="VALID"),
                nn.BatchNorm(use_running_average=True, epsilon=1e-3),
            ]
        ),
        lambda arrays: nest(
            layers_0=kernel_and_bias(*arrays["conv"]), layers_1=batch_norm(*arrays["norm"])
        ),
        lambda rngs: nnx.Sequential(
            nnx.Conv(3, 4, (3, 3), padding="VALID", rngs=rngs),
            nnx.BatchNorm(4, use_running_average=True, epsilon=1e-3, rngs=rngs),
        ),
        lambda arrays: {
            "layers": {
                0: as_nnx(kernel_and_bias(*arrays["conv"])),
                1: as_nnx(batch_norm(*arrays["norm"])),
            }
        },
    ),
    "embedding": Case(
        lambda: build((TIME, 4), *over_time(layers.Embedding(9, 5, name="table")), dtype="int32"),
        nn.Embed(9, 5),
        lambda arrays: embedding(*arrays["table"]),
    ),
    "lstm": Case(
        lambda: build((TIME, 6, 5), *over_time(layers.LSTM(4, return_sequences=True))),
        nn.RNN(nn.OptimizedLSTMCell(4)),
        lambda arrays: nest(cell=lstm_cell(*arrays["lstm_cell"])),
        lambda rngs: nnx.RNN(nnx.OptimizedLSTMCell(5, 4, rngs=rngs)),
        lambda arrays: {"cell": nnx_lstm_cell(*arrays["lstm_cell"])},
    ),
    "flatten": Case(
        lambda: build(IMAGES, *over_time(layers.Flatten())),
        Flatten(),
        lambda arrays: {},
    ),
    "submodel": Case(
        lambda: build(
            IMAGES,
            *over_time(
                Sequential(
                    [
                        layers.Conv2D(4, 3, activation="relu", name="conv"),
                        layers.Flatten(),
                        layers.Dense(5, name="dense"),
                    ]
                )
            ),
        ),
        nn.Sequential([nn.Conv(4, (3, 3), padding="VALID"), nn.relu, Flatten(), nn.Dense(5)]),
        lambda arrays: nest(
            layers_0=kernel_and_bias(*arrays["conv"]), layers_3=kernel_and_bias(*arrays["dense"])
        ),
    ),
    "roi head": Case(
        lambda: roi_head(num_rois=TIME, width=1, classes=4),
        RoIHead(width=1, classes=4),
        roi_head_variables,
    ),
}
