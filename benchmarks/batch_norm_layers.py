"""The BatchNorms of networks: their shapes, what follows them, and how often each occurs."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Operation(NamedTuple):
    """BatchNorm and what follows it."""

    title: str
    add: bool
    activation: Literal["none", "relu", "silu"]


OPERATIONS = {
    "batch_norm": Operation("batch_norm", False, "none"),
    "relu": Operation("+ relu", False, "relu"),
    "add_relu": Operation("+ add + relu", True, "relu"),
    "silu": Operation("+ silu", False, "silu"),
    "add": Operation("+ add", True, "none"),
}

FORMATS = {"contiguous": "NCHW", "channels_last": "NHWC"}

# The output of every BatchNorm at 224 x 224 pixels as (channels, height = width), and how many
# there are by the operation that they begin. Taken from torchvision's models: traced by torch.fx,
# shapes by its ShapeProp, operations by the users of each BatchNorm's node. Forward hooks on timm's
# models of the same names count the same shapes.
NETWORKS: dict[str, dict[tuple[int, int], dict[str, int]]] = {
    "resnet34": {
        (64, 112): {"relu": 1},
        (64, 56): {"relu": 3, "add_relu": 3},
        (128, 28): {"relu": 4, "add_relu": 4, "batch_norm": 1},
        (256, 14): {"relu": 6, "add_relu": 6, "batch_norm": 1},
        (512, 7): {"relu": 3, "add_relu": 3, "batch_norm": 1},
    },
    "resnet50": {
        (64, 112): {"relu": 1},
        (64, 56): {"relu": 6},
        (256, 56): {"add_relu": 3, "batch_norm": 1},
        (128, 56): {"relu": 1},
        (128, 28): {"relu": 7},
        (512, 28): {"add_relu": 4, "batch_norm": 1},
        (256, 28): {"relu": 1},
        (256, 14): {"relu": 11},
        (1024, 14): {"add_relu": 6, "batch_norm": 1},
        (512, 14): {"relu": 1},
        (512, 7): {"relu": 5},
        (2048, 7): {"add_relu": 3, "batch_norm": 1},
    },
    "efficientnet_b0": {
        (32, 112): {"silu": 2},
        (16, 112): {"batch_norm": 1},
        (96, 112): {"silu": 1},
        (96, 56): {"silu": 1},
        (24, 56): {"batch_norm": 1, "add": 1},
        (144, 56): {"silu": 3},
        (144, 28): {"silu": 1},
        (40, 28): {"batch_norm": 1, "add": 1},
        (240, 28): {"silu": 3},
        (240, 14): {"silu": 1},
        (80, 14): {"batch_norm": 1, "add": 2},
        (480, 14): {"silu": 6},
        (112, 14): {"batch_norm": 1, "add": 2},
        (672, 14): {"silu": 5},
        (672, 7): {"silu": 1},
        (192, 7): {"batch_norm": 1, "add": 3},
        (1152, 7): {"silu": 8},
        (320, 7): {"batch_norm": 1},
        (1280, 7): {"silu": 1},
    },
}
