"""The photograph with its regions of interest and what the head calls them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tdjax.workloads.faster_rcnn.boxes import Boxes, overlaps
from tdjax.workloads.faster_rcnn.detections import Detection
from tdjax.workloads.faster_rcnn.photo import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw", "draw_regions"]

_INK = "#1b1f24"
_CAPTION = (
    "The convolutions are random (no pretrained weights), normalised on this photograph; the two "
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
    """Saves a picture: the regions by their edge score, and the classes that the head gave them.

    Args:
      path: Where; the ending names the format.
      photo: RGB in [0, 1], `(height, width, 3)`.
      rois: `(num_rois, 4)`: x, y, width, height in pixels, best first.
      scores: `(num_rois,)`, relative to the best.
      detections: What `detect` returns.

    Raises:
      ImportError: matplotlib is not installed.
    """
    require_matplotlib("the picture of faster_rcnn_head")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14.4, 9.4), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.015, right=0.985, top=0.925, bottom=0.075, wspace=0.025)
    _regions(left, photo, rois, scores)
    _detections(right, photo, rois, detections)
    figure.text(0.5, 0.033, _CAPTION, ha="center", va="center", fontsize=10, color="#57606a")
    figure.savefig(path)


def draw_regions(
    path: str | Path, photo: NDArray[np.float32], rois: Boxes, scores: NDArray[np.float32]
) -> None:
    """Saves a picture of the regions alone, by their edge score.

    Args:
      path: Where; the ending names the format.
      photo: RGB in [0, 1], `(height, width, 3)`.
      rois: `(num_rois, 4)`: x, y, width, height in pixels, best first.
      scores: `(num_rois,)`, relative to the best.

    Raises:
      ImportError: matplotlib is not installed.
    """
    require_matplotlib("the picture of faster_rcnn_head")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 8.8), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.02, right=0.98, top=0.94, bottom=0.02)
    _regions(axes, photo, rois, scores)
    figure.savefig(path)


def _regions(axes: Axes, photo: NDArray, rois: Boxes, scores: NDArray) -> None:
    import matplotlib

    _show(axes, photo, f"{len(rois)} regions of interest, brighter where edges fill the box")
    colours = matplotlib.colormaps["plasma"](0.25 + 0.7 * np.sqrt(np.clip(scores, 0, 1)))
    placed: list[tuple[float, ...]] = []
    # The best last, on top; their labels first, in the best places.
    for order, i in enumerate(reversed(range(len(rois)))):
        _box(axes, rois[i], colours[i], width=1.9, order=2 + order / 100)
    for i in range(len(rois)):
        _label(axes, str(i), rois[i], colours[i], placed, photo.shape)


def _detections(axes: Axes, photo: NDArray, rois: Boxes, found: Sequence[Detection]) -> None:
    grey = photo.mean(-1, keepdims=True)
    title = f"{len(found)} named by the head and moved by its offsets; dotted: not named"
    _show(axes, 0.85 * (0.55 * photo + 0.45 * grey), title)
    for i in set(range(len(rois))) - {d.roi for d in found}:
        _box(axes, rois[i], "white", width=0.8, style=(0, (1, 2)), alpha=0.55)
    colours = _class_colours(found)
    for detection in found:
        _box(axes, detection.box, colours[detection.name], width=2.2, order=3)
    placed: list[tuple[float, ...]] = []
    for detection in found:
        text = f"{detection.name} {detection.probability:.0%}"
        _label(axes, text, detection.box, colours[detection.name], placed, photo.shape)


def _show(axes: Axes, image: NDArray, title: str) -> None:
    axes.imshow(image, interpolation="bilinear")
    axes.set_title(title, fontsize=13, color=_INK, pad=8)
    axes.set_xlim(0, image.shape[1])
    axes.set_ylim(image.shape[0], 0)
    axes.set_axis_off()


def _class_colours(found: Sequence[Detection]) -> dict[str, Any]:
    """A hue for each class, evenly spaced."""
    from matplotlib.colors import hsv_to_rgb

    names = sorted({detection.name for detection in found})
    return {name: hsv_to_rgb((i / len(names), 0.55, 1.0)) for i, name in enumerate(names)}


def _box(
    axes: Axes, box: Any, colour: Any, width: float, order: float = 2, style: Any = "-",
    alpha: float = 1.0,
) -> None:  # fmt: skip
    from matplotlib.patches import Rectangle

    x, y, w, h = box
    axes.add_patch(
        Rectangle(
            (x, y), w, h, fill=False, edgecolor=colour, linewidth=width, linestyle=style,
            alpha=alpha, zorder=order,
        )
    )  # fmt: skip


def _label(
    axes: Axes, text: str, box: Any, colour: Any, placed: list[tuple[float, ...]], shape: Any
) -> None:
    """Writes `text` on a chip at the corner of `box` that other chips leave the most free."""
    x, y, w, h = box
    width, height = 7.3 * len(text) + 8, 17.0
    tops, lefts = (y - height, y + h, y, y + h - height), (x, x + w - width)
    limit = np.array([shape[1] - width, shape[0] - height])
    spots = np.clip(np.array([(left, top) for top in tops for left in lefts]), 0, limit)
    chips = np.concatenate([spots, np.broadcast_to((width, height), spots.shape)], axis=-1)
    taken = overlaps(chips, np.array(placed)).sum(-1) if placed else np.zeros(len(chips))
    left, top = spots[np.argmin(taken)]
    placed.append((left, top, width, height))
    axes.text(
        left + 4, top + height / 2, text, fontsize=8.5, color=_INK, va="center", zorder=5,
        fontweight="bold",
        bbox={"boxstyle": "square,pad=0.18", "facecolor": colour, "edgecolor": "none"},
    )  # fmt: skip
