"""bninv.check: what it finds, what it must not miss, and what it must leave alone."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bninv
from bninv import exact
from bninv.checking.arrangements import arrangements, build_batch
from bninv.checking.audit import find_uncovered
from bninv.checking.batch_dim import BatchTracker, Place, take
from bninv.checking.bits import difference, digest, same_bits
from bninv.checking.blame import find_culprits
from bninv.loading.calibration import calibrate_batch_norm, is_untrained, randomize_constants


def patched(model: nn.Module) -> nn.Module:
    """`bninv.patch`, knowing that planted layers stay stock."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bninv.NotInvariantWarning)
        return bninv.patch(model)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Functional(nn.Module):
    """A layer made of one function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def small_cnn(plant: nn.Module | None = None) -> nn.Sequential:
    """Convolutions, BatchNorm, ReLU, pooling and a linear layer; `plant` in their middle."""
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(3, 16, 3, padding=1, bias=False))
    model.add_module("bn1", nn.BatchNorm2d(16))
    model.add_module("relu1", nn.ReLU(inplace=True))
    if plant is not None:
        model.add_module("plant", plant)
    model.add_module("conv2", nn.Conv2d(16, 32, 3, stride=2, bias=False))
    model.add_module("bn2", nn.BatchNorm2d(32))
    model.add_module("pool", nn.AdaptiveAvgPool2d(1))
    model.add_module("flatten", nn.Flatten())
    model.add_module("fc", nn.Linear(32, 10))
    return model.eval()


def images(count: int = 4, side: int = 12) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


# ---- The verdict ---------------------------------------------------------------------------------


def test_a_patched_cnn_passes() -> None:
    result = bninv.check(small_cnn(), images())
    assert result.invariant
    assert result.passed
    assert result.uncovered == []
    assert [row.batch_size for row in result.rows] == [1, 2, 3, 8]
    assert all(row.differing == 0 and row.elements == 4 * 10 for row in result.rows)
    assert result.patched.deviation < 1e-5


def mixes_samples(x: Tensor) -> Tensor:
    return x + 1e-3 * x.mean(0, keepdim=True)


def looks_at_the_batch_size(x: Tensor) -> Tensor:
    return x * 1.0001 if len(x) > 2 else x


def marks_the_last_position(x: Tensor) -> Tensor:
    if len(x) > 1:
        x = x.clone()
        x[-1] *= 1.0001
    return x


def lets_nan_through(x: Tensor) -> Tensor:
    return x + 0 * x.sum()


@pytest.mark.parametrize(
    "planted", [mixes_samples, looks_at_the_batch_size, marks_the_last_position, lets_nan_through]
)
def test_a_layer_that_depends_on_the_batch_is_found(planted: Callable[[Tensor], Tensor]) -> None:
    result = bninv.check(small_cnn(Functional(planted)), images())
    for side in (result.stock, result.patched):
        assert not side.invariant
        assert side.rows[0].differing == 0
        assert side.rows[-1].differing > 0
    assert not result.passed
    assert "NOT invariant" in str(result)


def test_nan_neighbours_show_as_not_a_number() -> None:
    row = bninv.check(small_cnn(Functional(lets_nan_through)), images()).rows[-1]
    assert row.max_abs == math.inf
    assert row.max_ulp is None


def test_outputs_must_be_finite_and_differ() -> None:
    same = bninv.check(small_cnn(Functional(torch.zeros_like)), images())
    assert same.invariant
    assert not same.patched.distinct
    assert not same.passed
    infinite = bninv.check(small_cnn(Functional(lambda x: x + math.inf)), images())
    assert not infinite.patched.finite
    assert not infinite.passed


def test_every_output_of_a_nested_result_is_compared() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 5)

        def forward(self, x: Tensor) -> dict[str, object]:
            pooled = x.amax((2, 3))
            moved = torch.full_like(pooled, float(len(x)))
            return {"logits": self.fc(pooled), "more": (pooled, [moved])}

    rows = bninv.check(Nested(), images()).rows
    assert rows[-1].elements == 4 * (5 + 3 + 3)
    assert rows[-1].differing == 4 * 3
    assert rows[-1].max_abs == 7


def test_an_output_without_a_batch_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"stock model failed at batch size 1.*shape \(\)"):
        bninv.check(Functional(torch.sum), images())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_sizes": ()}, "batch_sizes"),
        ({"batch_sizes": (0, 1)}, "batch_sizes"),
        ({"batch_sizes": (1, 2.0)}, "batch_sizes"),
        ({"inputs": images(1)}, "inputs"),
        ({"inputs": [1, 2]}, "inputs"),
        ({"model": torch.relu}, "model"),
        ({"grad_mode": "off"}, "grad_mode"),
        ({"samples": ["one"]}, "samples"),
    ],
)
def test_arguments_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"model": small_cnn(), "inputs": images(), **changes}
    with pytest.raises(ValueError, match=f"^{message}"):
        bninv.check(**arguments)  # type: ignore[arg-type]


# ---- What must stay as it was --------------------------------------------------------------------


def test_the_users_model_is_left_alone() -> None:
    model = small_cnn().to(memory_format=torch.channels_last).train()
    model.bn1.eval()
    bits = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    strides = {name: tensor.stride() for name, tensor in model.state_dict().items()}
    classes = [type(module) for module in model.modules()]
    training = [module.training for module in model.modules()]
    bninv.check(model, images())
    assert [type(module) for module in model.modules()] == classes
    assert [module.training for module in model.modules()] == training
    assert {name: tensor.stride() for name, tensor in model.state_dict().items()} == strides
    assert all(same_bits(model.state_dict()[name], tensor) for name, tensor in bits.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_patched_model_is_checked_as_it_is() -> None:
    expected = bninv.check(small_cnn(), images())
    model = bninv.patch(small_cnn())
    result = bninv.check(model, images())
    assert result.passed
    assert result.stock.digests == expected.stock.digests
    assert result.patched.digests == expected.patched.digests
    assert type(model.conv1) is not nn.Conv2d


@pytest.mark.parametrize("grad_mode", ["no_grad", "inference_mode", "grad"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_one_set_of_bits_in_every_mode_and_layout(
    grad_mode: str, memory_format: torch.memory_format
) -> None:
    expected = bninv.check(small_cnn(), images(), (1, 2)).patched.digests
    model = small_cnn().to(memory_format=memory_format)
    inputs = images().to(memory_format=memory_format)
    result = bninv.check(model, inputs, (1, 2), grad_mode=grad_mode)  # type: ignore[arg-type]
    assert result.passed
    assert result.patched.digests == expected


# ---- Culprits ------------------------------------------------------------------------------------


def test_the_operator_that_mixes_samples_is_blamed() -> None:
    culprits = {
        c.kind: c for c in bninv.check(small_cnn(Functional(mixes_samples)), images()).culprits
    }
    assert (culprits["mean"].moved, culprits["mean"].first) == (1, "plant")
    # What only hands on what it got is not to blame.
    assert not {"add", "mul", "relu_", "native_batch_norm"} & set(culprits)


def test_python_code_that_looks_at_the_batch_is_blamed_by_its_module() -> None:
    # Linear layers and convolutions may move by themselves; here there are none.
    model = nn.Sequential(nn.ReLU(), Functional(looks_at_the_batch_size), nn.Flatten())
    (culprit,) = bninv.check(model, images()).culprits
    assert (culprit.kind, culprit.moved, culprit.total) == ("Functional", 1, 1)
    assert culprit.first == "1"


def test_in_place_operators_are_compared_on_their_inputs() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x.clone()
            return x.mul_(3).add_(1).sub_(x.mean(0, keepdim=True))

    culprits = find_culprits(InPlace(), [images(3)])
    assert [(c.kind, c.moved, c.total) for c in culprits] == [("mean", 1, 1)]


def test_attention_is_followed_through_its_views() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            qkv = tokens.repeat(1, 1, 4).reshape(len(x), -1, 3, 2, 2).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            out = (q @ k.transpose(-2, -1)).softmax(-1) @ v
            return out.transpose(1, 2).reshape(len(x), -1)

    seen: list[str] = []
    original = BatchTracker.follow

    def spy(self: BatchTracker, results: object, inputs: object, is_view: bool) -> None:
        results = list(results)  # type: ignore[call-overload]
        original(self, results, inputs, is_view)  # type: ignore[arg-type]
        seen.append("lost" if any(self.place(t) is None for t in results) else "kept")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchTracker, "follow", spy)
        find_culprits(Attention(), [images(5)])
    assert seen
    assert "lost" not in seen


def test_batch_tracker_goes_by_memory() -> None:
    batch = torch.arange(5 * 2 * 3 * 4.0).reshape(5, 2, 3, 4)
    tracker = BatchTracker(batch)
    assert tracker.place(batch) == Place(0, 1)
    assert tracker.place(batch.permute(2, 3, 0, 1)) == Place(2, 1)
    assert tracker.place(batch.view(10, 3, 4)) == Place(0, 2)
    assert tracker.place(torch.zeros(5, 2)) is None
    assert tracker.place(batch[2]) is None
    sequence_first = batch.permute(1, 0, 2, 3).contiguous()
    tracker.follow([sequence_first], {0: Place(1, 1)}, False)
    rows = sequence_first.view(10, 12)
    place = tracker.place(rows)
    assert place == Place(0, 2, interleaved=True)
    assert torch.equal(take(rows, place, 3, 1), batch[3].reshape(2, 12))


# ---- Uncovered operators -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda x: F.softmax(x, 1), "aten::_softmax"),
        (lambda x: x - x.mean((2, 3), keepdim=True), "aten::mean"),
        (torch.sigmoid, "aten::sigmoid"),
        (lambda x: torch.add(x, x, alpha=0.3), "aten::add"),
        (lambda x: x * x.sqrt(), "aten::sqrt"),
        (lambda x: F.conv2d(x, torch.ones(16, 1, 1, 1), groups=16), "aten::convolution"),
        (lambda x: x - x.amax((2, 3), keepdim=True), "aten::amax"),
    ],
)
def test_a_functional_call_is_found(function: Callable[[Tensor], Tensor], operator: str) -> None:
    model = patched(small_cnn(nn.Sequential(Functional(function), Functional(function))))
    (entry,) = find_uncovered(model, images(2))
    assert (entry.operator, entry.count, entry.first) == (operator, 2, "plant.0")


def test_exact_functional_calls_are_not_listed() -> None:
    def exact_calls(x: Tensor) -> Tensor:
        x = F.relu(torch.cat([x[:, 8:], x[:, :8]], 1)) + 2 * x - x / 3
        return F.pad(x.clamp(-9, 9), (1, 1, 1, 1))[..., 1:-1, 1:-1].transpose(2, 3).contiguous()

    assert find_uncovered(patched(small_cnn(Functional(exact_calls))), images(2)) == []


def test_patching_names_what_it_cannot_do_in_the_notes() -> None:
    class Unknown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(16, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(x * self.weight)

    result = bninv.check(small_cnn(Unknown()), images())
    assert [entry.operator for entry in result.uncovered] == ["aten::sin"]
    assert not result.passed
    assert any("plant" in note for note in result.notes)


SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45, 1e-39, 3e38, -3e38, 1.0, 6.0]
A = torch.tensor(SPECIAL * 12 + torch.randn(99).tolist())
B = A[torch.randperm(len(A), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(
    "function",
    [
        torch.add,
        torch.sub,
        torch.mul,
        torch.div,
        lambda a, b: a * 0.3 + 0.7,
        lambda a, b: 0.7 - a / 0.3,
        lambda a, b: a.neg().abs().floor(),
        lambda a, b: F.relu(a),
        lambda a, b: F.relu6(a),
        lambda a, b: a.clamp(-1, 1),
        lambda a, b: a.clamp(min=-0.0, max=0.0),
        lambda a, b: F.leaky_relu(a, 0.1),
        lambda a, b: F.threshold(a, 0.5, 0.1),
        lambda a, b: torch.where(a > b, a, b),
    ],
)
def test_exact_elementwise_operators_are(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The same bits in a vector's body and tail, and wherever the element lies in memory."""
    whole = function(A, B)
    for start in (1, 3, 8):
        assert same_bits(function(A[start:], B[start:]), whole[start:])
    alone = torch.cat(
        [function(a.clone(), b.clone()) for a, b in zip(A.split(1), B.split(1), strict=True)]
    )
    assert same_bits(alone, whole)
    apart = function(torch.stack([A, A], 1)[:, 0], torch.stack([B, B], 1)[:, 0])
    assert same_bits(apart, whole)


