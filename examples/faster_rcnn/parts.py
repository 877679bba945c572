"""Hand-made boxes of what the photograph shows, in twenty classes; the 21st is background.

Pascal VOC's twenty classes, for which keras-frcnn has its 21 outputs, would call all of this one
person; the parts of the picture make a better demonstration of as many outputs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tdjax.workloads.faster_rcnn.proposals import Boxes, overlaps

# Left, top, right and bottom in the pixels of the original, 512 x 600.
_PARTS: dict[str, list[tuple[int, int, int, int]]] = {
    "cap": [(147, 22, 372, 178)],
    "cap badge": [(224, 28, 292, 82)],
    "gold leaves": [(195, 70, 345, 102)],
    "face": [(180, 130, 352, 336)],
    "glasses": [(176, 166, 358, 232), (176, 166, 262, 232), (270, 166, 358, 232)],
    "nose": [(240, 186, 298, 254)],
    "mouth": [(222, 262, 306, 300)],
    "ear": [(152, 188, 194, 272), (342, 180, 378, 272)],
    "hair": [(158, 144, 200, 302), (330, 240, 366, 306)],
    "collar": [(194, 315, 332, 442)],
    "tie": [(213, 406, 302, 476)],
    "shirt": [(226, 443, 292, 528)],
    "jacket": [(14, 318, 512, 600)],
    "name plate": [(76, 482, 170, 519)],
    "ribbons": [(322, 486, 455, 528)],
    "button": [(230, 574, 261, 600)],
    "flag": [(0, 0, 200, 400)],
    "star": [
        (0, 50, 40, 104), (44, 52, 90, 116), (94, 68, 133, 126), (0, 146, 34, 202),
        (36, 157, 70, 205), (93, 175, 117, 211), (0, 247, 24, 301), (34, 264, 50, 305),
        (116, 0, 157, 32), (191, 0, 234, 44),
    ],
    "stripe": [(48, 265, 134, 376), (0, 385, 30, 592)],
    "cord": [(134, 0, 154, 350)],
}  # fmt: skip
_ORIGINAL = (512, 600)

CLASSES = (*_PARTS, "background")
BACKGROUND = len(_PARTS)

# keras-frcnn's scaling of the regression targets (its `classifier_regr_std`).
_SCALE = np.array([8.0, 8.0, 4.0, 4.0], np.float32)


def known_boxes(height: int, width: int) -> tuple[Boxes, NDArray[np.intp]]:
    """Return the boxes `(n, 4)` in pixels of an image of that size, and their classes `(n,)`."""
    corners = np.array([box for boxes in _PARTS.values() for box in boxes], np.float32)
    corners *= np.tile(np.array([width, height], np.float32) / _ORIGINAL, 2).astype(np.float32)
    labels = np.repeat(np.arange(BACKGROUND), [len(boxes) for boxes in _PARTS.values()])
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=-1), labels


def match(
    boxes: Boxes, height: int, width: int, threshold: float = 0.4
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return what each box should be called, and where it should move.

    Args:
        boxes: `(n, 4)` in pixels of an image of `height` x `width`.
        threshold: the overlap with an annotation above which a box is not background.

    Returns:
        Classes `(n,)`, and offsets `(n, 4)` to the annotation that a box overlaps most.
    """
    known, labels = known_boxes(height, width)
    shared = overlaps(boxes, known)
    nearest = shared.argmax(-1)
    found = np.where(shared.max(-1) >= threshold, labels[nearest], BACKGROUND)
    return found, offsets_between(boxes, known[nearest])


def offsets_between(boxes: Boxes, targets: Boxes) -> NDArray[np.float32]:
    """Return what takes each box to its target: the regression targets of Fast R-CNN, `(n, 4)`.

    Shifts of the center in units of the box's size, and logarithms of the sizes' ratios
    (https://arxiv.org/abs/1504.08083, section 2.3, and R-CNN's appendix C).
    """
    centers, goals = boxes[:, :2] + boxes[:, 2:] / 2, targets[:, :2] + targets[:, 2:] / 2
    shift = (goals - centers) / boxes[:, 2:]
    return _SCALE * np.concatenate([shift, np.log(targets[:, 2:] / boxes[:, 2:])], axis=-1)


def apply_offsets(boxes: Boxes, offsets: NDArray[np.float32]) -> Boxes:
    """Return the boxes that `offsets` `(n, 4)` take `boxes` `(n, 4)` to."""
    shift, log_ratio = np.split(offsets / _SCALE, 2, axis=-1)
    centers = boxes[:, :2] + boxes[:, 2:] / 2 + shift * boxes[:, 2:]
    sizes = boxes[:, 2:] * np.exp(np.clip(log_ratio, -1.0, 1.0))
    return np.concatenate([centers - sizes / 2, sizes], axis=-1)
