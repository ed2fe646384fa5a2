"""opcheck, torch.compile and torch.export: the operators are ordinary PyTorch ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import bninv.functional as F
from tests.support.calls import BIAS, BOXES, CALLS, ELEMENTWISE, W2, W4, X2, X4
from tests.support.places import ROOT
from tests.support.properties import assert_bits, normal, panel

LAST = torch.channels_last
# Calls beyond the plain ones of test_errors: other formats, options and code paths.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in CALLS},
    "conv2d, channels_last": ("conv2d", {"input": X4.to(memory_format=LAST)}),
    "conv2d, weight channels_last": ("conv2d", {"weight": W4.to(memory_format=LAST)}),
    "conv2d, panel weight": ("conv2d", {"weight": panel(W4)}),
    "conv2d, same": ("conv2d", {"padding": "same", "bias": None}),
    "conv2d, grouped": ("conv2d", {"weight": W4[:, :3].contiguous(), "groups": 2, "stride": 2}),
    "conv2d, depthwise": ("conv2d", {"weight": normal("w", 6, 1, 3, 3), "bias": None, "groups": 6}),
    "linear, 3 dimensions": ("linear", {"input": normal("x", 2, 3, 6), "bias": None}),
    "batch_norm, channels_last": ("batch_norm", {"input": X4.to(memory_format=LAST)}),
    "batch_norm, not affine": ("batch_norm", {"weight": None, "bias": None}),
    "layer_norm, permuted": (
        "layer_norm",
        {"input": X4.to(memory_format=LAST).permute(0, 2, 3, 1), "bias": None},
    ),
    "rms_norm, channels_last": (
        "rms_norm",
        {"input": X4.to(memory_format=LAST), "normalized_shape": 7, "weight": None},
    ),
    "rms_norm, transposed": ("rms_norm", {"input": normal("x", 6, 3).t()}),
    "group_norm, channels_last": ("group_norm", {"input": X4.to(memory_format=LAST)}),
    "group_norm, sliced": ("group_norm", {"input": X4[:, :, ::2], "bias": None}),
    "instance_norm, channels_last": ("instance_norm", {"input": X4.to(memory_format=LAST)}),
    "batch_norm, one sample": (
        "batch_norm",
        {
            "input": X4[:1].to(memory_format=LAST),
            "running_mean": None,
            "running_var": None,
            "training": True,
        },
    ),
    "softmax, channels_last": ("softmax", {"input": X4.to(memory_format=LAST)}),
    "relu, transposed": ("relu", {"input": X4.transpose(1, 3)}),
    "relu, sliced": ("relu", {"input": X4[:, ::2, 1:]}),
    "mean, keepdim": ("mean", {"keepdim": True, "input": X4.to(memory_format=LAST)}),
    "max_pool2d, ceil_mode": ("max_pool2d", {"stride": 2, "ceil_mode": True, "padding": 1}),
    "avg_pool2d, channels_last": ("avg_pool2d", {"input": X4.to(memory_format=LAST)}),
    "avg_pool2d, divisor": ("avg_pool2d", {"divisor_override": 5, "count_include_pad": False}),
    "interpolate, channels_last": ("interpolate", {"input": X4.to(memory_format=LAST)}),
    "interpolate, antialias": ("interpolate", {"mode": "bicubic", "antialias": True}),
    "interpolate by a factor": ("interpolate", {"size": None, "scale_factor": 1.7}),
    "interpolate, volume": (
        "interpolate",
        {
            "input": normal("x5", 2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d),
            "size": (3, 7, 4),
            "mode": "trilinear",
        },
    ),
    "grid_sample, channels_last": ("grid_sample", {"input": X4.to(memory_format=LAST)}),
    "gelu, tanh": ("gelu", {"approximate": "tanh"}),
    "conv2d, empty batch": ("conv2d", {"input": X4[:0]}),
    **{f"{name}, in place": (name, {"input": X4.abs(), "inplace": True}) for name in ELEMENTWISE},
}


class Recorder(TorchDispatchMode):
    """Notes each of this package's operators with its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "bninv":
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def recorded(variant: str) -> list[tuple[Any, tuple, dict]]:
    name, changed = VARIANTS[variant]
    operator, arguments = CALLS[name]
    with Recorder() as recorder:
        operator(**{**arguments, **changed})
    return recorder.calls


@pytest.mark.parametrize("variant", VARIANTS)
def test_opcheck(variant: str) -> None:
    """Schema, fake kernel and dynamic shapes. Gradients are refused, which opcheck's test of the
    autograd registration covers as long as no input asks for them."""
    calls = recorded(variant)
    assert calls, "no operator of this package was called"
    for operator, args, kwargs in calls:
        torch.library.opcheck(operator, args, kwargs)


