"""`precision` as an argument: emulate, arithmetic, torch.compile, torch.export, opcheck."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bninv
import bninv.functional as F
from tests.support.properties import assert_bits, normal

X, W, B = normal("x", 3, 40), normal("w", 7, 40), normal("b", 7)
WORDS = ("tensor-A", "tensor-H")


def product(word: Any = "tensor") -> Tensor:
    return F.linear(X, W, B, precision=word)


def needs_emulate() -> None:
    with pytest.raises(RuntimeError, match="bninv.emulate"):
        product()


def test_emulate() -> None:
    a, h = product("tensor-A"), product("tensor-H")
    assert not torch.equal(a, h)
    needs_emulate()
    with bninv.emulate("tensor-A"):
        assert_bits(product(), a)
        with bninv.emulate("tensor-H"):
            assert_bits(product(), h)
            # What is named stays what it is.
            assert_bits(product("tensor-A"), a)
            assert_bits(product("ieee"), F.linear(X, W, B))
        assert_bits(product(), a)
    needs_emulate()


def test_emulate_ends_with_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), bninv.emulate("tensor-H"):
        raise ZeroDivisionError
    needs_emulate()


def test_emulate_is_of_one_thread() -> None:
    found: list[Tensor | BaseException] = []

    def other() -> None:
        try:
            found.append(product())
        except RuntimeError as error:
            found.append(error)

    with bninv.emulate("tensor-H"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        x = normal("x", 500, 40)  # enough rows for several threads of PyTorch's own
        torch.set_num_threads(3)
        result = F.linear(x, W, precision="tensor")
    assert isinstance(found[0], RuntimeError)
    assert_bits(result, F.linear(x, W, precision="tensor-H"))


@pytest.mark.parametrize("wrong", ["ieee", "tensor", "H", None])
def test_emulate_names_its_argument(wrong: Any) -> None:
    message = "`arithmetic` is .*; it may be 'tensor-A' or 'tensor-H'"
    with pytest.raises(ValueError, match=message), bninv.emulate(wrong):
        pass


def test_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("cpu", torch.device("cpu"), "meta"):
        assert bninv.arithmetic(device) == "ieee"
    known = {
        (7, 0): "ieee",
        (7, 5): "ieee",
        (8, 0): "tensor-A",
        (8, 6): "tensor-A",
        (8, 9): "tensor-A",
        (9, 0): "tensor-H",
        (10, 0): "tensor-H",
        (10, 3): "tensor-H",
        (11, 0): "ieee",
        (12, 0): "tensor-H",
        (13, 0): "ieee",
    }
    for capability, name in known.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert bninv.arithmetic("cuda:0") == bninv.arithmetic(torch.device("cuda")) == name


def test_arithmetic_names_its_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(device: Any) -> Any:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch.cuda, "get_device_capability", missing)
    for wrong in ("cuda", "gpu", None, 3.5):
        with pytest.raises(ValueError, match="`device` is .*; it may be"):
            bninv.arithmetic(wrong)


def test_versions() -> None:
    assert bninv.TENSOR_CONTRACT_VERSION == 1 and bninv.CONTRACT_VERSION == 1


# ---- The operators are ordinary PyTorch ones -----------------------------------------------------

IMAGE, FILTERS = normal("x", 2, 12, 6, 5), normal("w", 8, 12, 3, 3)
NORM = (normal("m", 8), normal("v", 8).abs() + 0.5, None, None, 1e-5)
OPERATORS: dict[str, tuple[Any, ...]] = {
    "conv2d": (IMAGE, FILTERS, None, [1, 1], [1, 1], [1, 1], 1),
    "conv2d_fused": (IMAGE, FILTERS, None, [1, 1], [1, 1], [1, 1], 1, *NORM, None, "relu", 0.01),
    "linear": (X, W, B),
    "linear_fused": (X, W, B, None, "relu", 0.01),
}


@pytest.mark.parametrize("word", ["ieee", *WORDS])
@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(name: str, word: str) -> None:
    torch.library.opcheck(getattr(torch.ops.bninv, name).default, (*OPERATORS[name], word))


@pytest.mark.parametrize("name", OPERATORS)
def test_calls_without_the_argument_are_ieee(name: str) -> None:
    operator = getattr(torch.ops.bninv, name)
    assert_bits(operator(*OPERATORS[name]), operator(*OPERATORS[name], "ieee"))


class Layers(nn.Module):
    def __init__(self, word: str) -> None:
        super().__init__()
        self.word: Any = word

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d_fused(x, FILTERS, activation="relu", padding=1, precision=self.word)
        y = F.conv2d(y, FILTERS[:, :8], padding="same", precision=self.word)
        y = F.linear(y.flatten(1), normal_weight, precision=self.word)
        return F.matmul(y, W[:5, :5], precision=self.word)


normal_weight = normal("w", 5, 8 * 6 * 5) / 8


def compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    torch._dynamo.reset()
    return torch.compile(model, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize("word", WORDS)
def test_compile_keeps_the_precision(word: str) -> None:
    with torch.no_grad():
        expected = Layers(word)(IMAGE)
        assert not torch.equal(expected, Layers("ieee")(IMAGE))
        assert_bits(compiled(Layers(word))(IMAGE), expected)


def test_compiled_tensor_is_what_is_emulated_when_it_runs() -> None:
    with torch.no_grad():
        run = compiled(Layers("tensor"))
        for word in (*WORDS, *WORDS):
            with bninv.emulate(word):
                assert_bits(run(IMAGE), Layers(word)(IMAGE), word)
        with pytest.raises(RuntimeError, match="bninv.emulate"):
            run(IMAGE)


def test_export_keeps_the_precision() -> None:
    with torch.no_grad():
        for word in WORDS:
            program = torch.export.export(Layers(word), (IMAGE,))
            assert_bits(program.module()(IMAGE), Layers(word)(IMAGE), word)
            nodes = [n for n in program.graph.nodes if "bninv" in str(n.target)]
            assert len(nodes) == 4 and all(word in n.args for n in nodes)
