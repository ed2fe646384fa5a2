"""A network's time by operator: the patched model's are bninv's, the stock model's are not."""

from __future__ import annotations

import pytest

from benchmarks.time_by_operator import measure, shares


@pytest.mark.usefixtures("one_thread")
def test_a_small_model() -> None:
    row = measure("test_convnext", 1)
    assert "aten::mkldnn_convolution" in row["stock"]
    assert not any(name.startswith("bninv::") for name in row["stock"])
    assert {"bninv::conv2d", "bninv::layer_norm"} <= set(row["bninv"])
    assert list(row["bninv"].values()) == sorted(row["bninv"].values(), reverse=True)


def test_shares_of_the_longest() -> None:
    times = {f"aten::op{i}": float(10 - i) for i in range(8)}
    assert shares(times).startswith("op0 19%, op1 17%") and "op6" not in shares(times)
