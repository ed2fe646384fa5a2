"""Where the batch is in a tensor in the middle of a model.

Samples are followed by memory, not by shape: within one storage, the distance between a sample and
the next is fixed, whatever views are taken of it. A dimension is the batch's if stepping along it
covers that distance, so a weight with as many rows as the batch is never taken for one, and
permuted, merged (attention heads, windows) and interleaved (sequence first) batches are found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bninv._structure import tensors
from bninv.checking.inputs import count
from bninv.detection import Images


@dataclass(frozen=True)
class Place:
    """The batch's dimension: of size `batch * repeats`, sample by sample or interleaved."""

    dim: int
    repeats: int
    interleaved: bool = False


def take(tensor: Tensor, place: Place, start: int, count: int) -> Tensor:
    """The part of `tensor` that belongs to `count` samples from `start` on.

    A fresh copy where that keeps the strides, as a smaller batch would have been allocated: some
    kernels look at a pointer's alignment.
    """
    dim, repeats = place.dim, place.repeats
    if place.interleaved:
        size = tensor.shape[dim] // repeats
        parts = tensor.unflatten(dim, (repeats, size)).narrow(dim + 1, start, count)
        return parts.flatten(dim, dim + 1)
    part = tensor.narrow(dim, start * repeats, count * repeats)
    copy = part.clone()
    return copy if copy.stride() == part.stride() else part


class BatchTracker:
    """Follows a batch's samples (along dimension 0 of its tensors) from operator to operator."""

    def __init__(self, batch: Any) -> None:
        self.size = count(batch)
        # Images of sizes of their own are no batch before the model makes one of them: see `start`.
        found = [] if isinstance(batch, Images) else tensors(batch)
        # By storage address. A freed address may come again, but only as some operator's result,
        # and `follow` then overwrites or forgets the entry.
        self._stride = {t.untyped_storage().data_ptr(): t.stride(0) for t in found}

    def start(self, tensor: Tensor) -> None:
        """Follow a batch that the model has put together, along dimension 0."""
        self._stride[tensor.untyped_storage().data_ptr()] = tensor.stride(0)

    def place(self, tensor: Tensor) -> Place | None:
        """Where the batch is in `tensor`; None if there is none, or it cannot be told."""
        if tensor.layout != torch.strided:
            return None
        step = self._stride.get(tensor.untyped_storage().data_ptr())
        if step is None or step == 0:
            return None
        shape, strides = tensor.shape, tensor.stride()
        divisible = [d for d in range(tensor.dim()) if shape[d] and shape[d] % self.size == 0]
        for d in divisible:
            if shape[d] == self.size and strides[d] == step:
                return Place(d, 1)
        for d in divisible:
            repeats = shape[d] // self.size
            if strides[d] * repeats == step:
                return Place(d, repeats)
        for d in divisible:
            if strides[d] == step:
                return Place(d, shape[d] // self.size, interleaved=True)
        return None

    def places(self, tensors: list[Tensor]) -> dict[int, Place]:
        """The places of an operator's batched inputs, by `id`."""
        found = {id(t): place for t in tensors if (place := self.place(t)) is not None}
        if not found:
            return found
        # A class token or position embedding expanded to the batch has to be cut with the rest.
        like = next(t for t in tensors if id(t) in found)
        place = found[id(like)]
        for t in tensors:
            same_size = t.dim() == like.dim() and t.shape[place.dim] == like.shape[place.dim]
            if id(t) not in found and same_size and t.stride(place.dim) == 0:
                found[id(t)] = place
        return found

    def follow(self, results: Iterable[Tensor], inputs: dict[int, Place], is_view: bool) -> None:
        """Note where the batch is in an operator's results, given its place in the inputs."""
        if is_view:
            return  # the same storage: nothing to note
        place = next(iter(inputs.values()), None)
        for result in results:
            if result.layout != torch.strided or result.numel() == 0:
                continue
            address = result.untyped_storage().data_ptr()
            step = None if place is None else self._step(result, place)
            if step is None:
                self._stride.pop(address, None)
            else:
                self._stride[address] = step

    def _step(self, result: Tensor, place: Place) -> int | None:
        dim = place.dim
        if dim < result.dim() and result.shape[dim] and result.shape[dim] % self.size == 0:
            repeats = result.shape[dim] // self.size
            return result.stride(dim) * (1 if place.interleaved else repeats)
        # A reduction over a dimension before the batch's moves it to the left, never to the right.
        for d in range(min(dim, result.dim())):
            if result.shape[d] == self.size:
                return result.stride(d)
        return None
