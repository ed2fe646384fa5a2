"""Digests over the bits of every operator's results, written by the NumPy reference.

Committed, so that a change of any expression shows as a change of this file: that is a new
CONTRACT_VERSION, or TENSOR_CONTRACT_VERSION for R9's. After such a decision, and only then:

    python -m tests.contract.test_golden --write
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.support import (
    reference_attention,
    reference_deform,
    reference_dtypes,
    reference_functions,
    reference_grid,
    reference_nms,
    reference_normalization,
    reference_resample,
    reference_roi,
    reference_scan,
    reference_tensor_products,
)
from tests.support.reference_binary import BINARY

FILE = Path(__file__).with_name("golden.json")
CONTRACT_VERSION = 1
TENSOR_CONTRACT_VERSION = 1


def inputs(seed: int, *shape: int) -> np.ndarray:
    """Float32 numbers in [-2, 2), a function of PCG64's raw bits alone: every step is exact."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(40)).astype(np.int64) - 2**23).astype(np.float32).reshape(
        shape
    ) * np.float32(2.0**-22)


def conv2d(shape, weight_shape, **options) -> tuple:
    out_channels = weight_shape[0]
    return "conv2d", (inputs(1, *shape), inputs(2, *weight_shape), inputs(3, out_channels)), options


def volume(name: str, shape, weight_shape, **options) -> tuple:
    """conv3d or a transposed convolution; the weight's outputs are its first or second size."""
    groups = options.get("groups", 1)
    out = weight_shape[0] if name == "conv3d" else weight_shape[1] * groups
    return name, (inputs(1, *shape), inputs(2, *weight_shape), inputs(3, out)), options


def linear(rows: int, k: int, out_features: int) -> tuple:
    return "linear", (inputs(1, rows, k), inputs(2, out_features, k), inputs(3, out_features)), {}


def baddbmm(samples: int, rows: int, k: int, columns: int, **options) -> tuple:
    sizes = ((samples, rows, columns), (samples, rows, k), (samples, k, columns))
    return "baddbmm", tuple(inputs(seed, *shape) for seed, shape in enumerate(sizes, 1)), options


def attention(*shape: int, keys: int, **options) -> tuple:
    arrays = (inputs(1, *shape), *(inputs(i, *shape[:-2], keys, shape[-1]) for i in (2, 3)))
    return "scaled_dot_product_attention", arrays, options


def batch_norm(*shape: int, eps: float = 1e-5) -> tuple:
    mean, var, weight, bias = (inputs(seed, shape[1]) for seed in (2, 3, 4, 5))
    return "batch_norm", (inputs(1, *shape), mean, np.abs(var), weight, bias), {"eps": eps}


def on(name: str, shape, *args, **options) -> tuple:
    return name, (inputs(1, *shape), *args), options


def sampled(spatial: int, **options) -> tuple:
    image, points = ((9, 11), (17, 6)) if spatial == 2 else ((5, 4, 7), (3, 8, 6))
    arrays = inputs(1, 2, 7, *image), inputs(2, 2, *points, spatial)
    return "grid_sample", arrays, {"align_corners": False, **options}


def regions(name: str, *options) -> tuple:
    """Of two images, some of which reach outside."""
    boxes = np.zeros((9, 5), np.float32)
    boxes[:, 0] = np.arange(9) % 2
    boxes[:, 1:] = inputs(2, 9, 4) * np.float32(4) + np.array([2, 2, 9, 8], np.float32)
    return name, (inputs(1, 2, 24, 11, 13), boxes, (4, 3), *options), {}


