"""Ways of writing a block: which ones fuse, which ones are left alone, and are said to be."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fusing_blocks import Y, operators, tensors, with_statistics
from torch import Tensor, nn

import bninv
from bninv.testing import assert_bitwise_equal

pytestmark = pytest.mark.usefixtures("one_thread")


class Pieces(nn.Module):
    """Layers; `forward` is given."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.other = nn.Conv2d(6, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.norm1d = nn.BatchNorm1d(6)
        self.act = nn.ReLU(inplace=True)
        self.linear = nn.Linear(7, 7)
        self.function = forward
        self.numbers = [6, 6]
        self.table = {"a": 1}
        self.calls = 0

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


COUNTER = [0]


def _counts(self: Any, x: Tensor) -> Tensor:
    self.calls += 1
    return self.act(self.conv(x))


def _prints(self: Any, x: Tensor) -> Tensor:
    print("forward")
    return self.act(self.conv(x))


def _appends(self: Any, x: Tensor) -> Tensor:
    COUNTER.append(len(COUNTER))
    return self.act(self.conv(x))


def _random(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x * random.random()))


def _changes_its_list(self: Any, x: Tensor) -> Tensor:
    self.numbers.append(1)
    return self.act(self.conv(x))


def _reads_a_dict(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) * self.table["a"]


def _looks_at_values(self: Any, x: Tensor) -> Tensor:
    x = self.act(self.conv(x))
    return -x if x.sum() > 0 else x


def _looks_at_the_size(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x if x.shape[0] > 1 else -x))


def _norm_of_another_rank(self: Any, x: Tensor) -> Tensor:
    return self.act(self.norm1d(self.conv(x).flatten(2)))


def _uses_the_list(self: Any, x: Tensor) -> Tensor:
    a, b = torch.split(self.act(self.norm(torch.cat([x, x], 1)[:, :6])), [2, 4], 1)
    return self.act(self.conv(torch.cat([a, b], 1))) * self.numbers[0]


def _asks_for_types(self: Any, x: Tensor) -> Tensor:
    if not isinstance(x, Tensor):
        x = x[0]
    return self.act(self.conv(x))


def _under_autocast(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return self.act(self.conv(x))


def _under_another_grad_mode(self: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        return self.act(self.conv(x))


def _asks_for_the_grad_mode(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) * (1 if torch.is_grad_enabled() else 2)


def _asks_for_determinism(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) * (2 if torch.are_deterministic_algorithms_enabled() else 1)


def _random_tensor(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) * torch.rand(7)


def _tensor_of_its_own(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) * torch.ones(7, dtype=x.dtype)


def _tensor_of_the_default_dtype(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) * torch.ones(7)


def _tensor_from_outside(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x)) + Y


def _two_uses(self: Any, x: Tensor) -> Tensor:
    y = self.conv(x)
    return self.act(self.norm(y)) + y


def _changes_the_input(self: Any, x: Tensor) -> Tensor:
    y = self.conv(x)
    x.mul_(2)
    return self.act(self.norm(y)) + x


def _residual_first(self: Any, x: Tensor) -> Tensor:
    return self.act(x + self.norm(self.conv(x)))


def _into_the_shortcut(self: Any, x: Tensor) -> Tensor:
    x = x.clone()
    x += self.norm(self.conv(x))
    return self.act(x)


def _functions(self: Any, x: Tensor) -> Tensor:
    return F.hardswish(self.linear(F.relu(self.conv(x), inplace=True)) + x)


def _leaky(self: Any, x: Tensor) -> Tensor:
    return F.leaky_relu(self.conv(x), 0.3)


def _number(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x) + 1)


