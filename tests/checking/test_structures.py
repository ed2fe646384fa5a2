"""Models and functions that take and give several tensors: each is compared, and named."""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict, UserDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import bninv
from bninv._structure import leaves, map_tensors
from bninv.testing import assert_batch_invariant
from tests.support.small_models import images

pytestmark = pytest.mark.usefixtures("one_thread")


class Named(NamedTuple):
    still: Any
    moved: Any = None


@dataclasses.dataclass
class Data:
    still: Any
    moved: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    still: Any
    moved: Any = None


@dataclasses.dataclass
class ModelOutput(OrderedDict):
    """As Hugging Face's: a dataclass that is an OrderedDict of its fields that are not None."""

    still: Any = None
    moved: Any = None
    missing: Any = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                super().__setitem__(field.name, getattr(self, field.name))

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)


def as_dict(still: Any, moved: Any) -> Any:
    return {"still": still, "moved": moved}


def as_user_dict(still: Any, moved: Any) -> Any:
    return UserDict(still=still, moved=moved)


def nested(still: Any, moved: Any) -> Any:
    return {"a": [still, None, 3], "b": (Data("text", Named(still, moved)),)}


STRUCTURES: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "tuple": (lambda still, moved: (still, moved), "output[1]"),
    "list": (lambda still, moved: [still, moved], "output[1]"),
    "dict": (as_dict, "output['moved']"),
    "UserDict": (as_user_dict, "output['moved']"),
    "named tuple": (Named, "output.moved"),
    "dataclass": (Data, "output.moved"),
    "frozen dataclass": (Frozen, "output.moved"),
    "ModelOutput": (ModelOutput, "output['moved']"),
    "nested": (nested, "output['b'][0].moved.moved"),
}


class Gives(nn.Module):
    """A tensor that does not move and one that does, in a structure."""

    def __init__(self, make: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 5)
        self.make = make

    def forward(self, x: Tensor) -> Any:
        pooled = x.mean((2, 3))
        return self.make(self.fc(pooled), pooled + 1e-3 * pooled.sum(0))


class Takes(nn.Module):
    """Floating-point and integer samples; `read` gets them out of what it is given."""

    def __init__(self, read: Callable[..., tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 5)
        self.read = read

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        x, index = self.read(*args, **kwargs)
        return self.fc(x.mean((2, 3))) + index[:, None]


@pytest.mark.parametrize("name", STRUCTURES)
def test_check_names_the_output_that_moved(name: str) -> None:
    make, moved = STRUCTURES[name]
    torch.manual_seed(0)
    result = bninv.check(Gives(make), images(), (1, 3))
    assert not result.invariant
    last = result.rows[-1]
    assert {row.name for row in last.outputs if row.differing} == {moved}
    assert last.differing == sum(row.differing for row in last.outputs)
    assert last.elements == sum(row.elements for row in last.outputs)
    text = str(result)
    assert all(row.name in text for row in last.outputs)
    assert "moved" in result.to_html() or name in ("tuple", "list")
    body = json.loads(result.to_json())
    assert [row["name"] for row in body["patched"]["rows"][0]["outputs"]][-1] == moved


def test_one_output_needs_no_rows_of_its_own() -> None:
    result = bninv.check(nn.Flatten(), images(), (1, 2))
    assert result.rows[0].outputs == []
    assert "Each output" not in str(result)


def test_detectors_give_a_list_with_a_dict_for_each_sample() -> None:
    class Detector(nn.Module):
        def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
            boxes = [image.mean(0)[: 2 + int(image[0, 0, 0] > 0), :4] for image in x]
            return [{"boxes": found, "scores": found.sum(1) + 0 * len(x)} for found in boxes]

    result = bninv.check(Detector(), images(), (1, 2, 3))
    assert result.invariant
    assert [row.name for row in result.rows[0].outputs] == [
        "output[i]['boxes']",
        "output[i]['scores']",
    ]


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (lambda x, i: (x, i), lambda x, i: (x, i)),
        (lambda x, i: {"x": x, "i": i}, lambda x, i: (x, i)),
        (lambda x, i: UserDict(x=x, i=i), lambda x, i: (x, i)),
        (lambda x, i: {"x": x, "i": i}, lambda batch: (batch["x"], batch["i"])),
        (lambda x, i: [x, i], lambda batch: (batch[0], batch[1])),
        (Named, lambda batch: (batch.still, batch.moved)),
        (Data, lambda batch: (batch.still, batch.moved)),
        (Frozen, lambda batch: (batch.still, batch.moved)),
        (lambda x, i: Data({"x": x}, [i, "text"]), lambda b: (b.still["x"], b.moved[0])),
    ],
)
def test_structures_go_in(make: Callable[..., Any], read: Callable[..., Any]) -> None:
    model = Takes(read)
    # Whether keys are names of arguments is seen from forward's own signature.
    model.forward = lambda *args, **kwargs: Takes.forward(model, *args, **kwargs)  # type: ignore[method-assign]
    if read.__code__.co_varnames[0] == "batch":
        model.forward = lambda batch: Takes.forward(model, batch)  # type: ignore[method-assign]
    inputs = make(images(), torch.arange(4))
    result = bninv.check(model, inputs, (1, 3), depth=True)
    assert result.stock.rows[0].elements == 20
    assert result.dtype == "float32"


