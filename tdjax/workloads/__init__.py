"""The programs that `tdjax compare` runs when it is given none, one file each.

Nothing here is built, and Flax is not imported, before a workload is asked for.
"""

from __future__ import annotations

import importlib

from tdjax.workloads._base import Case, Workload

__all__ = ["Case", "Workload", "get", "names", "unseen"]

_NAMES = ("faster_rcnn_head", "dense", "mlp", "conv_net", "vit_block", "layer_norms")
_UNSEEN = {
    "dense_wide": ("dense", "WIDE"),
    "mlp_wide": ("mlp", "WIDE"),
    "mlp_narrow": ("mlp", "NARROW"),
    "conv_net_wide": ("conv_net", "WIDE"),
    "conv_net_large": ("conv_net", "LARGE"),
    "vit_block_large": ("vit_block", "LARGE"),
    "layer_norms_long": ("layer_norms", "LONG"),
}


def names() -> tuple[str, ...]:
    """The names that `get` knows, in the order in which they are compared.

    Example:
      >>> from tdjax import workloads
      >>> "dense" in workloads.names()
      True
    """
    return _NAMES


def unseen() -> tuple[str, ...]:
    """The names of the same programs on other shapes, which speeds are never fitted to.

    How well `auto` does on them tells how well it does on what it does not know.

    Example:
      >>> from tdjax import workloads
      >>> set(workloads.unseen()) & set(workloads.names())
      set()
    """
    return tuple(_UNSEEN)


def get(name: str) -> Workload:
    """The workload of that name.

    Args:
      name: One of `names()` or `unseen()`.

    Returns:
      A `Workload`; its arrays are made by `build(quick)`, not before.

    Raises:
      ValueError: There is no workload of that name.

    Example:
      >>> from tdjax import workloads
      >>> workloads.get("dense").build(True).time_size
      10
    """
    if name not in (*_NAMES, *_UNSEEN):
        raise ValueError(
            f"workload: got {name!r}, but needed one of {', '.join((*_NAMES, *_UNSEEN))}. For a "
            'function of your own, write "package.module:function".'
        )
    module, constant = _UNSEEN.get(name, (name, "WORKLOAD"))
    workload = getattr(importlib.import_module(f"tdjax.workloads.{module}"), constant)
    assert isinstance(workload, Workload)
    return workload
