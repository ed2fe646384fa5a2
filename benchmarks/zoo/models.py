"""The models of the zoo: the smallest of each of timm's families, usual ones, torchvision's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One model.

    `name` is as for `bninv check`; `family` is timm's module that has the model, "" of
    torchvision's; `millions` of parameters decide the order and are checked against the results.
    `pixels` is an image's side where the model's own would take an hour; `options` are for timm.
    """

    name: str
    family: str
    millions: float
    pixels: int | None = None
    options: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def file(self) -> str:
        """The name of its result."""
        return self.name.replace(":", "_") + ".json"


# Of every family of timm 1.0.31 the member with the fewest parameters, the smallest first.
FAMILIES = (
    Entry("test_convnext", "convnext", 0.3),
    Entry("test_efficientnet", "efficientnet", 0.4),
    Entry("test_vit", "vision_transformer", 0.4),
    Entry("test_nfnet", "nfnet", 0.4),
    Entry("test_mambaout", "mambaout", 0.4),
    Entry("test_byobnet", "byobnet", 0.5),
    Entry("test_resnet", "resnet", 0.5),
    Entry("starnet_s050", "starnet", 0.5),
    Entry("test_coatnet", "maxxvit", 0.6),
    Entry("test_vit_relpos", "vision_transformer_relpos", 0.9),
    Entry("dla46x_c", "dla", 1.1),
    Entry("mobilevit_xxs", "mobilevit", 1.3),
    Entry("edgenext_xx_small", "edgenext", 1.3),
    Entry("mobilenetv3_small_050", "mobilenetv3", 1.6),
    Entry("ese_vovnet19b_slim_dw", "vovnet", 1.9),
    Entry("repghostnet_050", "repghost", 2.3),
    Entry("efficientvit_m0", "efficientvit_msra", 2.3),
    Entry("ghostnet_050", "ghostnet", 2.6),
    Entry("regnetx_002", "regnet", 2.7),
    Entry("cspnext_tiny", "cspnext", 2.7),
    Entry("iformer_t", "iformer", 2.9),
    Entry("xcit_nano_12_p8_224", "xcit", 3.0),
    Entry("cs3darknet_focus_s", "cspnet", 3.3),
    Entry("efficientvit_b0", "efficientvit_mit", 3.4),
    Entry("swiftformer_xs", "swiftformer", 3.5),
    Entry("efficientformerv2_s0", "efficientformer_v2", 3.6),
    Entry("pvt_v2_b0", "pvt_v2", 3.7),
    Entry("fasternet_t0", "fasternet", 3.9),
    Entry("fastvit_t8", "fastvit", 4.0),
    Entry("lcnetv2_small", "lcnetv2", 4.1),
    Entry("inception_next_atto", "inception_next", 4.2),
    Entry("rexnet_100", "rexnet", 4.8),
    Entry("pit_ti_224", "pit", 4.8),
    Entry("hardcorenas_b", "hardcorenas", 5.2),
    Entry("repvit_m1", "repvit", 5.5),
    Entry("vit_tiny_patch16_dinov3_qkvb", "eva", 5.5),
    Entry("coat_tiny", "coat", 5.5),
    Entry("convit_tiny", "convit", 5.7),
    Entry("deit_tiny_patch16_224", "deit", 5.7),
    Entry("gmlp_ti16_224", "mlp_mixer", 5.9),
    Entry("hgnetv2_b0", "hgnet", 6.0),
    Entry("shvit_s1", "shvit", 6.3),
    Entry("vit_tiny_r_s16_p8_224", "vision_transformer_hybrid", 6.3),
    Entry("cpubone_nano", "cpubone", 6.5),
    Entry("efficientvim_m1", "efficientvim", 6.7),
    Entry("crossvit_tiny_240", "crossvit", 7.0),
    Entry("levit_128s", "levit", 7.8),
    Entry("densenet121", "densenet", 8.0),
    Entry("halonet_h1", "byoanet", 8.1),
    Entry("dpn48b", "dpn", 9.1),
    Entry("visformer_tiny", "visformer", 10.3),
    Entry("resnest14d", "resnest", 10.6),
    Entry("csatv2", "csatv2", 11.1, 256),
    Entry("resnetv2_18", "resnetv2", 11.7),
    Entry("legacy_seresnet18", "senet", 11.8),
    Entry("poolformerv2_s12", "metaformer", 11.9),
    Entry("cait_xxs24_224", "cait", 12.0),
    Entry("skresnet18", "sknet", 12.0),
    Entry("gcvit_xxtiny", "gcvit", 12.0),
    Entry("tiny_vit_5m_224", "tiny_vit", 12.1),
    Entry("efficientformer_l1", "efficientformer", 12.3),
    Entry("hrnet_w18_small", "hrnet", 13.2),
    Entry("lowformer_b0", "lowformer", 14.1),
    Entry("nest_tiny", "nest", 17.1),
    Entry("convmixer_768_32", "convmixer", 21.1),
    Entry("vitamin_small_224", "vitamin", 22.2),
    Entry("legacy_xception", "xception", 22.9),
    Entry("tnt_s_legacy_patch16_224", "tnt", 23.8),
    Entry("inception_v3", "inception_v3", 23.8),
    Entry("rdnet_tiny", "rdnet", 23.9),
    Entry("twins_svt_small", "twins", 24.1),
    Entry("mvitv2_tiny", "mvitv2", 24.2),
    Entry("res2next50", "res2net", 24.7),
    Entry("volo_d1_224", "volo", 26.6),
    Entry("sam2_hiera_tiny", "hieradet_sam2", 26.9, 224),
    Entry("xception41p", "xception_aligned", 26.9),
    Entry("sequencer2d_s", "sequencer", 27.7),
    Entry("hiera_tiny_224", "hiera", 27.9),
    Entry("swin_tiny_patch4_window7_224", "swin_transformer", 28.3),
    Entry("swinv2_cr_tiny_224", "swin_transformer_v2_cr", 28.3),
    Entry("swinv2_tiny_window8_256", "swin_transformer_v2", 28.3),
    Entry("davit_tiny", "davit", 28.4),
    Entry("focalnet_tiny_srf", "focalnet", 28.4),
    Entry("selecsls42", "selecsls", 30.4),
    Entry("tresnet_m", "tresnet", 31.4),
    Entry("nextvit_small", "nextvit", 31.8),
    Entry("inception_v4", "inception_v4", 42.7),
    Entry("inception_resnet_v2", "inception_resnet_v2", 55.8),
    Entry("mobilenetv5_base", "mobilenetv5", 82.6),
    Entry("pnasnet5large", "pnasnet", 86.1),
    Entry("samvit_base_patch16_224", "vision_transformer_sam", 86.5),
    Entry("naflexvit_base_patch16_parfac_gap", "naflexvit", 86.5, 224),
    Entry("beit_base_patch16_224", "beit", 86.5),
    Entry("qwen3_vit_88m", "qwen3_vit", 87.4, 224),
    Entry("nasnetalarge", "nasnet", 88.8),
    Entry("vgg11", "vgg", 132.9),
    Entry("gemma4_vit_167m", "gemma4_vit", 167.4, 192),
    Entry("deepseek_vit_412m", "deepseek_vit", 411.8, 224),
)

