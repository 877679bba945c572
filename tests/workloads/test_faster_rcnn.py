"""The detector's parts, each against a plain statement of what it does."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tdjax
from tdjax.workloads.faster_rcnn import parts
from tdjax.workloads.faster_rcnn.boxes import apply_offsets, offsets_between, overlaps, suppress
from tdjax.workloads.faster_rcnn.detections import detect
from tdjax.workloads.faster_rcnn.head import RoIFeatures, RoIHead
from tdjax.workloads.faster_rcnn.photo import load_photo
from tdjax.workloads.faster_rcnn.picture import draw
from tdjax.workloads.faster_rcnn.proposals import anchors, objectness, propose
from tdjax.workloads.faster_rcnn.resnet import Backbone, calibrated
from tdjax.workloads.faster_rcnn.roi_pooling import pool_roi
from tdjax.workloads.faster_rcnn.training import sample_boxes, train_dense_heads


def boxes(*rows):
    return np.array(rows, np.float32)


def test_overlaps():
    a = boxes((0, 0, 2, 2))
    b = boxes((0, 0, 2, 2), (1, 0, 2, 2), (5, 5, 1, 1), (0, 0, 1, 1))
    np.testing.assert_allclose(overlaps(a, b), [[1, 1 / 3, 0, 1 / 4]], rtol=1e-6)


def test_suppress_keeps_the_best_of_overlapping_boxes():
    b = boxes((0, 0, 4, 4), (1, 0, 4, 4), (20, 0, 4, 4), (40, 0, 4, 4))
    scores = np.array([0.5, 0.9, 0.1, 0.7], np.float32)
    assert suppress(b, scores, 0.5, 9).tolist() == [1, 3, 2]
    assert suppress(b, scores, 0.5, 2).tolist() == [1, 3]
    assert suppress(b, scores, 0.7, 9).tolist() == [1, 3, 0, 2]


def test_offsets_go_there_and_back():
    start, goal = boxes((10, 20, 30, 40), (5, 5, 9, 9)), boxes((12, 15, 36, 30), (5, 5, 9, 9))
    offsets = offsets_between(start, goal)
    np.testing.assert_allclose(apply_offsets(start, offsets), goal, rtol=1e-5)
    np.testing.assert_array_equal(offsets[1], 0)


@pytest.mark.parametrize("box", [(3, 2, 14, 14), (0, 1, 14, 14)])
def test_pooling_a_box_of_its_own_size_is_a_crop(box):
    feature_map = jax.random.normal(jax.random.key(0), (1, 18, 20, 3))
    x, y, w, h = box
    pooled = pool_roi(feature_map, jnp.array([box], jnp.float32))
    np.testing.assert_allclose(pooled, feature_map[:, y : y + h, x : x + w], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("box", [(2, 3, 5, 9), (1, 0, 17, 4), (7, 7, 1, 1)])
def test_pooling_is_crop_and_bilinear_resize(box):
    feature_map = jax.random.normal(jax.random.key(0), (1, 18, 20, 3))
    x, y, w, h = box
    crop = feature_map[:, y : y + h, x : x + w]
    expected = jax.image.resize(crop, (1, 14, 14, 3), "bilinear", antialias=False)
    pooled = pool_roi(feature_map, jnp.array([box], jnp.float32))
    np.testing.assert_allclose(pooled, expected, rtol=1e-4, atol=1e-5)


def test_each_image_is_pooled_in_its_own_box():
    feature_maps = jax.random.normal(jax.random.key(0), (2, 18, 20, 3))
    places = jnp.array([[2.0, 3, 5, 9], [1, 0, 17, 4]])
    both = pool_roi(feature_maps, places)
    for i in range(2):
        one = pool_roi(feature_maps[i : i + 1], places[i : i + 1])
        np.testing.assert_allclose(both[i : i + 1], one, rtol=1e-5, atol=1e-6)


def test_boxes_distribute_over_a_shared_feature_map():
    feature_map = jax.random.normal(jax.random.key(0), (1, 18, 20, 3))
    places = jnp.array([[[2.0, 3, 5, 9], [1, 0, 17, 4], [4, 4, 2, 2]]])
    pooled = tdjax.time_distributed(pool_roi, in_axes=(None, 1))(feature_map, places)
    expected = jnp.stack([pool_roi(feature_map, places[:, t]) for t in range(3)], axis=1)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)


def test_photo_keeps_its_proportions():
    assert load_photo(600).shape == (703, 600, 3)
    photo = load_photo(128)
    assert photo.dtype == np.float32 and 0 <= photo.min() < photo.max() <= 1


@pytest.mark.parametrize("missing", ["matplotlib", "PIL"])
def test_missing_extra_is_named(monkeypatch, missing):
    load_photo(128)  # imports both whole: half of matplotlib, left behind, would break other tests
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r'pip install "tdjax\[compare\]"'):
        load_photo()


def test_objectness_prefers_the_box_around_an_object():
    image = np.zeros((120, 120, 3), np.float32)
    image[40:70, 50:80] = 1.0
    around, off, across, large = boxes(
        (44, 34, 42, 42), (5, 5, 30, 30), (65, 34, 42, 42), (10, 10, 100, 100)
    )
    scores = objectness(image, np.stack([around, off, across, large]))
    assert scores.argmax() == 0 and scores[1] == 0 and scores[2] < scores[3] < scores[0]


def test_proposals_are_distinct_sorted_and_inside():
    photo = load_photo(300)
    rois, scores = propose(photo, 20)
    height, width, _ = photo.shape
    assert rois.shape == (20, 4) and scores[0] == 1 and (np.diff(scores) <= 0).all()
    assert (rois >= 0).all() and (rois[:, 0] + rois[:, 2] <= width).all()
    assert (rois[:, 1] + rois[:, 3] <= height).all()
    assert (overlaps(rois, rois) - np.eye(20) <= 0.2 + 1e-6).all()


@pytest.mark.parametrize("count, words", [(0, "at least 1"), (100_000, "distinct regions")])
def test_proposals_refuse_counts_that_cannot_be(count, words):
    with pytest.raises(ValueError, match=f"num_rois: got {count}.*{words}"):
        propose(load_photo(128), count)


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


def test_backbone_has_stride_16():
    image = jnp.asarray(load_photo(128))[None]
    variables, feature_map = calibrated(Backbone(4, (1, 1, 1)), 0, image)
    assert feature_map.shape == (1, 10, 8, 64)
    frozen = Backbone(4, (1, 1, 1)).apply(variables, image)
    np.testing.assert_allclose(frozen, feature_map, rtol=1e-3, atol=1e-3)


def test_frozen_statistics_keep_regions_apart(small_head):
    variables, pooled = small_head
    features = RoIFeatures(width=2)
    together = features.apply(variables, pooled)
    assert together.shape == (5, 64)
    for i in range(5):
        alone = features.apply(variables, pooled[i : i + 1])
        np.testing.assert_allclose(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_untrained_head_is_undecided(small_head):
    variables, pooled = small_head
    classes, offsets = RoIHead(width=2).apply(variables, pooled)
    assert offsets.shape == (5, 80)
    np.testing.assert_allclose(classes, np.full((5, 21), 1 / 21), rtol=1e-6)


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
