"""batch_norm on CUDA has the bits of the CPU: emulated everywhere, on a GPU with `-m cuda`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import bninv
import bninv.functional as F
from bninv import _arguments
from tests.support.emulated import on, operators
from tests.support.properties import (
    any_bits,
    assert_bits,
    batch_norm_parameters,
    expansions,
    layouts,
    normal,
)
from tests.support.reference_dtypes import FLOATING, NARROW

EPILOGUES = _arguments.ACTIVATIONS
# One element, less than a vector, whole and broken vectors, rows that straddle channels, chunks
# that end inside a channel, more work than the grid has threads.
SHAPES = [
    (3, 1, 1, 1),
    (5, 3),
    (70, 24),
    (3, 1031),
    (4, 7, 11),
    (3, 17, 5, 7),
    (5, 8, 4, 4),
    (2, 16, 7, 7),
    (2, 3, 4, 5, 3),
    (1, 3, 2100),
    (33, 5, 1, 1),
    (2, 2, 97, 101),
]

Run = Callable[..., Tensor]


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def run(request: pytest.FixtureRequest) -> Run:
    """F.batch_norm on a device, for tensors on the CPU."""
    return backend(request.param)


def backend(name: str) -> Run:
    if name == "cuda":
        return lambda *args, **options: F.batch_norm(
            *(on("cuda", v) for v in args), **{k: on("cuda", v) for k, v in options.items()}
        ).cpu()
    operators()

    def emulated(x: Tensor, *values: Any, eps: float = 1e-5, **options: Any) -> Tensor:
        values = (*values, *(None,) * (4 - len(values)))
        epilogue = (
            options.get("residual"),
            options.get("activation", "none"),
            options.get("negative_slope", 0.01),
        )
        return torch.ops.bninv_emulated.batch_norm(x, *values, eps, *epilogue)

    return emulated


floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


@floating
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_cpu(run: Run, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    values = batch_norm_parameters(shape[1], dtype)
    for x in (normal("x", *shape).to(dtype), any_bits("x", shape, dtype)):
        expected = F.batch_norm(x, *values)
        for name, view in layouts(x):
            assert_bits(run(view, *values), expected, name)
        for name, view in expansions(x):
            assert_bits(run(view, *values), F.batch_norm(view, *values), name)


@floating
@pytest.mark.parametrize("activation", EPILOGUES)
def test_epilogue_equals_cpu(run: Run, dtype: torch.dtype, activation: Any) -> None:
    for shape in SHAPES:
        values = batch_norm_parameters(shape[1], dtype)
        x, residual = (normal(name, *shape).to(dtype) * 3 for name in ("x", "residual"))
        for addend in (None, residual):
            options = {"residual": addend, "activation": activation, "negative_slope": 0.3}
            expected = F.batch_norm(x, *values, **options)
            for name, view in list(layouts(x))[:2]:
                assert_bits(run(view, *values, **options), expected, f"{shape}, {name}")
            unaligned = torch.empty(x.numel() + 1, dtype=dtype)[1:].view(shape).copy_(x)
            assert_bits(run(unaligned, *values, **options), expected, f"{shape}, unaligned")


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
def test_all_patterns(run: Run, dtype: torch.dtype, channels_last: bool) -> None:
    patterns = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
    x = patterns.view(4, 64, 16, 16)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    for parameter_dtype in (dtype, torch.float32):
        values = batch_norm_parameters(64, parameter_dtype)
        for activation in ("none", "silu"):
            assert_bits(
                run(x, *values, residual=x, activation=activation),
                F.batch_norm(x, *values, residual=x, activation=activation),
            )


@floating
@pytest.mark.parametrize("affine", ["", "weight", "bias"])
def test_missing_parameters(run: Run, dtype: torch.dtype, affine: str) -> None:
    mean, var, weight, bias = batch_norm_parameters(9, dtype)
    values = (mean, var, weight if affine == "weight" else None, bias if affine == "bias" else None)
    for _, x in layouts(normal("x", 2, 9, 4, 3).to(dtype)):
        assert_bits(run(x, *values), F.batch_norm(x, *values))


def test_parameters_of_any_value(run: Run) -> None:
    for dtype in FLOATING:
        mean, var, weight, bias = (any_bits(name, (999,), dtype) for name in "abcd")
        x = any_bits("x", (3, 999), dtype)
        for eps in (0.0, 1e-5, 1e-42):
            expected = F.batch_norm(x, mean, var, weight, bias, eps=eps)
            assert_bits(run(x, mean, var, weight, bias, eps=eps), expected, f"{dtype}, {eps}")


def test_parameter_layouts(run: Run) -> None:
    x = normal("x", 2, 5, 3, 3)
    for index in range(4):
        values = batch_norm_parameters(5, torch.float32)
        values[index] = torch.full((10,), math.nan)[1::2].copy_(values[index])
        assert_bits(run(x, *values), F.batch_norm(x, *values))


def test_residual_layouts(run: Run) -> None:
    x, residual = normal("x", 2, 9, 4, 3), normal("residual", 2, 9, 4, 3)
    values = batch_norm_parameters(9, torch.float32)
    expected = F.batch_norm(x, *values, residual=residual)
    for name, view in layouts(x):
        for _, addend in layouts(residual):
            assert_bits(run(view, *values, residual=addend), expected, name)


def test_sample_alone_and_in_a_batch(run: Run) -> None:
    values = batch_norm_parameters(12, torch.float32)
    x = normal("x", 17, 12, 9, 5)
    for _, view in list(layouts(x))[:2]:
        whole = run(view, *values)
        for size in (1, 2, 3, 5):
            for start in (0, 7, 17 - size):
                part = run(view[start : start + size], *values)
                assert_bits(part, whole[start : start + size])


def test_large_batch(run: Run) -> None:
    """Above the limit of a grid's y and z."""
    values = batch_norm_parameters(3, torch.float32)
    for shape in ((65537, 3), (65537, 3, 1, 2)):
        x = normal("x", *shape)
        assert_bits(run(x, *values), F.batch_norm(x, *values))