FUSED: dict[str, Callable[[], Tensor]] = {
    "conv2d_fused": lambda: F.conv2d_fused(
        X4,
        W4,
        BIAS,
        padding=1,
        running_mean=BIAS,
        running_var=BIAS.abs(),
        residual=normal("r", 2, 4, 5, 7),
        activation="relu",
    ),
    "linear_fused": lambda: F.linear_fused(X2, W2, BIAS, activation="silu"),
    # The second result of torchvision's operator.
    "roi_pool_argmax": lambda: torch.ops.bninv.roi_pool_argmax(X4, BOXES, [2, 3], 0.5),
    # Whose result's size follows from the values.
    "nms": lambda: F.nms(X2[:, :4], X2[:, 4], 0.3),
    "bmm": lambda: F.matmul(X4[0], X4[0].mT),
}


@pytest.mark.parametrize("name", FUSED)
def test_opcheck_of_fused_operators(name: str) -> None:
    with Recorder() as recorder:
        FUSED[name]()
    ((operator, args, kwargs),) = recorder.calls
    assert operator._schema.name == f"bninv::{name}"
    torch.library.opcheck(operator, args, kwargs)


def test_opcheck_reaches_every_operator() -> None:
    seen = {f"bninv::{name}" for name in FUSED}
    seen |= {operator._schema.name for variant in VARIANTS for operator, _, _ in recorded(variant)}
    names = {name.split(".")[0] for name in torch._C._dispatch_get_all_op_names()}
    public = {n for n in names if n.startswith("bninv::") and not n.startswith("bninv::_")}
    assert seen == public


@pytest.mark.parametrize("variant", VARIANTS)
def test_fake_strides_are_the_real_ones(variant: str) -> None:
    name, changed = VARIANTS[variant]
    operator, arguments = CALLS[name]
    real = operator(**{**arguments, **changed})
    mode = torch._subclasses.FakeTensorMode()
    with mode:
        faked = {
            k: mode.from_tensor(v) if isinstance(v, Tensor) else v
            for k, v in {**arguments, **changed}.items()
        }
        fake = operator(**faked)
    assert (fake.shape, fake.stride(), fake.dtype) == (real.shape, real.stride(), real.dtype)


def block(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    y = F.batch_norm(F.conv2d(x, weight, bias, padding="same"), mean, var)
    y = F.max_pool2d(F.relu(y), 3, stride=2, padding=1)
    y = F.silu(F.avg_pool2d(y, 2, ceil_mode=True)) + F.gelu(F.adaptive_avg_pool2d(y, (2, 2)))
    return F.linear(F.mean(y, (2, 3)), weight[:, :4, 0, 0], bias)


BLOCK = (X4, W4, BIAS, normal("mean", 4), normal("var", 4).abs())


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_fullgraph(dynamic: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for batch in (2, 3, 5):
        x = normal("x", batch, 6, 5, 7)
        for view in (x, x.to(memory_format=LAST)):
            with torch.no_grad():
                assert_bits(compiled(view, *BLOCK[1:]), block(view, *BLOCK[1:]), f"batch {batch}")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name, value in zip(("weight", "bias", "mean", "var"), BLOCK[1:], strict=True):
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        return block(x, self.weight, self.bias, self.mean, self.var)


def exported(strict: bool) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        return torch.export.export(Block(), (X4,), dynamic_shapes={"x": {0: batch}}, strict=strict)


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict: bool) -> None:
    program = exported(strict)
    assert "bninv" in str(program.graph)
    for batch in (1, 2, 7):
        x = normal("x", batch, 6, 5, 7)
        assert_bits(program.module()(x), block(x, *BLOCK[1:]))


RELOAD = """
import sys, torch, bninv
program = torch.export.load(sys.argv[1])
x, expected = torch.load(sys.argv[2])
actual = program.module()(x)
assert torch.equal(actual.view(torch.int32), expected.view(torch.int32))
"""


def test_exported_program_reloads_in_a_fresh_process(tmp_path: Path) -> None:
    torch.export.save(exported(strict=False), tmp_path / "block.pt2")
    x = normal("x", 3, 6, 5, 7)
    torch.save((x, block(x, *BLOCK[1:])), tmp_path / "tensors.pt")
    done = subprocess.run(
        [sys.executable, "-c", RELOAD, tmp_path / "block.pt2", tmp_path / "tensors.pt"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr


def test_vmap_is_refused_or_right() -> None:
    """No batching rule: PyTorch may fall back to a loop, with the same bits, or raise."""
    x = normal("x", 3, 2, 5)
    try:
        result = torch.func.vmap(F.sigmoid)(x)
    except RuntimeError:
        return
    assert_bits(result, F.sigmoid(x))