aten = torch.ops.aten
HALF = torch.ones(2, dtype=torch.float16)
ONES = torch.ones(2, 2)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ((aten.add.Tensor, (ONES, ONES), {}), True),
        ((aten.add.Tensor, (ONES, ONES), {"alpha": 2}), False),
        ((aten.rsub.Scalar, (ONES, 1, 2), {}), False),
        ((aten.mul.Tensor, (HALF, HALF), {}), True),
        ((aten.mul.Tensor, (HALF, torch.tensor(0.1)), {}), False),
        ((aten.div.Tensor, (ONES, ONES), {}), True),
        ((aten.div.Tensor_mode, (ONES, ONES), {"rounding_mode": "floor"}), False),
        ((aten._to_copy.default, (HALF,), {"dtype": torch.float32}), True),
        ((aten._to_copy.default, (ONES,), {"dtype": torch.float16}), False),
        ((aten._to_copy.default, (ONES,), {"dtype": torch.bfloat16}), False),
        ((aten.index_put.default, (ONES, [torch.tensor([0])], ONES[0]), {}), True),
        ((aten.index_put.default, (ONES, [torch.tensor([0])], ONES[0], True), {}), False),
        ((aten.maximum.default, (ONES, ONES), {}), False),
        ((aten.clamp.default, (ONES, 0, 1), {}), True),
        ((aten.clamp.Tensor, (ONES, ONES), {}), False),
        ((aten.max.dim, (ONES, 1), {}), True),
        ((aten.max.default, (ONES,), {}), False),
        ((aten.amax.default, (ONES, [1]), {}), False),
        ((aten.sum.default, (torch.ones(3, dtype=torch.int64),), {}), True),
        ((aten.sum.default, (ONES,), {}), False),
        ((aten.mm.default, (ONES, ONES), {}), False),
        ((aten.bernoulli.default, (ONES,), {}), False),
    ],
)
def test_the_table_of_exact_operators(
    call: tuple[object, tuple[object, ...], dict[str, object]], expected: bool
) -> None:
    func, args, kwargs = call
    result = func(*args, **kwargs)  # type: ignore[operator]
    assert (exact.reason(func, args, kwargs, result) is not None) is expected


