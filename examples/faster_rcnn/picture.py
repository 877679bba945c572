"""The photograph with its regions of interest and what the head calls them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faster_rcnn.detections import Detection
from numpy.typing import NDArray

from tdjax.workloads.faster_rcnn.photo import draw_box, label_box, show_image
from tdjax.workloads.faster_rcnn.proposals import Boxes

_CAPTION = (
    "The convolutions are random (no pretrained weights), normalized on this photograph; the two "
    "Dense layers were taught on hand-made boxes of it.\n"
    "It shows the pipeline at work, not how well a detector sees."
)


def draw(
    path: str | Path,
    photo: NDArray[np.float32],
    rois: Boxes,
    scores: NDArray[np.float32],
    detections: Sequence[Detection],
) -> None:
    """Save a picture: the regions by their edge score, and the classes that the head gave them.

    Args:
        path: where; the ending names the format.
        photo: RGB in [0, 1], `(height, width, 3)`.
        rois: `(num_rois, 4)`: x, y, width, height in pixels, best first.
        scores: `(num_rois,)`, relative to the best.
        detections: what `detect` returns.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14.4, 9.4), dpi=110, facecolor="white")
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.015, right=0.985, top=0.925, bottom=0.075, wspace=0.025)
    _show_regions(left, photo, rois, scores)
    _show_detections(right, photo, rois, detections)
    figure.text(0.5, 0.033, _CAPTION, ha="center", va="center", fontsize=10, color="#57606a")
    figure.savefig(path)


def _show_regions(axes: Any, photo: NDArray, rois: Boxes, scores: NDArray) -> None:
    """Draw the regions with their numbers, colored by their edge score."""
    import matplotlib

    show_image(axes, photo, f"{len(rois)} regions of interest, brighter where edges fill the box")
    colors = matplotlib.colormaps["plasma"](0.25 + 0.7 * np.sqrt(np.clip(scores, 0, 1)))
    placed: list[tuple[float, ...]] = []
    # The best last, on top; their labels first, in the best places.
    for order, i in enumerate(reversed(range(len(rois)))):
        draw_box(axes, rois[i], colors[i], linewidth=1.9, zorder=2 + order / 100)
    for i in range(len(rois)):
        label_box(axes, str(i), rois[i], colors[i], placed, photo.shape)


def _show_detections(axes: Any, photo: NDArray, rois: Boxes, found: Sequence[Detection]) -> None:
    gray = photo.mean(-1, keepdims=True)
    title = f"{len(found)} named by the head and moved by its offsets; dotted: not named"
    show_image(axes, 0.85 * (0.55 * photo + 0.45 * gray), title)
    for i in set(range(len(rois))) - {d.roi for d in found}:
        draw_box(axes, rois[i], "white", linewidth=0.8, linestyle=(0, (1, 2)), alpha=0.55)
    colors = _class_colors(found)
    for detection in found:
        draw_box(axes, detection.box, colors[detection.name], linewidth=2.2, zorder=3)
    placed: list[tuple[float, ...]] = []
    for detection in found:
        text = f"{detection.name} {detection.probability:.0%}"
        label_box(axes, text, detection.box, colors[detection.name], placed, photo.shape)


def _class_colors(found: Sequence[Detection]) -> dict[str, Any]:
    """Return a hue for each class, evenly spaced."""
    from matplotlib.colors import hsv_to_rgb

    names = sorted({detection.name for detection in found})
    return {name: hsv_to_rgb((i / len(names), 0.55, 1.0)) for i, name in enumerate(names)}
