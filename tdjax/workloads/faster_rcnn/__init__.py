"""The parts of a Faster R-CNN detector around its RoI head, after keras-frcnn.

No pretrained weights are used: convolutions are He-initialised from a fixed key and the frozen
batch statistics are those of the photograph itself. What a detector says about the photograph is
therefore only what its two Dense heads were taught on it.

    photo         a real photograph, as an array
    resnet        bottlenecks, the feature map at stride 16, frozen batch statistics
    boxes         overlaps, suppression, offsets
    proposals     the regions of interest
    roi_pooling   one region of the feature map, resized to 14x14
    head          what Keras distributes over the regions
    parts         hand-made boxes of what is to be seen
    training      the two Dense heads, by gradient descent
    picture       the regions and their classes, drawn
"""
