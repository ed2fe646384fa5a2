"""patch(precision=...): which products run by R9, and what keeps it."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bninv
from tests.support.properties import assert_bits, normal

CLASSES = ("tensor-A", "tensor-H")


class Head(nn.Module):
    """Products in a module's own code, by every function that R9 reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal("w", 40, 48))

    def forward(self, x: Tensor) -> list[Tensor]:
        w = self.weight
        row, square = w[0], w[:, :40]
        return [
            F.linear(x, w),
            x @ w.t(),
            torch.mm(x[0], w.t()),
            torch.bmm(x, w.t().expand(len(x), 48, 40)),
            torch.matmul(x, row),
            torch.mv(x[0], row),
            torch.dot(x[0, 0], row),
            torch.addmm(row[:40], x[0], w.t()),
            torch.addmm(row[:40], x[0], w.t(), beta=0.5),
            torch.addmv(x[0, :, 0], x[0], row),
            torch.baddbmm(x[:, :1, :40], x, w.t().expand(len(x), 48, 40), alpha=2),
            torch.linalg.multi_dot([x[0], w.t(), square]),
            torch.einsum("bnk,ok->bno", x, w),
            F.conv2d(x[:, None], w[:, None, None, :3]),
            F.conv1d(x.transpose(1, 2), w[:, :, None]),
        ]


def products_by(precision: Any, x: Tensor, w: Tensor) -> list[Tensor]:
    """What Head computes, by bninv's functions."""
    from bninv import functional as B

    how = {"precision": precision}
    row, square, wide = w[0], w[:, :40], w.t().expand(len(x), 48, 40)
    return [
        B.linear(x, w, **how),
        B.linear(x, w, **how),
        B.linear(x[0], w, **how),
        B.matmul(x, wide, **how),
        B.linear(x, row[None], **how).squeeze(-1),
        B.linear(x[0], row[None], **how).squeeze(-1),
        B.linear(x[0, 0], row[None], **how).squeeze(-1),
        B.linear(x[0], w, row[:40], **how),
        B.baddbmm(row[:40], x[:1], wide[:1], beta=0.5, **how)[0],
        B.baddbmm(x[0, :, :1], x[:1], row[None, :, None], **how)[0, :, 0],
        B.baddbmm(x[:, :1, :40], x, wide, alpha=2, **how),
        B.matmul(B.linear(x[0], w, **how), square, **how),
        B.linear(x, w, **how),
        B.conv2d(x[:, None], w[:, None, None, :3], **how),
        B.conv1d(x.transpose(1, 2), w[:, :, None], **how),
    ]


@pytest.mark.parametrize("precision", ["ieee", *CLASSES])
def test_calls_in_a_models_own_code(precision: Any) -> None:
    x, head = normal("x", 3, 17, 48), Head().eval()
    expected = products_by(precision, x, head.weight.detach())
    ieee = products_by("ieee", x, head.weight.detach())
    moved = [not torch.equal(a, b) for a, b in zip(expected, ieee, strict=True)]
    assert all(moved) if precision != "ieee" else not any(moved)
    patched = bninv.patch(copy.deepcopy(head), precision=precision)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for found, wanted in zip(patched(x), expected, strict=True):
            assert_bits(found, wanted)
        with bninv.invariant(precision=precision):
            for found, wanted in zip(head(x), expected, strict=True):
                assert_bits(found, wanted)
        # A strict one looks at every operator: there they are PyTorch's own.
        with bninv.invariant(precision=precision, strict=True):
            assert_bits(head(x)[0], expected[0])


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU()),
        nn.Conv2d(64, 64, 3, groups=2),
        nn.Conv2d(64, 64, 3, groups=4),
        nn.Conv2d(64, 32, 1, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(32, 8, 3),
        nn.Flatten(),
        nn.Linear(8 * 36, 10),
        nn.GELU(),
    )
    return model.eval()


def test_layers_and_where_r9_does_not_reach() -> None:
    model, x = convolutions(), normal("x", 2, 3, 8, 8)
    assert bninv.products(model) == []
    patched = bninv.patch(copy.deepcopy(model), precision="tensor-H")
    names = {product.name: product for product in bninv.products(patched)}
    assert [p.precision for p in names.values()] == ["tensor-H"] * 2 + ["ieee"] + [
        "tensor-H",
        "ieee",
        "tensor-H",
    ]
    assert "groups of 16 input channels, fewer than 32" in str(names["2"])
    assert "transposed" in names["4"].reason and str(names["6"]) == "6 (Linear): tensor-H"
    whole = bninv.products(bninv.patch(model.double(), precision="tensor-H"))
    assert {p.precision for p in whole} == {"ieee"} and "float64" in whole[0].reason

    ieee = bninv.patch(copy.deepcopy(model).float())
    assert {p.precision for p in bninv.products(ieee)} == {"ieee"}
    for (name, one), (_, other) in zip(patched.named_modules(), ieee.named_modules(), strict=True):
        if name not in names:
            continue
        channels = one.weight.shape[1] * getattr(one, "groups", 1)
        if isinstance(one, nn.ConvTranspose2d):
            channels = one.weight.shape[0]
        given = normal(name, 2, *((channels, 9, 9) if one.weight.dim() == 4 else (channels,)))
        with torch.no_grad():
            same = torch.equal(one(given), other(given))
        assert same == (names[name].precision == "ieee"), name
    with torch.no_grad():
        assert torch.equal(patched(x)[:1], patched(x[:1]))