# ---- Bits, arrangements, calibration -------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_distance_in_ulp(dtype: torch.dtype) -> None:
    a = torch.tensor([1.0, -0.0, -2.0, 0.0], dtype=dtype)
    toward = torch.tensor([2.0, 1.0, -9.0, 0.0], dtype=dtype)
    b = torch.nextafter(a, toward)
    found = difference(a, b)
    # From -0 to the smallest number above 0 it is two steps: +0 lies between.
    assert (found.moved.tolist(), found.max_ulp) == ([True, True, True, False], 2)
    assert found.max_abs == float((a.double() - b.double()).abs().max())


def test_zeros_differ_and_nans_do_not() -> None:
    a = torch.tensor([0.0, math.nan, 1.0])
    other_nan = torch.tensor([-1], dtype=torch.int32).view(torch.float32)
    b = torch.cat([torch.tensor([-0.0]), other_nan, torch.tensor([1.0])])
    assert difference(a, b).moved.tolist() == [True, False, False]
    assert digest([a[1:]]) == digest([b[1:]])
    assert digest([a]) != digest([b])
    extremes = (
        torch.tensor([-math.inf], dtype=torch.float64),
        torch.tensor([math.inf], dtype=torch.float64),
    )
    assert difference(*extremes).max_ulp == 2 * int(np.array(math.inf).view(np.int64)) + 1


