"""The photograph that matplotlib ships: Rear Admiral Grace Hopper, 512 x 600 pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_photo", "require_matplotlib"]


def require_matplotlib(purpose: str) -> None:
    """Raises an ImportError that says what to install, where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{purpose}: got no {error.name}, but needed matplotlib and Pillow. Install them with "
            'pip install "tdjax[compare]"'
        ) from error


def load_photo(short_side: int = 600) -> NDArray[np.float32]:
    """The photograph, resized as keras-frcnn does.

    Args:
      short_side: The length of the shorter side in pixels.

    Returns:
      RGB in [0, 1], shape `(height, width, 3)`; `(703, 600, 3)` by default.

    Raises:
      ImportError: matplotlib or Pillow is not installed.

    Example:
      >>> load_photo(128).shape
      (150, 128, 3)
    """
    require_matplotlib("the photograph of faster_rcnn_head")
    from matplotlib import cbook
    from PIL import Image

    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        scale = short_side / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        resized = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32) / 255.0
