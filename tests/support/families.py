"""The smallest model of every convolutional family of timm, and torchvision's convolutional ones.

"Convolutional": without attention and recurrence. Images are as small as the models take them.
"""

from __future__ import annotations

from collections.abc import Callable

import timm
import torchvision
from torch import nn

# Family of timm -> (its smallest model, pixels).
TIMM = {
    "byobnet": ("test_byobnet", 64),
    "convmixer": ("convmixer_768_32", 64),
    "convnext": ("test_convnext", 64),
    "cspnet": ("cs3darknet_focus_s", 64),
    "cspnext": ("cspnext_tiny", 64),
    "densenet": ("densenet121", 64),
    "dla": ("dla46x_c", 64),
    "dpn": ("dpn48b", 64),
    "efficientnet": ("test_efficientnet", 64),
    "fasternet": ("fasternet_t0", 64),
    "fastvit": ("fastvit_t8", 64),
    "focalnet": ("focalnet_tiny_srf", 64),
    "ghostnet": ("ghostnet_050", 64),
    "hardcorenas": ("hardcorenas_b", 64),
    "hgnet": ("hgnetv2_b0", 64),
    "hrnet": ("hrnet_w18_small", 64),
    "inception_next": ("inception_next_atto", 64),
    "inception_resnet_v2": ("inception_resnet_v2", 96),
    "inception_v3": ("inception_v3", 96),
    "inception_v4": ("inception_v4", 96),
    "lcnetv2": ("lcnetv2_small", 64),
    "mambaout": ("test_mambaout", 64),
    "metaformer": ("poolformerv2_s12", 64),
    "mobilenetv3": ("mobilenetv3_small_050", 64),
    "nasnet": ("nasnetalarge", 96),
    "nfnet": ("test_nfnet", 64),
    "pnasnet": ("pnasnet5large", 96),
    "rdnet": ("rdnet_tiny", 64),
    "regnet": ("regnetx_002", 64),
    "repghost": ("repghostnet_050", 64),
    "repvit": ("repvit_m1", 64),
    "res2net": ("res2next50", 64),
    "resnest": ("resnest14d", 64),
    "resnet": ("test_resnet", 64),
    "resnetv2": ("resnetv2_18", 64),
    "rexnet": ("rexnet_100", 64),
    "selecsls": ("selecsls42", 64),
    "senet": ("legacy_seresnet18", 64),
    "sknet": ("skresnet18", 64),
    "starnet": ("starnet_s050", 64),
    "tresnet": ("tresnet_m", 64),
    "vgg": ("vgg11", 64),
    "vovnet": ("ese_vovnet19b_slim_dw", 64),
    "xception": ("legacy_xception", 96),
    "xception_aligned": ("xception41p", 64),
    # Members that compute what the smallest of their family does not.
    "resnetv2, group norm": ("resnetv2_50x1_bit", 64),
    "resnet, gathered excitation": ("seresnet33ts", 64),
    "regnet, squeeze and excitation": ("regnety_002", 64),
    "efficientnet, mixed kernels": ("mixnet_s", 64),
    "efficientnet, same padding": ("tf_mobilenetv3_small_minimal_100", 64),
    "byobnet, repvgg": ("repvgg_a0", 64),
    "convnext, layer norm over channels": ("convnext_atto", 64),
    "vgg, batch norm": ("vgg11_bn", 64),
    "convnext, response normalization": ("convnextv2_atto", 64),
    "convnext, rms norm": ("convnext_zepto_rms", 64),
    "byobnet, global context": ("gcresnext26ts", 64),
    "efficientnet, EvoNorm": ("test_efficientnet_evos", 64),
    "resnetv2, filter response": ("resnetv2_50d_frn", 64),
}

TORCHVISION = {
    "alexnet": 96,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_x_400mf": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "resnext50_32x4d": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "vgg11_bn": 64,
    "wide_resnet50_2": 64,
}

# Small ones of many kinds of block, a second or two each: residuals plain and inverted, norms by
# layers, of roots and of groups, groups, concatenation, split attention, excitation, standardized
# weights, padding as in TensorFlow, and both libraries' code. The others wait for `make test-all`.
FAST = (
    *("byobnet", "convnext", "efficientnet", "mambaout", "mobilenetv3", "nfnet", "resnest"),
    *("resnet", "sknet", "starnet", "regnet, squeeze and excitation", "convnext, rms norm"),
    *("convnext, response normalization", "efficientnet, EvoNorm", "efficientnet, same padding"),
    *("efficientnet, mixed kernels", "inception_next", "torchvision:mobilenet_v3_small"),
    *("torchvision:resnet18", "torchvision:shufflenet_v2_x0_5", "torchvision:squeezenet1_1"),
    *("torchvision:googlenet",),
)

# Those that are also run in half precision.
IN_HALF = (
    "byobnet",
    "convnext",
    "densenet",
    "efficientnet",
    "ghostnet",
    "hrnet",
    "mobilenetv3",
    "nfnet",
    "regnet",
    "resnest",
    "resnet",
    "resnetv2, group norm",
    "vovnet",
)


def cases() -> dict[str, tuple[Callable[[], nn.Module], int]]:
    """Name -> (how to make the model, with random weights, and its input's side in pixels)."""
    made: dict[str, tuple[Callable[[], nn.Module], int]] = {}
    for family, (name, size) in TIMM.items():
        made[family] = (lambda name=name: timm.create_model(name), size)
    for name, size in TORCHVISION.items():
        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        make = getattr(torchvision.models, name)
        made[f"torchvision:{name}"] = (lambda make=make, options=options: make(**options), size)
    return made
