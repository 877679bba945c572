"""From the head's two outputs to named boxes."""

from __future__ import annotations

import dataclasses

import numpy as np
from faster_rcnn.parts import BACKGROUND, CLASSES, apply_offsets
from numpy.typing import ArrayLike

from tdjax.workloads.faster_rcnn.proposals import Boxes, suppress


@dataclasses.dataclass(frozen=True)
class Detection:
    """One region that the head has a name for.

    Attributes:
        roi: which region.
        name: its class.
        probability: of that class.
        box: x, y, width, height in pixels, after the class's offsets.
    """

    roi: int
    name: str
    probability: float
    box: tuple[float, float, float, float]


def detect(
    rois: Boxes, classes: ArrayLike, offsets: ArrayLike, threshold: float = 0.6
) -> list[Detection]:
    """Name the regions, move them by their class's offsets, keep the best of overlapping ones.

    Args:
        rois: `(num_rois, 4)`: x, y, width, height in pixels.
        classes: `(1, num_rois, 21)` probabilities.
        offsets: `(1, num_rois, 80)`: four for each class but the background.
        threshold: the least probability to be named.

    Returns:
        The detections, most probable first.
    """
    probabilities = np.asarray(classes)[0]
    labels, best = probabilities.argmax(-1), probabilities.max(-1)
    moves = np.asarray(offsets)[0].reshape(len(rois), BACKGROUND, 4)
    moved = apply_offsets(rois, moves[np.arange(len(rois)), labels % BACKGROUND])
    kept: list[int] = []
    named = (labels != BACKGROUND) & (best >= threshold)
    for label in np.unique(labels[named]):
        members = np.flatnonzero(named & (labels == label))
        chosen = suppress(moved[members], best[members], limit=0.3, count=len(members))
        kept.extend(members[chosen].tolist())
    kept.sort(key=lambda roi: -best[roi])
    return [
        Detection(roi, CLASSES[labels[roi]], float(best[roi]), tuple(moved[roi].tolist()))
        for roi in kept
    ]
