"""Batches in which the same samples meet other positions and other neighbours."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bninv._structure import map_tensors
from bninv.detection import Images

# Slots of a batch that hold no sample but a filled one: a neighbour nobody should notice.
NAN_NEIGHBOUR = -1
INF_NEIGHBOUR = -2
_FILL = {NAN_NEIGHBOUR: math.nan, INF_NEIGHBOUR: math.inf}


def arrangements(
    batch_size: int, samples: int, *, fills: bool = True, brief: bool = False
) -> list[list[int]]:
    """The batches to run at one batch size, each a list of sample indices or neighbours' codes.

    Together they show every sample at least once; sample 0 at the first, middle and last
    position; a batch of copies of one sample; and (`fills`) batches in which every other slot is
    NaN or Inf; `brief` has half of these, for models as slow as detectors. A batch of one has no
    neighbours: the first sample is only run a second time.
    """
    if batch_size == 1:
        return [[index] for index in range(samples)] + [[0]]
    starts = list(range(0, samples, batch_size))
    starts += [-(batch_size // 2), -(batch_size - 1)]
    plan = [[(start + slot) % samples for slot in range(batch_size)] for start in starts]
    plan.append([0] * batch_size)
    if fills:
        for code in (NAN_NEIGHBOUR, INF_NEIGHBOUR):
            for parity in (abs(code) % 2,) if brief else (0, 1):
                plan.append([s % samples if s % 2 == parity else code for s in range(batch_size)])
    unique: list[list[int]] = []
    for slots in plan:
        if slots not in unique:
            unique.append(slots)
    return unique


def build_batch(inputs: Any, slots: list[int]) -> Any:
    """The batch that `slots` describes, in the memory format and structure of `inputs`.

    Integers, which know no NaN, are sample 0's in the slot of a filled neighbour.
    Of images, those; a filled neighbour is as large as the first.
    """
    if isinstance(inputs, Images):
        return Images(_image(inputs, slot) for slot in slots)
    return map_tensors(lambda tensor: _build(tensor, slots), inputs)


def _image(images: Images, slot: int) -> Tensor:
    # A copy: a model may work in place, and the same image may stand in the batch twice.
    if slot >= 0 or not images[0].is_floating_point():
        return images[max(slot, 0)].clone()
    return torch.full_like(images[0], _FILL[slot])


def _build(inputs: Tensor, slots: list[int]) -> Tensor:
    batch = torch.empty(
        (len(slots), *inputs.shape[1:]),
        dtype=inputs.dtype,
        device=inputs.device,
        memory_format=memory_format_of(inputs),
    )
    for position, slot in enumerate(slots):
        if slot >= 0 or not inputs.is_floating_point():
            batch[position] = inputs[max(slot, 0)]
        else:
            batch[position] = _FILL[slot]
    return batch


def memory_format_of(inputs: Tensor) -> torch.memory_format:
    """channels_last where `inputs` are laid out so and not contiguous, otherwise contiguous."""
    if not inputs.is_contiguous():
        if inputs.dim() == 4 and inputs.is_contiguous(memory_format=torch.channels_last):
            return torch.channels_last
        if inputs.dim() == 5 and inputs.is_contiguous(memory_format=torch.channels_last_3d):
            return torch.channels_last_3d
    return torch.contiguous_format