def ways(model: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
    x = normal("x", 2, 3, 8, 8)
    return {
        "copied": copy.deepcopy(model),
        "pickled": pickle.loads(pickle.dumps(model)),
        "compiled": torch.compile(copy.deepcopy(model), backend="eager", fullgraph=True),
        "exported": torch.export.export(model, (x,)).module(),
        "traced": torch.jit.trace(model, x),
        "a part of it": lambda x: model[1:](model[0](x)),
    }


@pytest.mark.parametrize("precision", CLASSES)
def test_precision_stays_with_the_model(precision: Any) -> None:
    x = normal("x", 2, 3, 8, 8)
    with torch.no_grad():
        model = bninv.patch(convolutions(), precision=precision)
        expected = model(x)
        apart = bninv.patch(convolutions(), precision=precision, fuse=False)
        assert_bits(apart(x), expected, "unfused")
        for name, way in ways(model).items():
            assert_bits(way(x), expected, name)
        # By the class of the device: on a CPU that is chosen for a thread and a scope.
        own = bninv.patch(convolutions(), precision="tensor")
        with bninv.emulate(precision):
            assert_bits(own(x), expected, "emulated")
        with pytest.raises(RuntimeError, match="`precision` is 'tensor' and `input` is on the CPU"):
            own(x)


def test_the_last_patch_decides_and_unpatch_ends_it() -> None:
    x = normal("x", 2, 3, 8, 8)
    with torch.no_grad():
        stock = convolutions()(x)
        ieee = bninv.patch(convolutions())(x)
        model = bninv.patch(convolutions(), precision="tensor-H")
        tensor = model(x)
        assert not torch.equal(tensor, ieee)
        assert_bits(bninv.patch(model)(x), ieee)
        assert_bits(bninv.patch(model, precision="tensor-H")(x), tensor)
        assert_bits(bninv.unpatch(model)(x), stock)
        assert_bits(bninv.patch(model)(x), ieee, "patched again")


def test_a_model_keeps_its_own_inside_another() -> None:
    x = normal("x", 3, 17, 48)
    tensor = bninv.patch(Head().eval(), precision="tensor-A")
    ieee = bninv.patch(Head().eval())
    with torch.no_grad():
        wanted = {"tensor-A": tensor(x)[0], "ieee": ieee(x)[0]}
        assert not torch.equal(*wanted.values())
        with bninv.invariant(precision="tensor-A"):
            assert_bits(ieee(x)[0], wanted["ieee"])
        with bninv.invariant():
            assert_bits(tensor(x)[0], wanted["tensor-A"])
            assert_bits(F.linear(x, ieee.weight), wanted["ieee"], "afterwards")

        class Both(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.tensor = tensor

            def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
                return F.linear(x, ieee.weight), self.tensor(x)[0]

        outer = bninv.patch(Both().eval(), filter_fn=lambda module, name: name == "")
        outer.tensor._bninv_policy = copy.copy(outer.tensor._bninv_policy)
        outer.tensor._bninv_policy.precision = "tensor-A"
        assert_bits(outer(x)[0], wanted["ieee"])
        assert_bits(outer(x)[1], wanted["tensor-A"])


@pytest.mark.parametrize("value", ["tf32", None, 1, "Tensor"])
def test_another_word_is_refused_before_anything_changes(value: Any) -> None:
    model = convolutions()
    with pytest.raises(ValueError, match="`precision` is .* it may be 'ieee', 'tensor'"):
        bninv.patch(model, precision=value)
    assert type(model[1]) is nn.Conv2d
    with pytest.raises(ValueError, match="`precision` is"):
        bninv.invariant(precision=value)


def test_idle_tensor_cores_are_mentioned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from bninv.patching import products

    model = bninv.patch(convolutions().bfloat16())
    assert products.slow_halves(model) == ""  # on a CPU
    monkeypatch.setattr(products.tensor_cores, "arithmetic", lambda device: "tensor-H")
    monkeypatch.setattr(Tensor, "is_cuda", True)
    with pytest.warns(bninv.SpeedWarning, match="bfloat16 weights .* precision='tensor'") as said:
        bninv.patch(model)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", bninv.SpeedWarning)
        bninv.patch(model, precision="tensor")
        bninv.patch(convolutions())
