"""Suppression of boxes on CUDA keeps what the CPU keeps: emulated everywhere, on a GPU if any."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.boxes import THRESHOLDS, hostile_boxes
from tests.support.emulated import operators
from tests.support.on_cuda import assert_as_cpu
from tests.support.properties import expansions, layouts
from tests.support.reference_dtypes import FLOATING

floating = pytest.mark.parametrize("dtype", FLOATING, ids=str)


@floating
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 257, 600])
def test_hostile_boxes(device: str, count: int, dtype: torch.dtype) -> None:
    for seed in range(12 if device == "cuda" or count < 100 else 4):
        boxes, scores, idxs = hostile_boxes(seed, count, dtype)
        for threshold in (0.5, THRESHOLDS[seed % len(THRESHOLDS)]):
            for classes in (None, idxs):
                assert_as_cpu(
                    device, "nms", boxes, scores, threshold, classes, message=f"seed {seed}"
                )


def test_layouts(device: str) -> None:
    boxes, scores, idxs = hostile_boxes(0, 70, torch.float32)
    for name, view in (*layouts(boxes), *expansions(boxes)):
        assert_as_cpu(device, "nms", view, scores, 0.4, idxs, message=name)
    for name, view in (*layouts(scores), *expansions(scores)):
        assert_as_cpu(device, "nms", boxes, view, 0.4, None, message=name)
    every_second = torch.full((140,), 77)[::2].copy_(idxs)
    assert_as_cpu(device, "nms", boxes, scores, 0.4, every_second)


# ---- The emulation's own dimensions --------------------------------------------------------------


@given(
    st.integers(0, 200),
    st.integers(0, 2**32),
    st.sampled_from(THRESHOLDS),
    st.booleans(),
    st.sampled_from(FLOATING),
)
def test_any_problem(
    count: int, seed: int, threshold: float, has_classes: bool, dtype: torch.dtype
) -> None:
    operators().seed(seed)
    boxes, scores, idxs = hostile_boxes(seed, count, dtype)
    classes = idxs if has_classes else None
    assert_as_cpu("emulated", "nms", boxes, scores, threshold, classes, message=f"seed {seed}")
