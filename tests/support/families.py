"""The smallest model of the families of timm, and torchvision's convolutional ones.

Images are as small as the models take them. `make zoo` runs them at their own size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torchvision
from torch import nn

# Convolutional family of timm, without attention and recurrence -> (its smallest model, pixels).
CONVOLUTIONAL = {
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

# Other family -> (its smallest model, pixels, whether the model is made for so many). Those that
# are missing are in test_transformers.py, take seconds an image, or call what is not covered.
OTHERS = {
    "beit": ("beit_base_patch16_224", 48, True),
    "coat": ("coat_tiny", 64, True),
    "convit": ("convit_tiny", 48, True),
    "cpubone": ("cpubone_nano", 48, False),
    "crossvit": ("crossvit_tiny_240", 48, False),
    "davit": ("davit_tiny", 48, False),
    "efficientformer": ("efficientformer_l1", 224, False),
    "efficientformer_v2": ("efficientformerv2_s0", 64, True),
    "efficientvim": ("efficientvim_m1", 48, False),
    "efficientvit_mit": ("efficientvit_b0", 48, False),
    "efficientvit_msra": ("efficientvit_m0", 48, False),
    "gcvit": ("gcvit_xxtiny", 64, True),
    "hiera": ("hiera_tiny_224", 64, True),
    "hieradet_sam2": ("sam2_hiera_tiny", 64, False),
    "iformer": ("iformer_t", 48, False),
    "levit": ("levit_128s", 48, True),
    "lowformer": ("lowformer_b0", 48, False),
    "mlp_mixer": ("gmlp_ti16_224", 48, True),
    "mobilevit": ("mobilevit_xxs", 48, False),
    "naflexvit": ("naflexvit_base_patch16_parfac_gap", 48, False),
    "nest": ("nest_tiny", 48, True),
    "nextvit": ("nextvit_small", 48, False),
    "pit": ("pit_ti_224", 48, True),
    "pvt_v2": ("pvt_v2_b0", 48, False),
    "shvit": ("shvit_s1", 48, False),
    "swiftformer": ("swiftformer_xs", 48, False),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 48, True),
    "tiny_vit": ("tiny_vit_5m_224", 48, False),
    "tnt": ("tnt_s_legacy_patch16_224", 48, True),
    "twins": ("twins_svt_small", 48, False),
    "visformer": ("visformer_tiny", 48, True),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 64, True),
    "vision_transformer_relpos": ("test_vit_relpos", 48, True),
    "vitamin": ("vitamin_small_224", 48, True),
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
    *("byobnet", "convnext", "mobilenetv3", "nfnet", "resnest", "efficientnet, EvoNorm"),
    *("efficientnet, same padding", "torchvision:googlenet", "convit", "efficientvit_mit"),
    *("levit", "mobilevit", "pvt_v2", "swiftformer", "visformer", "vision_transformer_relpos"),
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
    for family, (name, size) in CONVOLUTIONAL.items():
        made[family] = (lambda name=name: timm.create_model(name), size)
    for family, (name, size, told) in OTHERS.items():
        options: dict[str, Any] = {"img_size": size} if told else {}
        made[family] = (lambda name=name, of=options: timm.create_model(name, **of), size)
    for name, size in TORCHVISION.items():
        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        make = getattr(torchvision.models, name)
        made[f"torchvision:{name}"] = (lambda make=make, options=options: make(**options), size)
    return made
