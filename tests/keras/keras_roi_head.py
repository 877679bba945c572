"""The head of Faster R-CNN as keras-frcnn writes it: TimeDistributed around every layer."""

import keras
from copying import batch_norm, kernel_alone, kernel_and_bias, nest
from keras import layers
from keras.layers import TimeDistributed
from keras_models import redrawn


def roi_head(num_rois, width, classes):
    """Map `(batch, num_rois, 14, 14, 16 * width)` to class probabilities and box offsets."""
    inputs = keras.Input((num_rois, 14, 14, 16 * width))
    x = _bottleneck(inputs, 8 * width, "res5a", strides=2, project=True)
    x = _bottleneck(x, 8 * width, "res5b")
    x = _bottleneck(x, 8 * width, "res5c")
    x = TimeDistributed(layers.AveragePooling2D(7))(x)
    x = TimeDistributed(layers.Flatten())(x)
    probabilities = layers.Dense(classes, activation="softmax", name="dense_class")
    offsets = layers.Dense(4 * (classes - 1), name="dense_regress")
    outputs = (TimeDistributed(probabilities)(x), TimeDistributed(offsets)(x))
    return redrawn(keras.Model(inputs, outputs))


def roi_head_variables(arrays):
    """Return the variables of `tdjax.workloads.faster_rcnn.head.RoIHead`."""
    blocks = {name: _bottleneck_variables(name, arrays) for name in ("res5a", "res5b", "res5c")}
    classes = nest(dense=kernel_and_bias(*arrays["dense_class"]))
    offsets = kernel_and_bias(*arrays["dense_regress"])
    return nest(**blocks, dense_class=classes, dense_regress=offsets)


def _bottleneck(x, features, block, strides=1, project=False):
    y = _conv_norm(x, features, 1, strides, f"{block}_branch2a")
    y = _conv_norm(layers.ReLU()(y), features, 3, 1, f"{block}_branch2b")
    y = _conv_norm(layers.ReLU()(y), 4 * features, 1, 1, f"{block}_branch2c")
    if project:
        x = _conv_norm(x, 4 * features, 1, strides, f"{block}_branch1")
    return layers.ReLU()(layers.Add()([y, x]))


def _conv_norm(x, features, size, strides, name):
    conv = layers.Conv2D(features, size, strides, padding="same", use_bias=False, name=name)
    return TimeDistributed(layers.BatchNormalization(name=f"{name}_norm"))(TimeDistributed(conv)(x))


def _bottleneck_variables(block, arrays):
    names = [name for name in arrays if name.startswith(block) and not name.endswith("_norm")]
    branches = {}
    for name in names:
        conv, norm = kernel_alone(*arrays[name]), batch_norm(*arrays[f"{name}_norm"])
        branches[name.removeprefix(f"{block}_")] = nest(Conv_0=conv, BatchNorm_0=norm)
    return nest(**branches)
