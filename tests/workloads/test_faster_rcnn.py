"""The detector's parts, each against a plain statement of what it does."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import tdjax
from tdjax import workloads
from tdjax.workloads.faster_rcnn.head import RoIHead
from tdjax.workloads.faster_rcnn.photo import load_photo
from tdjax.workloads.faster_rcnn.proposals import objectness, overlaps, propose, suppress
from tdjax.workloads.faster_rcnn.resnet import Backbone, calibrated
from tdjax.workloads.faster_rcnn.roi_pooling import pool_roi


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


def test_untrained_head_is_undecided(small_head):
    variables, pooled = small_head
    classes, offsets = RoIHead(width=2).apply(variables, pooled)
    assert offsets.shape == (5, 80)
    np.testing.assert_allclose(classes, np.full((5, 21), 1 / 21), rtol=1e-6)


def test_what_is_built_within_a_trace_is_not_kept():
    jax.eval_shape(lambda: workloads.get("faster_rcnn_head").build(True).time_size)
    assert not isinstance(workloads.get("faster_rcnn_head").build(True).args[1], jax.core.Tracer)


def test_regions_are_drawn_with_the_classes_of_the_head(tmp_path):
    figure = Figure(figsize=(4, 5), dpi=110)
    said = workloads.get("faster_rcnn_head").picture(figure.subplots(), quick=True)
    assert "random" in said
    (axes,) = figure.axes
    assert len(axes.images) == 1 and len(axes.patches) == 3
    assert [text.get_text().split()[0] for text in axes.texts] == ["class"] * 3
    case = workloads.get("faster_rcnn_head").build(quick=True)
    classes, _ = jax.jit(jax.vmap(case.fun, (None, 1), 1))(*case.args)
    found = [int(text.get_text().split()[1]) for text in axes.texts]
    assert found == np.asarray(classes)[0].argmax(-1).tolist()
