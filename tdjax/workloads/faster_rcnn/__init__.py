"""What leads to the RoI head of a Faster R-CNN detector, and the head itself, after keras-frcnn.

No pretrained weights are used: convolutions are He-initialized from a fixed key and the frozen
batch statistics are those of the photograph itself.

    photo         a real photograph, as an array, and regions drawn on it
    resnet        bottlenecks, the feature map at stride 16, frozen batch statistics
    proposals     boxes, their overlaps, and the regions of interest
    roi_pooling   one region of the feature map, resized to 14x14
    head          what Keras distributes over the regions

`examples/faster_rcnn` teaches the head and draws what it says.
"""
