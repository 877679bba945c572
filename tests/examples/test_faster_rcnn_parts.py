"""The example's own parts of a detector: what it learns from, its training, what it names."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tdjax.workloads.faster_rcnn.head import RoIHead
from tdjax.workloads.faster_rcnn.photo import load_photo
from tdjax.workloads.faster_rcnn.proposals import anchors, propose
from tdjax.workloads.faster_rcnn.resnet import calibrated

# As Python does for `python examples/faster_rcnn_head.py`.
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from faster_rcnn import parts
from faster_rcnn.detections import detect
from faster_rcnn.parts import apply_offsets, offsets_between
from faster_rcnn.picture import draw
from faster_rcnn.training import RoIFeatures, sample_boxes, train_dense_heads


def boxes(*rows):
    return np.array(rows, np.float32)


def test_offsets_go_there_and_back():
    start, goal = boxes((10, 20, 30, 40), (5, 5, 9, 9)), boxes((12, 15, 36, 30), (5, 5, 9, 9))
    offsets = offsets_between(start, goal)
    np.testing.assert_allclose(apply_offsets(start, offsets), goal, rtol=1e-5)
    np.testing.assert_array_equal(offsets[1], 0)


def test_there_are_twenty_classes_and_background():
    known, labels = parts.known_boxes(600, 512)
    assert len(parts.CLASSES) == 21 and parts.CLASSES[parts.BACKGROUND] == "background"
    assert set(labels.tolist()) == set(range(20))
    assert (known[:, 2:] > 0).all() and (known[:, :2] + known[:, 2:] <= (512, 600)).all()
    found, offsets = parts.match(known, 600, 512)
    assert (found == labels).all() and (offsets == 0).all()
    assert parts.match(anchors(600, 512), 600, 512)[0].max() == parts.BACKGROUND


@pytest.fixture(scope="module")
def small_head():
    pooled = jax.nn.relu(jax.random.normal(jax.random.key(0), (5, 14, 14, 32)))
    return calibrated(RoIHead(width=2), 1, pooled)[0], pooled


def test_frozen_statistics_keep_regions_apart(small_head):
    variables, pooled = small_head
    features = RoIFeatures(width=2)
    together = features.apply(variables, pooled)
    assert together.shape == (5, 64)
    for i in range(5):
        alone = features.apply(variables, pooled[i : i + 1])
        np.testing.assert_allclose(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_training_teaches_only_the_dense_layers(small_head):
    variables, pooled = small_head
    features = RoIFeatures(width=2).apply(variables, pooled)
    labels = np.array([0, 3, 7, 20, 20])
    targets = np.ones((5, 4), np.float32)
    params, losses = train_dense_heads(variables["params"], features, labels, targets, steps=600)
    assert losses.shape == (600,) and losses[-1] < 0.1 * losses[0]
    classes, offsets = RoIHead(width=2).apply({**variables, "params": params}, pooled)
    assert classes.argmax(-1).tolist() == labels.tolist()
    np.testing.assert_allclose(offsets.reshape(5, 20, 4)[1, 3], targets[1], atol=0.3)
    np.testing.assert_array_equal(offsets.reshape(5, 20, 4)[:, 11], 0)
    for name in ("res5a", "res5b", "res5c"):
        jax.tree.map(np.testing.assert_array_equal, params[name], variables["params"][name])


def test_boxes_to_learn_from_hold_every_part_and_background():
    labels, _ = parts.match(sample_boxes(703, 600), 703, 600)
    assert set(labels.tolist()) == set(range(21))


def test_detections_are_named_moved_and_distinct():
    rois = boxes((10, 10, 20, 20), (12, 10, 20, 20), (50, 50, 10, 10), (70, 70, 10, 10))
    classes = np.full((1, 4, 21), 0.001)
    classes[0, 0, 5], classes[0, 1, 5], classes[0, 2, parts.BACKGROUND] = 0.7, 0.9, 0.95
    classes[0, 3, 2] = 0.4
    offsets = np.zeros((1, 4, 80), np.float32)
    offsets[0, :2, 20] = 8.0
    (found,) = detect(rois, classes, offsets)
    assert (found.roi, found.name, found.probability) == (1, parts.CLASSES[5], 0.9)
    np.testing.assert_allclose(found.box, (32, 10, 20, 20), rtol=1e-6)


def test_picture_is_saved(tmp_path):
    photo = load_photo(128)
    rois, scores = propose(photo, 4)
    classes = np.eye(21)[None, [3, 3, 20, 7]]
    found = detect(rois, classes, np.zeros((1, 4, 80), np.float32))
    for name, some in (("some.png", found), ("none.png", [])):
        draw(tmp_path / name, photo, rois, scores, some)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "some.png").read_bytes() != (tmp_path / "none.png").read_bytes()
