"""Regions of interest: an anchor grid, an edge score, non-maximum suppression.

A trained region proposal network is not available; the score stands in for it. It follows the
observation of Edge Boxes (Zitnick and Dollar, 2014): an object's edges lie within its box, and few
of them cross the box's border.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# (n, 4): x, y, width, height, in any one unit of length.
Boxes = NDArray[np.float32]

_SHAPES = ((1.0, 1.0), (1.0, 1.5), (1.5, 1.0), (2.2, 0.9))
_SCALES = (0.07, 0.11, 0.17, 0.26, 0.4)
_BORDER = 0.12


def propose(image: NDArray[np.float32], count: int) -> tuple[Boxes, NDArray[np.float32]]:
    """Return the `count` best boxes of an image.

    Args:
        image: RGB in [0, 1], `(height, width, 3)`.
        count: how many regions.

    Returns:
        Boxes `(count, 4)` in pixels, best first; and their scores `(count,)`, relative to the best.

    Raises:
        ValueError: `count` is not positive, or the image has fewer distinct regions than that.
    """
    if count < 1:
        raise ValueError(f"num_rois: got {count}, but needed at least 1.")
    boxes = anchors(image.shape[0], image.shape[1])
    scores = objectness(image, boxes)
    kept = suppress(boxes, scores, limit=0.2, count=count)
    if len(kept) < count:
        raise ValueError(
            f"num_rois: got {count}, but an image of {image.shape[1]} x {image.shape[0]} pixels "
            f"has {len(kept)} distinct regions. Ask for at most that many."
        )
    return boxes[kept], scores[kept] / scores[kept[0]]


def anchors(height: int, width: int) -> Boxes:
    """Return boxes of five sizes and four shapes on a grid, with their borders in the image."""
    grids = []
    for scale in _SCALES:
        for across, down in _SHAPES:
            w, h = scale * min(height, width) * np.array([across, down])
            step = max(2.0, min(w, h) / 6)
            margin = _BORDER * min(w, h)
            xs = np.arange(margin, width - w - margin, step)
            ys = np.arange(margin, height - h - margin, step)
            x, y = np.meshgrid(xs, ys)
            sizes = np.full_like(x, w), np.full_like(x, h)
            grids.append(np.stack([x, y, *sizes], axis=-1).reshape(-1, 4))
    return np.concatenate(grids).astype(np.float32)


def objectness(image: NDArray[np.float32], boxes: Boxes) -> NDArray[np.float32]:
    """Return edge strength within each box less that on its border, by the perimeter: `(n,)`.

    Dividing by the perimeter to a power above one, as Edge Boxes does, takes back what large
    boxes gain by holding more edges.
    """
    table = np.pad(_edges(image).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    border = _BORDER * np.minimum(boxes[:, 2], boxes[:, 3])
    within = _sums(table, boxes, -border)
    around = _sums(table, boxes, border) - within
    perimeter = 2 * (boxes[:, 2] + boxes[:, 3])
    return ((within - around) / perimeter**1.4).astype(np.float32)


def _edges(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the steepest color channel's gradient, compressed so that faint edges count too."""
    down, across = np.gradient(image, axis=(0, 1))
    return np.hypot(down, across).max(-1) ** 0.7


def _sums(table: NDArray, boxes: Boxes, grow: NDArray) -> NDArray:
    """Return sums over boxes grown by `grow` pixels on each side, from a summed-area table."""
    rows, columns = table.shape[0] - 1, table.shape[1] - 1
    low, high = boxes[:, :2] - grow[:, None], boxes[:, :2] + boxes[:, 2:] + grow[:, None]
    x0, x1 = (np.clip(np.rint(e[:, 0]), 0, columns).astype(int) for e in (low, high))
    y0, y1 = (np.clip(np.rint(e[:, 1]), 0, rows).astype(int) for e in (low, high))
    return table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0]


def overlaps(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Return intersection over union of each box of `a` with each of `b`: `(len(a), len(b))`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=-1)
    areas = np.prod(a[:, 2:], axis=-1)[:, None] + np.prod(b[:, 2:], axis=-1)[None]
    return shared / (areas - shared)


def suppress(boxes: Boxes, scores: NDArray[np.float32], limit: float, count: int) -> NDArray:
    """Return indices of at most `count` boxes, best first: non-maximum suppression.

    Args:
        boxes: `(n, 4)`.
        scores: `(n,)`; larger is better.
        limit: a box that overlaps a better one by more than this is dropped.
        count: how many to keep.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size and len(kept) < count:
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[overlaps(boxes[best : best + 1], boxes[order])[0] <= limit]
    return np.array(kept, np.intp)
