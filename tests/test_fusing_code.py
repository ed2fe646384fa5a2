"""Code that a recording would get wrong gives what it gives unfused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fusing_blocks import Y, tensors, with_statistics
from test_fusing_ways import Pieces
from torch import Tensor, nn

import bninv
from bninv.testing import assert_bitwise_equal

pytestmark = pytest.mark.usefixtures("one_thread")


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2


class Custom(Pieces):
    """Its forward is a method, with an `isinstance` of the recording's own."""

    FLAG = True
    SEEN: list[int] = []

    def __init__(self) -> None:
        super().__init__(F.relu)
        self.factor: Any = 0.0
        self.gamma: Any = nn.Parameter(torch.full((1,), 3.0))
        self.register_parameter("delta", None)


def method(body: str, module: str = "user") -> type[Custom]:
    """A block with that code after `y = self.act(self.norm(self.conv(x)))`, of that module."""
    source = f"def forward(self, x, *rest):\n    y = self.act(self.norm(self.conv(x)))\n{body}"
    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "Tensor": Tensor, "__name__": module}
    names |= {"Doubled": Doubled, "BIG": 1000, "NAME": "relu", "SMALL": 0.5, "COUNT": 0}
    exec(source, names)
    return type("Custom", (Custom,), {"forward": names["forward"], "__module__": module})


# What a forward may go on with; where recording it would be wrong, the block has to be left alone.
BODIES = {
    "an autograd function": "    return Doubled.apply(y)",
    "a tensor of a tensor": "    return torch.as_tensor(y) * 2",
    "a checkpoint": (
        "    from torch.utils.checkpoint import checkpoint\n"
        "    return checkpoint(self.act, y, use_reentrant=True)"
    ),
    "a dtype compared by is": "    return y * 2 if x.dtype is torch.float32 else y",
    "a dtype compared": "    return y * 2 if x.dtype == torch.float32 else y",
    "a dtype in a set": "    return y * 2 if x.dtype in {torch.float32} else y",
    "a dtype as text": "    return y * 2 if str(x.dtype) == 'torch.float32' else y",
    "a device in a format": "    return y * 2 if f'{x.device}' == 'cpu' else y",
    "a device looked up": "    return y * {'cpu': 2.0}.get(x.device.type, 1.0)",
    "a type compared": "    return y * 2 if type(x) == Tensor else y",
    "a parameter's class": "    return y * 2 if isinstance(self.gamma, nn.Parameter) else y",
    "no gradient": "    return y * 2 if x.grad_fn is None else y",
    "one tensor or two": "    return y * 2 if self.act(y) is y else y",
    "an attribute that a tensor lacks": "    return y.logits if hasattr(y, 'logits') else y",
    "an error handled": (
        "    try:\n        n = len(x)\n    except TypeError:\n        n = 100\n    return y * n"
    ),
    "a context": "    with torch.autocast('cpu', enabled=False):\n        return self.conv(y)",
    "sizes unpacked": "    b, c, h, w = x.shape\n    return y.reshape(b, c * h * w)",
    "too few variables": "    b, c = x.shape\n    return y",
    "a size read before it changes": (
        "    s = y.shape\n    y = y.unsqueeze(0)\n    y.squeeze_(0)\n    return y.reshape(s)"
    ),
    "globals": "    return y * SMALL if BIG == 1000 and NAME == 'relu' else y",
    "a class's flag": "    return y * 2 if self.FLAG else y",
    "a class's list": "    self.SEEN.append(1)\n    return y",
    "a number of the block's": "    return y * self.factor",
    "a parameter": "    return y * self.gamma",
    "a parameter that may come": "    return y if self.delta is None else y * self.delta",
    "a module that may come": "    return self.late(y) if hasattr(self, 'late') else y",
    "keyword arguments": "    return self.act(input=self.norm(input=self.conv(input=y)))",
    "a view of the sum": "    return self.act(x + self.norm(self.conv(y))).view(-1)",
    "an ordered dict": "    import collections\n    return collections.OrderedDict(y=y)",
    "modules counted": "    return y * len(list(self.children()))",
    "a list that is added to": "    rest[0].append(y)\n    return y",
    "a list that is taken from": "    return y + rest[0].pop()",
}
LATER: dict[str, Callable[[Any], Any]] = {
    "a class's flag": lambda m: setattr(type(m), "FLAG", False),
    "a number of the block's": lambda m: setattr(m, "factor", -0.0),
    "a parameter": lambda m: setattr(m, "gamma", None),
    "a parameter that may come": lambda m: setattr(m, "delta", nn.Parameter(torch.ones(1) * 3)),
    "a module that may come": lambda m: setattr(m, "late", nn.ReLU().eval()),
}


