"""Ways of writing a block: which ones fuse, which ones are left alone; all give their own bits."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bninv
from bninv.testing import assert_bitwise_equal
from tests.support.fusing_blocks import Y, operators, tensors, with_statistics

pytestmark = pytest.mark.usefixtures("one_thread")
TRUST = ("user", __name__)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2


class Pieces(nn.Module):
    FLAG = True
    SEEN: list[int] = []

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.other = nn.Conv2d(6, 6, 1)
        self.norm, self.norm1d = nn.BatchNorm2d(6), nn.BatchNorm1d(6)
        self.act, self.flat = nn.ReLU(inplace=True), nn.ReLU()
        self.linear = nn.Linear(7, 7)
        self.numbers, self.table, self.calls = [6, 6], {"a": 1}, 0
        self.factor: Any = 0.0
        self.gamma: Any = nn.Parameter(torch.full((1,), 3.0))
        self.register_parameter("delta", None)
        self.note, self.nothing = None, nn.Sequential()


def block_of(body: str, module: str = "user") -> nn.Module:
    """A block with that code, in which `{y}` is a chain; of that module."""
    y = "y = self.act(self.norm(self.conv(x)))"
    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "Tensor": Tensor, "Y": Y}
    names |= {"Doubled": Doubled, "BIG": 1000, "NAME": "relu", "SMALL": 0.5, "COUNT": 0}
    names |= {"random": random, "__name__": module}
    exec(f"def forward(self, x, *rest):\n    {body.format(y=y)}", names)
    torch.manual_seed(5)
    cls = type("Custom", (Pieces,), {"forward": names["forward"], "__module__": module})
    return with_statistics(cls())


# The chains that are found, None for a block that is left alone; and the code.
CODE: dict[str, tuple[int | None, str]] = {
    "an attribute set": (None, "self.calls += 1; return self.act(self.conv(x))"),
    "an attribute set to nothing": (None, "self.calls_made = None; return self.act(self.conv(x))"),
    "a layer exchanged": (None, "self.flat = self.linear; return self.act(self.conv(x))"),
    "an empty container": (1, "{y}; return self.nothing(y) * len(self.nothing)"),
    "a list of its own": (None, "self.numbers.append(1); return self.act(self.conv(x))"),
    "a class's list": (None, "self.SEEN.append(1); return self.act(self.conv(x))"),
    "a dict read": (1, "{y}; return y * self.table['a']"),
    "values": (None, "{y}; return -y if y.sum() > 0 else y"),
    "a size": (None, "return self.act(self.conv(x if x.shape[0] > 1 else -x))"),
    "a context": (
        1,
        "{y}\n    with torch.autocast('cpu', enabled=False):\n        return self.conv(y)",
    ),
    "autocast": (
        None,
        "with torch.autocast('cpu', torch.bfloat16):\n        return self.act(self.conv(x))",
    ),
    "another grad mode": (
        None,
        "with torch.enable_grad():\n        return self.act(self.conv(x))",
    ),
    "the grad mode": (1, "{y}; return y * (1 if torch.is_grad_enabled() else 2)"),
    "a random tensor": (None, "{y}; return y * torch.rand(7)"),
    "a tensor of its own": (None, "{y}; return y * torch.ones(7, dtype=x.dtype)"),
    "a tensor of the default dtype": (None, "{y}; return y * torch.ones(7)"),
    "a tensor from outside": (None, "{y}; return y + Y"),
    "an autograd function": (None, "{y}; return Doubled.apply(y)"),
    "a tensor of a tensor": (None, "{y}; return torch.as_tensor(y) * 2"),
    "a checkpoint": (
        None,
        "from torch.utils.checkpoint import checkpoint\n"
        "    return checkpoint(self.act, self.conv(x), use_reentrant=True)",
    ),
    "a dtype compared by is": (None, "{y}; return y * 2 if x.dtype is torch.float32 else y"),
    "a dtype compared": (None, "{y}; return y * 2 if x.dtype == torch.float32 else y"),
    "a dtype in a set": (None, "{y}; return y * 2 if x.dtype in {{torch.float32}} else y"),
    "a dtype as text": (None, "{y}; return y * 2 if str(x.dtype) == 'torch.float32' else y"),
    "a device in a format": (None, "{y}; return y * 2 if f'{{x.device}}' == 'cpu' else y"),
    "a device looked up": (None, "{y}; return y * {{'cpu': 2.0}}.get(x.device.type, 1.0)"),
    "a type compared": (None, "{y}; return y * 2 if type(x) == Tensor else y"),
    "a parameter's class": (
        None,
        "{y}; return y * 2 if isinstance(self.gamma, nn.Parameter) else y",
    ),
    "no gradient": (None, "{y}; return y * 2 if x.grad_fn is None else y"),
    "one tensor or two": (None, "{y}; return y * 2 if self.act(y) is y else y"),
    "an attribute that a tensor lacks": (
        None,
        "{y}; return y.logits if hasattr(y, 'logits') else y",
    ),
    "an error handled": (
        None,
        "{y}\n    try:\n        n = len(x)\n    except TypeError:\n        n = 9\n    return y * n",
    ),
    "a global set": (None, "global COUNT; COUNT += 1; return self.act(self.conv(x))"),
    "an ordered dict": (None, "{y}; import collections; return collections.OrderedDict(y=y)"),
    "a list that is added to": (None, "{y}; rest[0].append(y); return y"),
    "a list that is taken from": (None, "{y}; return y + rest[0].pop()"),
    "a norm of another rank": (1, "return self.act(self.norm1d(self.conv(x).flatten(2)))"),
    "lists": (
        2,
        "a, b = torch.split(self.act(self.norm(torch.cat([x, x], 1)[:, :6])), [2, 4], 1)\n"
        "    return self.act(self.conv(torch.cat([a, b], 1))) * self.numbers[0]",
    ),
    "an isinstance": (
        1,
        "x = x if isinstance(x, Tensor) else x[0]; return self.act(self.conv(x))",
    ),
    "two uses": (1, "y = self.conv(x); return self.act(self.norm(y)) + y"),
    "an input that is changed": (
        1,
        "y = self.conv(x); x.mul_(2); return self.act(self.norm(y)) + x",
    ),
    "a residual first": (1, "return self.act(x + self.norm(self.conv(x)))"),
    "into the shortcut": (
        1,
        "x = x.clone(); x += self.norm(self.conv(x)); return self.act(x)",
    ),
    "functions": (
        2,
        "return F.hardswish(self.linear(F.relu(self.conv(x), inplace=True)) + x)",
    ),
    "a slope": (0, "return F.leaky_relu(self.conv(x), 0.3)"),
    "a number added": (0, "return self.act(self.conv(x) + 1)"),
    "several results": (
        2,
        "{y}; return self.act(self.other(x) + y), dict(y=y)",
    ),
    "sizes unpacked": (1, "{y}; b, c, h, w = x.shape; return y.reshape(b, c * h * w)"),
    "a size read before it changes": (
        1,
        "{y}; s = y.shape; y = y.unsqueeze(0); y.squeeze_(0); return y.reshape(s)",
    ),
    "globals": (1, "{y}; return y * SMALL if BIG == 1000 and NAME == 'relu' else y"),
    "a class's flag": (1, "{y}; return y * 2 if self.FLAG else y"),
    "a number of the block's": (1, "{y}; return y * self.factor"),
    "a parameter": (1, "{y}; return y * self.gamma"),
    "a parameter that may come": (1, "{y}; return y if self.delta is None else y * self.delta"),
    "an attribute that may go": (1, "{y}; return y if self.note is None else -y"),
    "a module that may come": (1, "{y}; return self.late(y) if hasattr(self, 'late') else y"),
    "keyword arguments": (1, "{y}; return self.act(input=self.norm(input=self.conv(input=y)))"),
    "a view of the sum": (2, "{y}; return self.act(x + self.norm(self.conv(y))).view(-1)"),
    "an activation in between": (1, "y = self.conv(x); z = self.flat(x); return self.norm(y) + z"),
    "modules counted": (1, "{y}; return y * len(list(self.children()))"),
}
LATER: dict[str, Callable[[Any], Any]] = {
    "a class's flag": lambda m: setattr(type(m), "FLAG", False),
    "a number of the block's": lambda m: setattr(m, "factor", -0.0),
    "a parameter": lambda m: setattr(m, "gamma", None),
    "an empty container": lambda m: m.nothing.append(nn.ReLU().eval()),
    "an attribute that may go": lambda m: delattr(m, "note"),
    "a parameter that may come": lambda m: setattr(m, "delta", nn.Parameter(torch.ones(1) * 3)),
    "a module that may come": lambda m: setattr(m, "late", nn.ReLU().eval()),
    "an activation in between": lambda m: setattr(m.flat, "inplace", True),
    "a dict read": lambda m: m.table.update(a=2),
    "lists": lambda m: m.numbers.__setitem__(0, 2),
}


def both(make: Callable[[], nn.Module], **options: Any) -> tuple[nn.Module, nn.Module]:
    return bninv.patch(make(), **options), bninv.patch(make(), fuse=False)


def outcome(block: nn.Module, x: Tensor) -> list[Any]:
    """What a call returns or raises, and what becomes of its arguments and of the block."""
    random.seed(0)
    torch.manual_seed(0)
    x, xs = x.clone(), [x.clone()]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = block(x, xs)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            result = f"{type(error).__name__}: {error}"
    state = type(result), result if isinstance(result, str) else "", len(xs)
    names = block.forward.__globals__
    own = getattr(block, "calls", 0), list(getattr(block, "numbers", ())), names.get("COUNT")
    return [(state, own), *tensors((result, x))]


def assert_same_outcome(one: nn.Module, other: nn.Module, x: Tensor = Y) -> None:
    (state, *found), (expected_state, *expected) = outcome(one, x), outcome(other, x)
    assert state == expected_state
    for left, right in zip(found, expected, strict=True):
        assert_bitwise_equal(left, right)
        assert left.stride() == right.stride()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CODE)
def test_code(name: str, memory_format: torch.memory_format) -> None:
    chains, body = CODE[name]
    fused, unfused = both(lambda: block_of(body), trust=TRUST)
    for step in range(4):
        assert_same_outcome(fused, unfused, Y.contiguous(memory_format=memory_format))
        if step == 1 and name in LATER:
            LATER[name](fused)
            LATER[name](unfused)
    assert [len(type(b).SEEN) for b in (fused, unfused)] == [8 * (name == "a class's list")] * 2
    Pieces.SEEN.clear()
    assert torch._C._len_torch_function_stack() == 0
    with torch.no_grad():
        found = bninv.fusion(bninv.patch(block_of(body), trust=TRUST))
    assert (found.chains, bool(found.unfused)) == (chains or 0, chains is None), found.unfused


EFFECTS = {
    "prints": "print('forward'); return self.act(self.conv(x))",
    "draws": "return self.act(self.conv(x * random.random()))",
    "counts": "global COUNT; COUNT += 1; return self.act(self.conv(x))",
    "nothing": "return self.act(self.conv(x))",
}


@pytest.mark.parametrize("name", EFFECTS)
def test_code_that_nobody_vouches_for(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    fused, unfused = both(lambda: block_of(EFFECTS[name]))
    for _ in range(3):
        assert_same_outcome(fused, unfused)
    assert capsys.readouterr().out.count("forward") == 6 * (name == "prints")
    (left,) = bninv.fusion(fused).unfused
    assert "trust=('user',)" in left.reason and 'backend="bninv"' in left.reason
    assert operators(fused, Y)["conv2d_fused"] == 0


@pytest.mark.parametrize("inside", ["self.conv(y)", "y.sigmoid()"])
@pytest.mark.parametrize("options", ["enabled=False", "dtype=torch.bfloat16"])
def test_modes_in_code(inside: str, options: str) -> None:
    body = f"{{y}}\n    with torch.autocast('cpu', {options}):\n        return {inside}"
    fused, unfused = both(lambda: block_of(body, "timm.planted"), trust=(__name__,))
    for _ in range(2):
        assert_same_outcome(fused, unfused)
        with torch.autocast("cpu", torch.float16):
            assert_same_outcome(fused, unfused)
            assert "autocast" in bninv.fusion(fused).unfused[0].reason


def test_one_name_is_no_list_of_names() -> None:
    with pytest.raises(TypeError, match="`trust` is 'user'"):
        bninv.patch(Pieces(), trust="user")


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(6, 6, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.act(self.conv(x.mean((2, 3), keepdim=True)))


def gated() -> nn.Module:
    torch.manual_seed(5)
    return Gated().eval()


def test_calls_are_caught_in_blocks_of_a_container_of_stock_code() -> None:
    """The container runs without protection, and each block in it enters its own."""
    block = gated()
    container = nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(), block).eval()
    fused, unfused = both(lambda: copy.deepcopy(container), trust=TRUST)
    for _ in range(2):
        with torch.inference_mode():
            assert_bitwise_equal(fused(Y), unfused(Y))
    assert operators(fused, Y) == {"conv2d_fused": 2, "mean": 1}


def test_a_class_that_was_changed_since(monkeypatch: pytest.MonkeyPatch) -> None:
    fused, unfused = both(gated, trust=TRUST)
    with torch.inference_mode():
        assert_bitwise_equal(fused(Y), unfused(Y))
        monkeypatch.setattr(Gated, "forward", lambda self, x: self.act(self.conv(x)))
        assert_bitwise_equal(fused(Y), unfused(Y))
        assert_bitwise_equal(fused(Y), fused.act(fused.conv(Y)))
        monkeypatch.setattr(type(fused), "forward", lambda self, x: self.act(self.conv(x)) * 2)
        assert_bitwise_equal(fused(Y), fused.act(fused.conv(Y)) * 2)
    assert bninv.fusion(bninv.unpatch(fused)).chains == 0


class Dense(nn.Module):
    """Takes a tensor or a list of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act, self.conv = nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1)

    def forward(self, xs: Tensor | list[Tensor], twice: bool = False) -> Tensor:
        xs = [xs] if isinstance(xs, Tensor) else xs
        x = self.act(self.norm(torch.cat(xs, 0)))
        return self.conv(self.conv(x) if twice else x)


def test_structures_of_arguments() -> None:
    dense = with_statistics(Dense())
    fused, unfused = both(lambda: copy.deepcopy(dense), trust=TRUST)
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
        self.conv, self.act = nn.Conv2d(6, 6, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        return torch.erfc(x)  # this line is named


def test_uncovered_calls_are_named_by_the_model_s_line() -> None:
    lines = []
    for fuse in (True, False):
        model = bninv.patch(Wrong().eval(), fuse=fuse, trust=TRUST)
        with pytest.warns(bninv.NotInvariantWarning) as caught, torch.no_grad():
            model(Y)
        assert {str(w.message).partition(" ")[0] for w in caught} == {"aten::erfc"}
        lines.append((bninv.uncovered(model)[0].first, caught[0].filename, caught[0].lineno))
        with pytest.raises(bninv.NotInvariantError, match=r"erfc is not covered"):
            bninv.patch(Wrong().eval(), fuse=fuse, strict=True, trust=TRUST)(Y)
    assert lines[0] == lines[1]
    assert lines[0][1] == __file__