def test_a_batch_that_moves_is_found_through_a_structure() -> None:
    class Mixes(nn.Module):
        def forward(self, images: Tensor, scale: Tensor) -> Tensor:
            return images.flatten(1) * scale[:, None] + images.sum()

    result = bninv.check(Mixes(), {"images": images(), "scale": torch.ones(4)}, (1, 2))
    assert not result.invariant
    assert result.culprits


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "inputs: got dict"),
        ({"x": images(), "y": torch.ones(3)}, r"inputs\['y'\]: got 3 samples, must be as many"),
        ((images(), torch.tensor(1.0)), r"inputs\[1\]: got \(\)"),
        (Data(images(1)), r"inputs.still: got \(1, 3"),
    ],
)
def test_inputs_that_make_no_sense(inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bninv.check(nn.Identity(), inputs)


# ---- assert_batch_invariant ----------------------------------------------------------------------


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_assertion_names_the_output(name: str) -> None:
    make, moved = STRUCTURES[name]
    x = images().flatten(1)
    assert_batch_invariant(lambda x: make(x.relu(), x.abs()), x)
    with pytest.raises(AssertionError) as raised:
        assert_batch_invariant(lambda x: make(x.relu(), x + x.sum(0)), x)
    assert str(raised.value).startswith(f"{moved}, sample ")


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_assertion_takes_structures(name: str) -> None:
    make, _ = STRUCTURES[name]
    inputs = make(images(), torch.arange(4))

    def total(batch: Any, mixed: bool = False) -> Tensor:
        found = dict(leaves(batch))
        x, index = next(iter(found.values())), list(found.values())[-1]
        return x.flatten(1).relu() + index[:, None] + (x.sum() if mixed else 0)

    assert_batch_invariant(total, inputs)
    with pytest.raises(AssertionError, match="^sample"):
        assert_batch_invariant(lambda batch: total(batch, True), inputs)


def test_the_assertion_refuses_what_holds_no_tensors() -> None:
    with pytest.raises(TypeError, match=r"`input` is \[1, 2\]"):
        assert_batch_invariant(lambda x: x, [1, 2])
    with pytest.raises(TypeError, match="`function` returned None"):
        assert_batch_invariant(lambda x: None, images())
    with pytest.raises(ValueError, match=r"`input\[1\]` has shape \[3\]"):
        assert_batch_invariant(lambda x: x, [images(), torch.ones(3)])


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_are_rebuilt(name: str) -> None:
    value = STRUCTURES[name][0](torch.ones(2), torch.zeros(2))
    made = map_tensors(lambda tensor: tensor + 1, value)
    assert type(made) is type(value) and made is not value
    assert [path for path, _ in leaves(made)] == [path for path, _ in leaves(value)]
    for (_, after), (_, before) in zip(leaves(made), leaves(value), strict=True):
        assert torch.equal(after, before + 1)
    if name == "ModelOutput":
        assert made.still is made["still"] and made.missing is None
