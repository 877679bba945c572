"""The photograph that matplotlib ships, Rear Admiral Grace Hopper, and regions drawn on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tdjax.workloads.faster_rcnn.proposals import Boxes, overlaps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK = "#1b1f24"
_COLORS = "#ffd166", "#7bdff2", "#f7aef8", "#b8f27c", "#ff9b85", "#c8c6ff", "#f2f2f2", "#5ee6b8"


def load_photo(short_side: int = 600) -> NDArray[np.float32]:
    """Return the photograph, resized as keras-frcnn does.

    Args:
        short_side: the length of the shorter side in pixels.

    Returns:
        RGB in [0, 1], shape `(height, width, 3)`; `(703, 600, 3)` by default.

    Raises:
        ImportError: matplotlib or Pillow is not installed.

    Example:
        >>> load_photo(128).shape
        (150, 128, 3)
    """
    try:
        from matplotlib import cbook
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f"the photograph of faster_rcnn_head: got no {error.name}, but needed matplotlib and "
            'Pillow. Install them with pip install "tdjax[compare]"'
        ) from error

    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        scale = short_side / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        resized = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32) / 255.0


def show_answers(axes: Axes, photo: NDArray, rois: Boxes, classes: Any) -> None:
    """Draw regions on the photograph, each with the class that a head finds most likely.

    Args:
        axes: where.
        photo: RGB in [0, 1], `(height, width, 3)`.
        rois: `(num_rois, 4)`: x, y, width, height in pixels.
        classes: their probabilities `(num_rois, num_classes)`.
    """
    show_image(axes, photo)
    found = np.asarray(classes).argmax(-1)
    colors = dict(zip(dict.fromkeys(found.tolist()), _COLORS * len(rois), strict=False))
    for box, name in zip(rois, found.tolist(), strict=True):
        draw_box(axes, box, colors[name], linewidth=2.4)
    # What a letter takes of the image depends on how large it is drawn.
    scale = photo.shape[1] / axes.get_window_extent().width * axes.figure.dpi / 72
    placed: list[tuple[float, ...]] = []
    for box, name in zip(rois, found.tolist(), strict=True):
        label_box(axes, f"class {name}", box, colors[name], placed, photo.shape, 12, scale)


def show_image(axes: Axes, image: NDArray, title: str = "") -> None:
    """Draw an image with a title, without axes."""
    axes.imshow(image, interpolation="bilinear")
    axes.set_title(title, fontsize=13, color=_INK, pad=8)
    axes.set_xlim(0, image.shape[1])
    axes.set_ylim(image.shape[0], 0)
    axes.set_axis_off()


def draw_box(axes: Axes, box: Any, color: Any, **line: Any) -> None:
    """Draw a box `(x, y, width, height)`, with a line of these properties."""
    from matplotlib.patches import Rectangle

    x, y, w, h = box
    axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=color, **line))


def label_box(
    axes: Axes,
    text: str,
    box: Any,
    color: Any,
    placed: list[tuple[float, ...]],
    shape: Any,
    size: float = 8.5,
    scale: float = 1.25,
) -> None:
    """Write `text` at the corner of `box` that the labels `placed` before leave the most free.

    Args:
        axes, text, box, color: what is written, where.
        placed: the labels before it; gets this one.
        shape: of the image.
        size: of the letters, in points.
        scale: the image's pixels in a point.
    """
    x, y, w, h = box
    width, height = (0.69 * len(text) + 0.75) * size * scale, 1.6 * size * scale
    tops, lefts = (y - height, y + h, y, y + h - height), (x, x + w - width)
    limit = np.array([shape[1] - width, shape[0] - height])
    spots = np.clip(np.array([(left, top) for top in tops for left in lefts]), 0, limit)
    chips = np.concatenate([spots, np.broadcast_to((width, height), spots.shape)], axis=-1)
    taken = overlaps(chips, np.array(placed)).sum(-1) if placed else np.zeros(len(chips))
    left, top = spots[np.argmin(taken)]
    placed.append((left, top, width, height))
    axes.text(
        left + 0.38 * size * scale, top + height / 2, text, fontsize=size, color=_INK,
        va="center", zorder=5, fontweight="bold",
        bbox={"boxstyle": "square,pad=0.18", "facecolor": color, "edgecolor": "none"},
    )  # fmt: skip