@pytest.mark.parametrize("batch_size", [2, 3, 5, 8, 17])
def test_arrangements_show_all_samples_positions_and_neighbours(batch_size: int) -> None:
    plan = arrangements(batch_size, 20)
    assert {slot for slots in plan for slot in slots} == {*range(20), -1, -2}
    assert all(len(slots) == batch_size for slots in plan)
    others = [slots for slots in plan if min(slots) == 0 and slots.count(0) == 1]
    assert {0, batch_size // 2, batch_size - 1} <= {slots.index(0) for slots in others}
    batch = build_batch(images(5), [2, -1, -2])
    assert torch.equal(batch[0], images(5)[2])
    assert batch[1].isnan().all()
    assert batch[2].isinf().all()


def test_calibration_makes_random_weights_tell_images_apart() -> None:
    model = small_cnn()
    nn.init.zeros_(model.bn2.weight)
    assert is_untrained(model)
    randomize_constants(model)
    assert calibrate_batch_norm(model, images(8)) == 2
    assert not is_untrained(model)
    assert (model.bn2.weight != 0).all()
    for norm in (model.bn1, model.bn2):
        assert (norm.running_var > 0).all()
    with torch.no_grad():
        normalised = model[:2](images(8))
        logits = model(images(8))
    x = (normalised - model.bn1.bias.view(-1, 1, 1)) / model.bn1.weight.view(-1, 1, 1)
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(16), atol=1e-3)
    assert torch.allclose(x.var((0, 2, 3)), torch.ones(16), atol=1e-2)
    assert logits.std(0).min() > 1e-3