# Much downloaded architectures at their usual size, beside the smallest of their family.
USUAL = (
    Entry("efficientnet_b0", "efficientnet", 5.3),
    Entry("mobilenetv3_large_100", "mobilenetv3", 5.5),
    Entry("vit_tiny_patch16_224", "vision_transformer", 5.7),
    Entry("mobilenetv4_conv_medium", "mobilenetv3", 9.7),
    Entry("resnet18", "resnet", 11.7),
    Entry("regnety_032", "regnet", 19.4),
    Entry("tf_efficientnetv2_s", "efficientnet", 21.5),
    Entry("eva02_small_patch14_224", "eva", 21.6),
    Entry("vit_small_patch14_dinov2", "vision_transformer", 21.6, 224, {"img_size": 224}),
    Entry("deit3_small_patch16_224", "deit", 22.1),
    Entry("resnext50_32x4d", "resnet", 25.0),
    Entry("resnet50", "resnet", 25.6),
    Entry("convnext_tiny", "convnext", 28.6),
    Entry("maxvit_tiny_tf_224", "maxxvit", 30.9),
    Entry("vit_base_patch16_224", "vision_transformer", 86.6),
)

# The smallest of each of torchvision's families of classifiers.
TORCHVISION = (
    Entry("torchvision:squeezenet1_1", "", 1.2),
    Entry("torchvision:shufflenet_v2_x0_5", "", 1.4),
    Entry("torchvision:mnasnet0_5", "", 2.2),
    Entry("torchvision:mobilenet_v3_small", "", 2.5),
    Entry("torchvision:mobilenet_v2", "", 3.5),
    Entry("torchvision:regnet_y_400mf", "", 4.3),
    Entry("torchvision:efficientnet_b0", "", 5.3),
    Entry("torchvision:regnet_x_400mf", "", 5.5),
    Entry("torchvision:densenet121", "", 8.0),
    Entry("torchvision:resnet18", "", 11.7),
    Entry("torchvision:googlenet", "", 13.0),
    Entry("torchvision:efficientnet_v2_s", "", 21.5),
    Entry("torchvision:resnext50_32x4d", "", 25.0),
    Entry("torchvision:inception_v3", "", 27.2),
    Entry("torchvision:swin_t", "", 28.3),
    Entry("torchvision:swin_v2_t", "", 28.4),
    Entry("torchvision:convnext_tiny", "", 28.6),
    Entry("torchvision:maxvit_t", "", 30.9),
    Entry("torchvision:alexnet", "", 61.1),
    Entry("torchvision:wide_resnet50_2", "", 68.9),
    Entry("torchvision:vit_b_16", "", 86.6),
    Entry("torchvision:vgg11", "", 132.9),
)

ZOO = tuple(sorted((*FAMILIES, *USUAL, *TORCHVISION), key=lambda entry: entry.millions))

# Transformers that are also run in bfloat16 and float16.
IN_HALF = (
    "test_vit",
    "test_coatnet",
    "test_vit_relpos",
    "mobilevit_xxs",
    "efficientvit_m0",
    "iformer_t",
    "efficientvit_b0",
    "swiftformer_xs",
    "efficientformerv2_s0",
    "pvt_v2_b0",
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
)

# Why one whose results may move does so by its own meaning.
MEANING = {
    "csatv2": "multiplies the queries of one sample by the keys of all: what a sample gives is "
    "meant to depend on the others",
}
