"""Modules of which bninv has no kind, and that may stay: in eval mode they round nothing, or one
element by one operation.
"""

from __future__ import annotations

from typing import Any

# By the class that defines the module's forward, as in KINDS.
_TORCH = {
    "container": {"Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"},
    "linear": {"Identity"},
    # The identity in eval mode.
    "dropout": {
        "Dropout",
        "Dropout1d",
        "Dropout2d",
        "Dropout3d",
        "AlphaDropout",
        "FeatureAlphaDropout",
    },
    "flatten": {"Flatten", "Unflatten"},
    "padding": {
        "_ConstantPadNd",
        "_ReflectionPadNd",
        "_ReplicationPadNd",
        "CircularPad1d",
        "CircularPad2d",
        "CircularPad3d",
        "ConstantPad1d",
        "ConstantPad2d",
        "ConstantPad3d",
    },
    "pixelshuffle": {"PixelShuffle", "PixelUnshuffle"},
    "channelshuffle": {"ChannelShuffle"},
    "module": {"Module"},
}

_EXACT = {
    *(f"torch.nn.modules.{file}.{name}" for file, names in _TORCH.items() for name in names),
    "timm.layers.adaptive_avgmax_pool.SelectAdaptivePool2d",  # calls its submodules
    "timm.layers.drop.DropPath",
    "timm.layers.drop.DropBlock2d",
    # One multiplication an element.
    "timm.layers.layer_scale.LayerScale",
    "timm.layers.layer_scale.LayerScale2d",
    "torchvision.ops.stochastic_depth.StochasticDepth",
    "torchvision.ops.misc.Permute",
}


# Each calls functions that are exact, or have an operator of bninv's, for most arguments: what the
# arguments are is seen when it runs.
_BY_CALLS = {
    "activation": {
        "GLU",
        "Hardshrink",
        "Hardtanh",
        "MultiheadAttention",
        "PReLU",
        "RReLU",
        "Softmin",
        "Softshrink",
        "Softsign",
        "Tanhshrink",
        "Threshold",
    },
    "distance": {"CosineSimilarity", "PairwiseDistance"},
    "fold": {"Fold", "Unfold"},
    "normalization": {"LocalResponseNorm"},
    "pooling": {
        # Those that have a kind are refused by it with indices.
        *("MaxPool1d", "MaxPool2d", "MaxPool3d"),
        *("LPPool1d", "LPPool2d", "LPPool3d"),
        *("AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d"),
    },
    "rnn": {"LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"},
    "sparse": {"Embedding"},
    "transformer": {
        "Transformer",
        *("TransformerEncoder", "TransformerEncoderLayer"),
        *("TransformerDecoder", "TransformerDecoderLayer"),
    },
    # To the nearest or by areas; the other modes have a kind.
    "upsampling": {"Upsample"},
}

_CALLING = {
    f"torch.nn.modules.{file}.{name}" for file, names in _BY_CALLS.items() for name in names
}


# In eval mode their output is their input.
_IDENTITIES = {
    "torch.nn.modules.linear.Identity",
    *(f"torch.nn.modules.dropout.{name}" for name in _TORCH["dropout"]),
    "timm.layers.drop.DropPath",
    "timm.layers.drop.DropBlock2d",
    "torchvision.ops.stochastic_depth.StochasticDepth",
}


def is_identity(owner: str) -> bool:
    """Whether modules whose forward is defined by the class `owner` return their input itself."""
    return owner in _IDENTITIES


def is_seen_by_its_calls(owner: str) -> bool:
    """Whether a module whose forward is defined by the class `owner` is as exact as its calls are:
    patched, it runs under the protection, and each of them is looked up.
    """
    return owner in _CALLING


def is_whole(scale_factor: Any) -> bool:
    """Whether an image to the nearest has one result everywhere: by sizes, or whole factors."""
    factors = scale_factor if isinstance(scale_factor, (list, tuple)) else [scale_factor]
    return all(f is None or (isinstance(f, (int, float)) and f == f // 1) for f in factors)


def is_exact(owner: str, module: Any) -> bool:
    """Whether a module whose forward is defined by the class `owner` is exact in eval mode."""
    if owner == "torch.nn.modules.upsampling.Upsample":
        return str(module.mode).startswith("nearest") and is_whole(module.scale_factor)
    return owner in _EXACT