def test_calibration_does_not_depend_on_threads_or_layout() -> None:
    def statistics(threads: int, memory_format: torch.memory_format) -> list[Tensor]:
        torch.set_num_threads(threads)
        model = small_cnn().to(memory_format=memory_format)
        calibrate_batch_norm(model, images(8).to(memory_format=memory_format))
        return [model.bn1.running_mean, model.bn1.running_var, model.bn2.running_var]

    first = statistics(1, torch.contiguous_format)
    second = statistics(2, torch.channels_last)
    assert all(same_bits(a, b) for a, b in zip(first, second, strict=True))


# ---- The report ----------------------------------------------------------------------------------


def test_json_has_the_promised_keys() -> None:
    result = bninv.check(small_cnn(Functional(lets_nan_through)), images(), name="mine")
    body = json.loads(result.to_json())
    assert body["model"] == "mine"
    assert (body["device"], body["dtype"], body["contract_version"]) == ("cpu", "float32", 1)
    assert {"invariant", "rows", "culprits"} <= set(body["stock"])
    assert {"invariant", "rows", "uncovered"} <= set(body["patched"])
    for side in ("stock", "patched"):
        for row in body[side]["rows"]:
            keys = {"batch_size", "differing", "elements", "max_abs", "max_ulp", "top1_changed"}
            assert set(row) == keys
    assert body["patched"]["rows"][-1]["max_abs"] is None  # a NaN has no distance
    for culprit in body["stock"]["culprits"]:
        assert set(culprit) == {"kind", "moved", "total", "first"}
    assert [entry["operator"] for entry in body["patched"]["uncovered"]] == ["aten::sum"]


def test_the_table_names_what_it_found() -> None:
    text = str(bninv.check(small_cnn(Functional(torch.sigmoid)), images()))
    assert "aten::sigmoid" in text
    assert "plant" in text
    assert "0 of 40" in text
    assert max(map(len, text.splitlines())) <= 100
