"""Faster R-CNN's RoI head on a photograph, distributed over the regions as in keras-frcnn.

    python examples/faster_rcnn_head.py --out DIR [--num-rois N] [--copies N]

saves DIR/rois.png. The convolutions are ResNet-50's in shape and random in value: there are no
pretrained weights here. The two Dense layers learn the names in the picture, in seconds, from
hand-made boxes of the same photograph. `examples/faster_rcnn` has the boxes, training and drawing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
from faster_rcnn.detections import detect
from faster_rcnn.parts import BACKGROUND, match
from faster_rcnn.picture import draw
from faster_rcnn.training import RoIFeatures, sample_boxes, train_dense_heads
from flax import linen as nn

import tdjax
from tdjax.comparison.system.extras import leave_out_absent
from tdjax.linen import TimeDistributed
from tdjax.workloads.faster_rcnn.head import AveragePool, DenseSoftmax, Flatten, RoIHead
from tdjax.workloads.faster_rcnn.photo import load_photo
from tdjax.workloads.faster_rcnn.proposals import propose
from tdjax.workloads.faster_rcnn.resnet import Backbone, Bottleneck, calibrated
from tdjax.workloads.faster_rcnn.roi_pooling import pool_roi

STRIDE = 16


class Head(nn.Module):
    """Keras' layers in Keras' order; the variables are those of one region's `RoIHead`."""

    classes: int = 21

    @nn.compact
    def __call__(self, x):  # (1, num_rois, 14, 14, 1024)
        zeros = nn.initializers.zeros_init()
        x = TimeDistributed(Bottleneck(512, strides=2, project=True, name="res5a"))(x)
        x = TimeDistributed(Bottleneck(512, name="res5b"))(x)
        x = TimeDistributed(Bottleneck(512, name="res5c"))(x)  # (1, num_rois, 7, 7, 2048)
        x = TimeDistributed(AveragePool(7))(x)
        x = TimeDistributed(Flatten())(x)  # (1, num_rois, 2048)
        offsets = nn.Dense(4 * (self.classes - 1), kernel_init=zeros, name="dense_regress")
        classes = TimeDistributed(DenseSoftmax(self.classes, name="dense_class"))(x)
        return classes, TimeDistributed(offsets)(x)  # (1, num_rois, 21), (1, num_rois, 80)


@jax.jit
def pool(feature_map, boxes):
    """Return regions, boxes distributed and the feature map shared: (1, num_rois, 14, 14, 1024)."""
    pool_rois = tdjax.time_distributed(pool_roi, in_axes=(None, 1))
    return pool_rois(feature_map, jnp.asarray(boxes)[None] / STRIDE)


@jax.jit
def features(variables, pooled):
    """Return stage 5 of many regions, a few at a time: blocks that fit the caches are faster."""
    distributed = tdjax.time_distributed(
        RoIFeatures().apply, in_axes=(None, 1), strategy=tdjax.Fold(chunk_size=16)
    )
    return distributed(variables, pooled)


def teach(variables, feature_map, height, width, copies):
    """Return variables whose two Dense layers know the parts of the photograph."""
    boxes = sample_boxes(height, width, around=copies, elsewhere=20 * copies)
    labels, targets = match(boxes, height, width)
    seen = features(variables, pool(feature_map, boxes))[0]
    params, losses = train_dense_heads(variables["params"], seen, labels, targets)
    print(f"taught on {len(boxes)} boxes: loss {losses[0]:.2f} -> {losses[-1]:.2f}")
    return {**variables, "params": params}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for rois.png")
    parser.add_argument("--num-rois", type=int, default=32, help="regions of interest (32)")
    parser.add_argument("--copies", type=int, default=4, help="of each hand-made box, taught (4)")
    options = parser.parse_args()
    leave_out_absent()
    if options.copies < 0:
        parser.error(f"--copies: got {options.copies}, needed 0 or more")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        photo = load_photo()
        rois, scores = propose(photo, options.num_rois)
    except (OSError, ValueError, ImportError) as error:
        parser.error(str(error))
    height, width, _ = photo.shape

    _, feature_map = calibrated(Backbone(), 0, jnp.asarray(photo)[None])
    pooled = pool(feature_map, rois)
    variables, _ = calibrated(RoIHead(), 1, pooled[0])
    variables = teach(variables, feature_map, height, width, options.copies)
    classes, offsets = jax.jit(Head().apply)(variables, pooled)
    found = detect(rois, classes, offsets)
    draw(options.out / "rois.png", photo, rois, scores, found)

    for name, value in {
        "photograph": photo, "feature map": feature_map, "pooled regions": pooled,
        "class probabilities": classes, "box offsets": offsets,
    }.items():  # fmt: skip
        print(f"{name:20} {value.shape}")
    truth, _ = match(rois, height, width)
    parts = truth != BACKGROUND
    right = int((classes[0].argmax(-1) == truth)[parts].sum())
    print(f"of {parts.sum()} regions that overlap a hand-made box, {right} have its name")
    print(f"saved {options.out / 'rois.png'}")


if __name__ == "__main__":
    main()