def deformed(groups: int) -> tuple:
    sizes = ((2, 10, 7, 6), (2, 36, 7, 6), (4, 10 // groups, 3, 3), (4,))
    arrays = [inputs(seed, *size) for seed, size in enumerate(sizes, 1)]
    return "deform_conv2d", (*arrays, (1, 1), (1, 1), (1, 1), inputs(5, 2, 18, 7, 6)), {}


def elementwise(name: str, **options) -> tuple:
    """Every sign and exponent up to 2^7, each with many mantissas."""
    x = inputs(1, 64, 997)
    exponents = np.linspace(-149, 6, 64).astype(np.int32)[:, None]
    return name, (np.ldexp(x, exponents),), options


def affine(name: str, *shape: int, args: tuple = (), over: int = 1, **options) -> tuple:
    """An operator with a weight and a bias of the sizes `over`."""
    return name, (inputs(1, *shape), *args, inputs(4, over), inputs(5, over)), options


def two(name: str) -> tuple:
    """An elementwise function of two tensors, the first not negative."""
    x = np.abs(elementwise(name)[1][0])[::3, :199]
    return name, (x, np.ascontiguousarray(inputs(2, 199, 22).T * np.float32(37))), {}


# Of what is not negative.
ROOTS = ("sqrt", "rsqrt", "log", "log1p", "log2", "log10")
ELEMENTWISE = [name for name in reference_functions.FUNCTIONS if name not in ROOTS]
CASES: dict[str, tuple] = {
    "conv2d 3x3": conv2d((2, 17, 9, 11), (21, 17, 3, 3), padding=1),
    "conv2d 7x7 stride 2": conv2d((2, 3, 31, 29), (33, 3, 7, 7), stride=2, padding=3),
    "conv2d 1x1": conv2d((3, 257, 5, 4), (34, 257, 1, 1)),
    "conv2d groups, dilation": conv2d(
        (2, 12, 11, 10), (9, 4, 3, 2), groups=3, dilation=(2, 3), padding=(1, 2), stride=(2, 1)
    ),
    "conv2d depthwise": conv2d((2, 37, 10, 9), (37, 1, 5, 5), groups=37, padding=2),
    "conv2d same": conv2d((2, 5, 8, 7), (6, 5, 2, 4), padding="same"),
    "conv3d 3x3x3": volume("conv3d", (2, 9, 3, 5, 4), (19, 9, 3, 3, 3), padding=1),
    "conv3d groups, stride": volume(
        "conv3d", (2, 6, 4, 9, 8), (9, 2, 2, 5, 3), groups=3, stride=(1, 2, 2), dilation=(2, 1, 1)
    ),
    "conv3d depthwise": volume(
        "conv3d", (2, 18, 3, 4, 5), (18, 1, 3, 3, 3), groups=18, padding=(1, 0, 1)
    ),
    "conv_transpose1d": volume("conv_transpose1d", (2, 19, 7), (19, 5, 16), stride=8, padding=4),
    "conv_transpose2d": volume(
        "conv_transpose2d", (2, 33, 5, 4), (33, 18, 4, 4), stride=2, padding=1
    ),
    "conv_transpose2d groups, dilation": volume(
        "conv_transpose2d",
        (2, 12, 4, 5),
        (12, 3, 3, 2),
        groups=3,
        stride=(3, 2),
        dilation=(2, 3),
        padding=(1, 0),
        output_padding=(2, 1),
    ),
    "conv_transpose3d": volume(
        "conv_transpose3d", (2, 10, 2, 3, 3), (10, 7, 3, 3, 3), stride=2, padding=1
    ),
    "linear 1000": linear(5, 1000, 67),
    "linear 127": linear(17, 127, 3),
    "baddbmm": baddbmm(3, 7, 200, 19),
    "baddbmm alpha, beta": baddbmm(2, 5, 33, 17, beta=0.3, alpha=-1.7),
    "batch_norm": batch_norm(3, 19, 7, 5),
    "batch_norm eps": batch_norm(3, 19, 7, 5, eps=1e-3),
    "avg_pool2d": on("avg_pool2d", (2, 9, 15, 14), 3, 2, 1, True),
    "avg_pool2d exclude": on("avg_pool2d", (2, 9, 15, 14), 3, 2, 1, count_include_pad=False),
    "adaptive_avg_pool2d global": on("adaptive_avg_pool2d", (2, 19, 7, 7), (1, 1)),
    "adaptive_avg_pool2d 4900": on("adaptive_avg_pool2d", (2, 3, 70, 70), (1, 1)),
    "adaptive_avg_pool2d 5x3": on("adaptive_avg_pool2d", (2, 19, 13, 11), (5, 3)),
    "max_pool2d": on("max_pool2d", (2, 9, 15, 14), 3, 2, 1),
    "adaptive_max_pool2d": on("adaptive_max_pool2d", (2, 9, 15, 14), (4, 5)),
    "deform_conv2d": deformed(2),
    "nms": ("nms", (inputs(1, 300, 4), inputs(2, 300), 0.3), {}),
    "grid_sample bilinear": sampled(2, mode="bilinear"),
    "grid_sample bilinear, border": sampled(2, padding_mode="border", align_corners=True),
    "grid_sample bicubic, reflection": sampled(2, mode="bicubic", padding_mode="reflection"),
    "grid_sample nearest": sampled(2, mode="nearest"),
    "grid_sample of a volume": sampled(3, padding_mode="reflection", align_corners=True),
    "roi_align": regions("roi_align", 0.75, 2, False),
    "roi_align aligned, by its size": regions("roi_align", 1.25, -1, True),
    "ps_roi_align": regions("ps_roi_align", 1.0, 3),
    "roi_pool": regions("roi_pool", 0.75),
    "ps_roi_pool": regions("ps_roi_pool", 1.25),
    "affine_grid": ("affine_grid", (inputs(1, 3, 2, 3), (3, 1, 9, 14)), {}),
    "interpolate bilinear": on("interpolate", (2, 9, 11, 14), (17, 9), mode="bilinear"),
    "interpolate bilinear antialias": on(
        "interpolate", (2, 9, 31, 29), (11, 40), mode="bilinear", antialias=True
    ),
    "interpolate bicubic": on(
        "interpolate", (2, 9, 11, 14), scale_factor=1.7, mode="bicubic", align_corners=True
    ),
    "interpolate bicubic antialias": on(
        "interpolate", (2, 9, 31, 29), scale_factor=0.37, mode="bicubic", antialias=True
    ),
    "interpolate trilinear": on("interpolate", (2, 5, 4, 7, 6), (7, 3, 11), mode="trilinear"),
    "avg_pool3d": on("avg_pool3d", (2, 9, 5, 7, 6), 3, 2, 1, True),
    "max_pool3d": on("max_pool3d", (2, 9, 5, 7, 6), 3, 2, 1),
    "adaptive_avg_pool3d": on("adaptive_avg_pool3d", (2, 9, 5, 7, 6), (2, 3, 1)),
    "adaptive_max_pool3d": on("adaptive_max_pool3d", (2, 9, 5, 7, 6), (2, 3, 1)),
    "layer_norm": affine("layer_norm", 101, 97, args=((97,),), over=97),
    "layer_norm 4900, eps": affine("layer_norm", 2, 4900, args=((4900,),), over=4900, eps=1e-6),
    "rms_norm": on("rms_norm", (301, 63), (63,), eps=1e-6),
    "group_norm": affine("group_norm", 29, 12, 7, 5, args=(3,), over=12),
    "instance_norm": on("instance_norm", (23, 5, 9, 7)),
    "attention": attention(2, 3, 49, 32, keys=49),
    "attention of two blocks": attention(1, 2, 5, 20, keys=200, scale=0.5),
    "attention causal": attention(1, 1, 140, 8, keys=140, is_causal=True),
    "softmax": on("softmax", (5, 1000), 1),
    "softmax of channels": on("softmax", (3, 2, 4, 5), 1),
    "log_softmax": on("log_softmax", (5, 1000), 1),
    **{name: on(name, (7, 143, 3), 1) for name in ("cumsum", "cumprod", "logcumsumexp")},
    "sum": on("sum", (3, 9001), 1),
    "mean": on("mean", (3, 19, 7, 9), (2, 3)),
    **{name: elementwise(name) for name in ELEMENTWISE},
    **{name: (name, (np.abs(elementwise(name)[1][0]),), {}) for name in ROOTS},
    "gelu tanh": elementwise("gelu", approximate="tanh"),
    **{name: two(name) for name in BINARY},
}


# Those that run in every dtype, on the same numbers rounded, or with more bits in float64.
TYPED = [
    "attention",
    "conv2d 3x3",
    "conv2d 1x1",
    "conv2d groups, dilation",
    "conv2d depthwise",
    "linear 1000",
    "baddbmm alpha, beta",
    "batch_norm",
    "avg_pool2d",
    "adaptive_avg_pool2d 4900",
    "max_pool2d",
    "deform_conv2d",
    "nms",
    "grid_sample bilinear",
    "grid_sample bicubic, reflection",
    "roi_align",
    "ps_roi_align",
    "roi_pool",
    "ps_roi_pool",
    "affine_grid",
    "interpolate bilinear",
    "interpolate bicubic",
    "sum",
    "mean",
]
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in reference_dtypes.OTHERS}
# Those that also run by R9, in both classes.
TENSOR = ["conv2d 3x3", "conv2d 7x7 stride 2", "conv2d 1x1", "linear 1000"]
TENSOR_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LABELS = [
    *CASES,
    *(f"{label}, {dtype}" for label in TYPED for dtype in DTYPES),
    *(
        f"{label}, {dtype}, tensor-{name}"
        for name in "AH"
        for label in TENSOR
        for dtype in TENSOR_DTYPES
    ),
]


def case(label: str) -> tuple[str, list, dict]:
    """The operator of a label, its arguments as tensors, its options."""
    precision = {}
    if "tensor-" in label:
        label, _, word = label.rpartition(", ")
        precision = {"precision": word}
    label, _, suffix = label.rpartition(", ") if label not in CASES else (label, "", "")
    name, args, options = CASES[label]
    options = {**options, **precision}
    tensors = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args]
    if suffix:
        tensors = [
            in_dtype(t, getattr(torch, suffix)) if isinstance(t, Tensor) else t for t in tensors
        ]
    return name, tensors, options


