"""The programs that `tdjax compare` runs when it is given none, one file each.

Nothing here is built, and Flax is not imported, before a workload is asked for.
"""

from __future__ import annotations

from tdjax.workloads import (
    conv_net,
    dense,
    faster_rcnn_head,
    further,
    layer_norms,
    mlp,
    vit_block,
)
from tdjax.workloads.workload import Case, Workload

__all__ = ["Case", "Workload", "get", "names", "register", "tabled", "unregister", "unseen"]

_REGISTERED: dict[str, Workload] = {}


def register(workload: Workload) -> None:
    """Make a workload known by its name, to the command line and to what speeds are fitted to.

    Raises:
        ValueError: there is another one of that name.
    """
    if workload.name in _REGISTERED:
        raise ValueError(f"workload: {workload.name!r} is registered already; choose another name.")
    _REGISTERED[workload.name] = workload


def unregister(name: str) -> None:
    """Forget a workload."""
    del _REGISTERED[name]


def names() -> tuple[str, ...]:
    """Return the names of the suite, in the order in which it is compared.

    Example:
        >>> from tdjax import workloads
        >>> "dense" in workloads.names()
        True
    """
    return tuple(name for name, each in _REGISTERED.items() if not each.unseen and not each.tabled)


def unseen() -> tuple[str, ...]:
    """Return the names of the same programs on other shapes, which speeds are never fitted to.

    How well `auto` does on them tells how well it does on what it does not know.

    Example:
        >>> from tdjax import workloads
        >>> set(workloads.unseen()) & set(workloads.names())
        set()
    """
    return tuple(name for name, each in _REGISTERED.items() if each.unseen)


def tabled() -> tuple[str, ...]:
    """Return the names of those on which tables record what `auto` could choose.

    Example:
        >>> from tdjax import workloads
        >>> set(workloads.names()) < set(workloads.tabled())
        True
    """
    return (*names(), *(name for name, each in _REGISTERED.items() if each.tabled))


def get(name: str) -> Workload:
    """Return the workload of that name.

    Args:
        name: one of `names()`, `unseen()` or `tabled()`.

    Returns:
        A `Workload`; its arrays are made by `build(quick)`, not before.

    Raises:
        ValueError: there is no workload of that name.

    Example:
        >>> from tdjax import workloads
        >>> workloads.get("dense").build(True).time_size
        10
    """
    if name not in _REGISTERED:
        raise ValueError(
            f"workload: got {name!r}, but needed one of {', '.join(_REGISTERED)}. For a "
            'function of your own, write "package.module:function".'
        )
    return _REGISTERED[name]


register(faster_rcnn_head.WORKLOAD)
register(dense.WORKLOAD)
register(mlp.WORKLOAD)
register(conv_net.WORKLOAD)
register(vit_block.WORKLOAD)
register(layer_norms.WORKLOAD)
register(dense.WIDE)
register(mlp.WIDE)
register(mlp.NARROW)
register(conv_net.WIDE)
register(conv_net.LARGE)
register(vit_block.LARGE)
register(layer_norms.LONG)
for each in further.FURTHER:
    register(each)
