"""The programs that `tdjax compare` runs when it is given none, one file each.

Nothing here is built, and Flax is not imported, before a workload is asked for.
"""

from __future__ import annotations

import importlib

from tdjax.workloads._base import Case, Workload

__all__ = ["Case", "Workload", "get", "names"]

_NAMES = ("faster_rcnn_head", "dense", "mlp", "conv_net", "vit_block", "layer_norms")


def names() -> tuple[str, ...]:
    """The names that `get` knows, in the order in which they are compared.

    Example:
      >>> from tdjax import workloads
      >>> "dense" in workloads.names()
      True
    """
    return _NAMES


def get(name: str) -> Workload:
    """The workload of that name.

    Args:
      name: One of `names()`.

    Returns:
      A `Workload`; its arrays are made by `build(quick)`, not before.

    Raises:
      ValueError: There is no workload of that name.

    Example:
      >>> from tdjax import workloads
      >>> workloads.get("dense").build(True).time_size
      10
    """
    if name not in _NAMES:
        raise ValueError(
            f"workload: got {name!r}, but needed one of {', '.join(_NAMES)}. For a function of "
            'your own, write "package.module:function".'
        )
    workload = importlib.import_module(f"tdjax.workloads.{name}").WORKLOAD
    assert isinstance(workload, Workload)
    return workload
