"""The RoI head of Faster R-CNN, distributed over the regions of a real photograph."""

from __future__ import annotations

from typing import Any

from tdjax.workloads.workload import Case, Workload


def build(quick: bool) -> Case:
    """Return 8 regions of 14 x 14 x 1024 at ResNet-50's widths; quick: 3, at 1/16 of the widths.

    The feature map and the pooling that lead to the regions are run here, once: the step function
    is the head alone, which is where the time goes. Its Dense kernels are random here: from zero,
    where training starts, all answers would be alike, right or wrong.
    """
    import jax

    head, params, statistics, pooled = _made(quick)

    def faster_rcnn_head(params: Any, x: jax.Array) -> Any:
        return head.apply({"params": params, "batch_stats": statistics}, x)

    args = params, pooled
    return Case(faster_rcnn_head, args, in_axes=(None, 1), time_size=_sizes(quick)[0])


def picture(axes: Any, quick: bool) -> str:
    """Draw the photograph, and the regions with the classes that the head gives them."""
    import jax

    from tdjax.workloads.faster_rcnn.photo import load_photo, show_answers
    from tdjax.workloads.faster_rcnn.proposals import propose

    num_rois, side = _sizes(quick)
    photo = load_photo(side)
    head, params, statistics, pooled = _made(quick)
    variables = {"params": params, "batch_stats": statistics}
    classes, _ = jax.jit(jax.vmap(head.apply, (None, 1), 1))(variables, pooled)
    show_answers(axes, photo, propose(photo, num_rois)[0], classes[0])
    return "The weights are random: classes are numbers, and mean nothing."


def _made(quick: bool) -> tuple[Any, ...]:
    """Return the head, its parameters and statistics, and the pooled regions.

    The last ones are kept, if they have values: within a trace they have none.
    """
    import jax

    if quick not in _last:
        made = _make(quick)
        if isinstance(made[-1], jax.core.Tracer):
            return made
        _last.clear()
        _last[quick] = made
    return _last[quick]


_last: dict[bool, tuple[Any, ...]] = {}


def _make(quick: bool) -> tuple[Any, ...]:
    import jax
    import jax.numpy as jnp

    from tdjax.transform import time_distributed
    from tdjax.workloads.faster_rcnn.head import RoIHead
    from tdjax.workloads.faster_rcnn.photo import load_photo
    from tdjax.workloads.faster_rcnn.proposals import propose
    from tdjax.workloads.faster_rcnn.resnet import Backbone, calibrated
    from tdjax.workloads.faster_rcnn.roi_pooling import pool_roi

    width, stages = (4, (1, 1, 1)) if quick else (64, (3, 4, 6))
    num_rois, side = _sizes(quick)
    photo = load_photo(side)
    _, feature_map = calibrated(Backbone(width, stages), 0, jnp.asarray(photo)[None])
    boxes = jnp.asarray(propose(photo, num_rois)[0])[None] / 16
    pooled = jax.jit(time_distributed(pool_roi, in_axes=(None, 1)))(feature_map, boxes)
    head = RoIHead(width)
    variables, _ = calibrated(head, 1, pooled[0])
    params, statistics = variables["params"], variables["batch_stats"]
    for i, name in enumerate(("dense_class", "dense_regress")):
        key = jax.random.key(i)
        params[name] = jax.tree.map(
            lambda p, k=key: 0.02 * jax.random.normal(k, p.shape), params[name]
        )
    return head, params, statistics, pooled


def _sizes(quick: bool) -> tuple[int, int]:
    """Return the number of regions, and the shorter side of the photograph in pixels."""
    return (3, 128) if quick else (8, 600)


WORKLOAD = Workload(
    name="faster_rcnn_head",
    title="Faster R-CNN head",
    description=(
        "ResNet-50's stage 5, two Dense heads on 8 regions of a photograph, (1, 8, 14, 14, 1024)."
    ),
    build=build,
    picture=picture,
)