def outcome(block: nn.Module, x: Tensor) -> tuple[Any, Any]:
    """What a call returns or raises, and what becomes of a list that it is handed."""
    xs = [x.clone()]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = block(x.clone(), xs)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            return f"{type(error).__name__}: {error}", [len(xs)]
    return (type(result), *tensors(result)), [len(xs)]


def assert_same_outcome(one: nn.Module, other: nn.Module, x: Tensor) -> None:
    (a, xs), (b, ys) = outcome(one, x), outcome(other, x)
    assert xs == ys
    assert isinstance(a, str) == isinstance(b, str), (a, b)
    if isinstance(a, str):
        assert a == b
        return
    assert a[0] is b[0]
    for left, right in zip(a[1:], b[1:], strict=True):
        assert_bitwise_equal(left, right)
        assert left.stride() == right.stride()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", BODIES)
def test_code(name: str, memory_format: torch.memory_format) -> None:
    blocks = []
    for fuse in (True, False):
        torch.manual_seed(5)
        block = with_statistics(method(BODIES[name])())
        blocks.append(bninv.patch(block, fuse=fuse))
    x = Y.contiguous(memory_format=memory_format)
    for step in range(4):
        assert_same_outcome(*blocks, x)
        if step == 1 and name in LATER:
            for block in blocks:
                LATER[name](block)
    assert [len(type(b).SEEN) for b in blocks] == [8 if name == "a class's list" else 0] * 2
    Custom.SEEN.clear()
    assert torch._C._len_torch_function_stack() == 0


def test_autocast_that_is_switched_off_inside() -> None:
    blocks = []
    for fuse in (True, False):
        torch.manual_seed(5)
        block = with_statistics(method(BODIES["a context"])())
        blocks.append(bninv.patch(block, fuse=fuse))
    assert_same_outcome(*blocks, Y)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_outcome(*blocks, Y)


@pytest.mark.parametrize("body", ["    return self.conv(y)", "    return y.sigmoid()"])
@pytest.mark.parametrize("options", ["enabled=False", "dtype=torch.bfloat16"])
def test_modes_in_code_that_is_trusted(body: str, options: str) -> None:
    """Nobody watches what it calls."""
    blocks = []
    for fuse in (True, False):
        torch.manual_seed(5)
        within = f"    with torch.autocast('cpu', {options}):\n    {body}"
        cls = method(within, module="timm.planted")
        blocks.append(bninv.patch(with_statistics(cls()), fuse=fuse))
    assert "autocast" in bninv.fusion(blocks[0]).unfused[0].reason
    assert_same_outcome(*blocks, Y)
    with torch.autocast("cpu", torch.float16):
        assert_same_outcome(*blocks, Y)


def test_a_counter_goes_on() -> None:
    cls = method("    global COUNT\n    COUNT += 1\n    return y")
    block = bninv.patch(with_statistics(cls()))
    for calls in (1, 2, 3):
        outcome(block, Y)
        assert cls.forward.__globals__["COUNT"] == calls
    assert "STORE_GLOBAL" in bninv.fusion(block).unfused[0].reason