def _several(self: Any, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return self.act(self.conv(x) + y), {"y": self.act(self.other(y))}


# The way of writing, how many operators of chains run, and whether it is reported as unfused.
WAYS: dict[Callable[..., Any], tuple[int, bool]] = {
    _counts: (0, True),
    _prints: (0, True),
    _appends: (0, True),
    _random: (0, True),
    _changes_its_list: (0, True),
    _reads_a_dict: (0, True),
    _looks_at_values: (0, True),
    _looks_at_the_size: (0, True),
    _under_autocast: (0, True),
    _under_another_grad_mode: (0, True),
    _asks_for_the_grad_mode: (0, True),
    _asks_for_determinism: (0, True),
    _random_tensor: (0, True),
    _tensor_of_its_own: (0, True),
    _tensor_of_the_default_dtype: (0, True),
    _tensor_from_outside: (0, True),
    _norm_of_another_rank: (0, False),
    _uses_the_list: (1, False),
    _asks_for_types: (0, True),
    _two_uses: (0, False),
    _changes_the_input: (0, False),
    _residual_first: (1, False),
    _into_the_shortcut: (1, False),
    _functions: (1, False),  # a residual in channels_last is laid out in another way
    _leaky: (0, False),
    _number: (0, False),
    _several: (2, False),
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
def test_ways_of_writing(way: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(4)
    block = with_statistics(Pieces(way))
    fused, unfused = bninv.patch(copy.deepcopy(block)), bninv.patch(block, fuse=False)
    operators_of_chains, reported = WAYS[way]
    args = (Y, Y.flip(0)) if way is _several else (Y,)
    calls = []
    for _ in range(3):
        appended = len(COUNTER)
        results = []
        for model in (fused, unfused):
            random.seed(0)
            torch.manual_seed(0)
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore", bninv.NotInvariantWarning)  # of random numbers
                inputs = [x.clone() for x in args]
                results.append((model(*inputs), inputs))
        for one, other in zip(*map(tensors, results), strict=True):
            assert_bitwise_equal(one, other)
        calls.append(len(COUNTER) - appended)
    assert fused.calls == unfused.calls
    assert fused.numbers == unfused.numbers
    lines = capsys.readouterr().out.count("forward")
    assert lines == (6 if way is _prints else 0)
    assert calls == [2 if way is _appends else 0] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bninv.NotInvariantWarning)
        count = operators(fused, *args)
    assert count["conv2d_fused"] + count["linear_fused"] == operators_of_chains
    assert bool(bninv.fusion(fused).unfused) == reported, bninv.fusion(fused)


class Dense(nn.Module):
    """Takes a tensor or a list of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU()
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, xs: Tensor | list[Tensor], twice: bool = False) -> Tensor:
        xs = [xs] if isinstance(xs, Tensor) else xs
        x = self.act(self.norm(torch.cat(xs, 0)))
        return self.conv(self.conv(x) if twice else x)


def test_structures_of_arguments() -> None:
    dense = with_statistics(Dense())
    fused, unfused = bninv.patch(copy.deepcopy(dense)), bninv.patch(dense, fuse=False)
    with torch.inference_mode():
        for args in ((Y,), ([Y],), ([Y, Y],), ([Y, Y, Y], True), (Y, False)):
            assert operators(fused, *args)["batch_norm"] == 1
            assert "relu" not in operators(fused, *args)
            assert_bitwise_equal(fused(*args), unfused(*args))
        assert_bitwise_equal(fused(xs=Y, twice=True), unfused(Y, True))
        for count in range(4, 20):  # more than a block keeps programs for
            assert_bitwise_equal(fused([Y] * count), unfused([Y] * count))


class Wrong(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        return torch.erfc(x)  # this line is named


def test_uncovered_calls_are_named_by_the_model_s_line() -> None:
    lines = []
    for fuse in (True, False):
        model = bninv.patch(Wrong().eval(), fuse=fuse)
        with pytest.warns(bninv.NotInvariantWarning) as caught, torch.no_grad():
            model(Y)
        assert {str(w.message).partition(" ")[0] for w in caught} == {"aten::erfc"}
        lines.append((bninv.uncovered(model)[0].first, caught[0].filename, caught[0].lineno))
        with pytest.raises(bninv.NotInvariantError, match=r"erfc is not covered"):
            bninv.patch(Wrong().eval(), fuse=fuse, strict=True)(Y)
    assert lines[0] == lines[1]
    assert lines[0][1] == __file__