def test_empty(run: Run) -> None:
    for shape in ((0, 5, 3, 3), (2, 5, 0, 3)):
        assert run(torch.zeros(shape), *batch_norm_parameters(5, torch.float32)).shape == shape


# ---- The emulation's own dimensions --------------------------------------------------------------


@pytest.mark.parametrize("multiprocessors", [1, 2, 200])
def test_any_grid(controls: Any, multiprocessors: int) -> None:
    """The number of blocks follows the device; the bits do not."""
    controls.device(multiprocessors=multiprocessors)
    for dtype in FLOATING:
        for shape in ((37, 24, 5, 5), (9, 130), (5, 40, 8, 8)):
            x, values = normal("x", *shape).to(dtype), batch_norm_parameters(shape[1], dtype)
            for _, view in list(layouts(x))[:2]:
                assert_bits(backend("emulated")(view, *values), F.batch_norm(view, *values))


@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=5),
    st.sampled_from(FLOATING),
    st.booleans(),
    st.sampled_from(EPILOGUES),
    st.integers(0, 50),
    st.integers(0, 2**32),
)
def test_any_shape(
    shape: list[int], dtype: torch.dtype, add: bool, activation: Any, layout: int, seed: int
) -> None:
    operators().seed(seed)
    values = batch_norm_parameters(shape[1], dtype)
    x = any_bits(shape, shape, dtype)
    options = {"residual": normal("r", *shape).to(dtype) if add else None, "activation": activation}
    views = list(layouts(x))
    name, view = views[layout % len(views)]
    expected = F.batch_norm(x, *values, **options)
    assert_bits(backend("emulated")(view, *values, **options), expected, f"{name}, seed {seed}")


# ---- What only a GPU shows -----------------------------------------------------------------------


@pytest.mark.cuda
def test_on_a_side_stream_and_in_a_graph() -> None:
    x, values = normal("x", 8, 24, 16, 16), batch_norm_parameters(24, torch.float32)
    expected = F.batch_norm(x, *values, activation="relu")
    gx, gvalues = x.cuda(), [v.cuda() for v in values]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = F.batch_norm(gx, *gvalues, activation="relu")
    stream.synchronize()
    assert_bits(result, expected)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        result = F.batch_norm(gx, *gvalues, activation="relu")
    for scale in (1, 3):
        gx.copy_(x * scale)
        graph.replay()
        assert_bits(result, F.batch_norm(x * scale, *values, activation="relu"))


@pytest.mark.cuda
def test_the_tensors_own_device() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    x, values = normal("x", 8, 24, 16, 16), batch_norm_parameters(24, torch.float32)
    with torch.cuda.device(0):
        result = F.batch_norm(x.to("cuda:1"), *(v.to("cuda:1") for v in values))
    assert result.device.index == 1
    assert_bits(result, F.batch_norm(x, *values))


@pytest.mark.cuda
def test_tensors_on_two_devices() -> None:
    values = batch_norm_parameters(5, torch.float32)
    with pytest.raises(RuntimeError, match="`running_mean`"):
        F.batch_norm(torch.zeros(2, 5, device="cuda"), *values)


@pytest.mark.cuda
def test_more_than_2_to_the_31_elements() -> None:
    channels, rows = 8, 2**28 + 3
    values = [v.cuda() for v in batch_norm_parameters(channels, torch.float16)]
    for shape in ((rows, channels), (1, channels, rows)):
        x = torch.empty(shape, dtype=torch.float16, device="cuda").normal_()
        result = F.batch_norm(x, *values)
        for start in (0, rows // 2, rows - 1000):
            dim = 0 if len(shape) == 2 else 2
            part = x.narrow(dim, start, 1000).cpu()
            expected = F.batch_norm(part, *(v.cpu() for v in values))
            assert_bits(result.narrow(dim, start, 1000), expected)


@pytest.mark.cuda
def test_a_model_patched_on_the_gpu() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU()
    ).eval()
    x = normal("x", 2, 3, 7, 7)
    with torch.no_grad():
        expected = bninv.patch(copy.deepcopy(model), strict=True)(x)
        found = bninv.patch(model.cuda(), strict=True)(x.cuda())
    assert found.is_cuda
    assert_bits(found, expected)
