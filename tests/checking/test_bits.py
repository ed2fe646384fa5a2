"""What bninv.check compares: bits, batches, and models that random weights make alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bninv.checking.arrangements import arrangements, build_batch
from bninv.checking.bits import difference, digest, same_bits
from bninv.loading.calibration import calibrate_batch_norm, is_untrained, randomize_constants
from tests.support.small_models import images, small_cnn

pytestmark = pytest.mark.usefixtures("one_thread")


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