def in_dtype(values: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype != torch.float64:
        return values.to(dtype)
    # Numbers below 2 on a grid of 2^-22, and further bits down to 2^-52: every sum is exact.
    lower = torch.from_numpy(inputs(9, *values.shape)).double().abs()
    return values.double() + lower * 2.0**-30


def digest(result: Tensor) -> str:
    assert not result.isnan().any()
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[result.element_size()]
    bits = result.contiguous().view(integers).numpy()
    little_endian = bits.astype(bits.dtype.newbyteorder("<"))
    return hashlib.sha256(repr(tuple(result.shape)).encode() + little_endian.tobytes()).hexdigest()


def expected(label: str) -> Tensor:
    """The reference's result."""
    name, args, options = case(label)
    if precision := options.pop("precision", None):
        product = getattr(reference_tensor_products, name)
        return product(*args, **options, name=precision.removeprefix("tensor-"))
    if name in reference_functions.FUNCTIONS:
        arrays = [a.numpy() if isinstance(a, Tensor) else a for a in args]
        return torch.from_numpy(reference_functions.FUNCTIONS[name](*arrays, **options))
    if name in BINARY:
        return torch.from_numpy(BINARY[name](*(a.numpy() for a in args)))
    for module in (reference_normalization, reference_scan):
        if hasattr(module, name):
            arrays = [a.numpy() if isinstance(a, Tensor) else a for a in args]
            return torch.from_numpy(getattr(module, name)(*arrays, **options))
    if name == "scaled_dot_product_attention":
        return reference_attention.on_tensors(*args, **options)
    if name in ("affine_grid", "grid_sample"):
        return getattr(reference_grid, name)(*args, **options)
    if "roi" in name:
        return reference_roi.run(name, *args)
    if name == "deform_conv2d":
        return reference_deform.deform_conv2d(*args, **options)
    if name == "nms":
        return torch.tensor(reference_nms.nms(*args, **options))
    if name == "interpolate":
        return reference_resample.interpolated(*args, **options)
    return getattr(reference_dtypes, name)(*args, **options)


def pytest_generate_tests(metafunc) -> None:
    metafunc.parametrize("label", LABELS)


def test_kernels_give_the_digests(label: str) -> None:
    import bninv
    import bninv.functional as F
    from tests.support.properties import at_each_level

    golden = json.loads(FILE.read_text())
    assert golden["contract_version"] == CONTRACT_VERSION == bninv.CONTRACT_VERSION
    version = golden["tensor_contract_version"]
    assert version == TENSOR_CONTRACT_VERSION == bninv.TENSOR_CONTRACT_VERSION
    assert set(golden["sha256"]) == set(LABELS)
    name, args, options = case(label)
    for level, result in at_each_level(lambda: getattr(F, name)(*args, **options)):
        assert digest(result) == golden["sha256"][label], level


def test_reference_gives_the_digests(label: str) -> None:
    assert digest(expected(label)) == json.loads(FILE.read_text())["sha256"][label]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    document = {
        "contract_version": CONTRACT_VERSION,
        "tensor_contract_version": TENSOR_CONTRACT_VERSION,
        "sha256": {label: digest(expected(label)) for label in LABELS},
    }
    FILE.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
