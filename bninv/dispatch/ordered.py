"""Sorting and choosing: by keys that have one order, so that no implementation has a choice.

Stock leaves open which of two equal elements comes first, and among them are zeros of both signs
and NaN of all patterns; what it does changes with the number of rows, the instruction set and the
device. Here an element's key is an integer. Stock's stable sort, or its first largest element, of
integers is one result everywhere, and the elements themselves are then gathered by their indices.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bninv.operators.adapters import need

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _keys(input: Tensor, *, nan_last: bool = True, zeros_equal: bool = True) -> Tensor:
    """Integers in the order of the elements. NaN come last, or first, and are all equal."""
    need(not input.is_complex() and input.layout == torch.strided)
    if input.dtype is torch.bool:
        return input.to(torch.uint8)
    if not input.is_floating_point():
        return input
    need(input.dtype.itemsize in _INTEGERS)
    # The pattern of a number is its sign and an integer that grows with its size; -0 is the sign
    # alone. (An addition of 0 would do, but may flush subnormal numbers.)
    dtype = _INTEGERS[input.dtype.itemsize]
    patterns, limits = input.resolve_neg().view(dtype), torch.iinfo(dtype)
    if zeros_equal:
        patterns = torch.where(patterns == limits.min, 0, patterns)
    ordered = torch.where(patterns < 0, patterns ^ limits.max, patterns)
    return torch.where(input != input, limits.max if nan_last else limits.min, ordered)


def sort(
    input: Tensor, dim: int | bool = -1, descending: bool | int = False, *, stable: Any = None
) -> Any:
    need(not isinstance(dim, bool))  # that is `stable` in its place
    indices = _sorted(input, dim, bool(descending))
    return torch.return_types.sort((_take(input, dim, indices), indices))


def argsort(
    input: Tensor, dim: int | bool = -1, descending: bool | int = False, *, stable: Any = None
) -> Tensor:
    need(not isinstance(dim, bool))
    return _sorted(input, dim, bool(descending))


def msort(input: Tensor) -> Tensor:
    return _take(input, 0, _sorted(input, 0, False))


def topk(input: Tensor, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """Of equal elements those that come first; sorted in any case."""
    # For a k that is too large PyTorch has a message.
    need(input.dim() > 0 and -input.dim() <= dim < input.dim() and 0 <= k <= input.size(dim))
    indices = _sorted(input, dim, largest).narrow(dim, 0, k)
    return torch.return_types.topk((_take(input, dim, indices), indices))


def _sorted(input: Tensor, dim: int, descending: bool) -> Tensor:
    return torch.sort(_keys(input), dim=dim, descending=descending, stable=True).indices


def _take(input: Tensor, dim: int, indices: Tensor) -> Tensor:
    return input.gather(dim, indices) if input.dim() else input.clone()


# ---- By rank, or the largest so far --------------------------------------------------------------


def median(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The lower one of two; of equal elements the one that stands where sorting has put it. A row
    with a NaN: its first NaN.
    """
    return _middle(input, dim, keepdim, skips_nan=False)


def nanmedian(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """`median` of what is not NaN, if there is anything else."""
    return _middle(input, dim, keepdim, skips_nan=True)


def _middle(input: Tensor, dim: Any, keepdim: bool, *, skips_nan: bool) -> Any:
    need(dim is None or (isinstance(dim, int) and not isinstance(dim, bool)))
    rows = input.reshape(-1) if dim is None or input.dim() == 0 else input
    along = 0 if rows is not input else dim
    need(-rows.dim() <= along < rows.dim() and rows.size(along) > 0)
    order = _sorted(rows, along, False)  # NaN come last
    size = rows.size(along)
    nans = (rows != rows).sum(along, keepdim=True)
    if skips_nan:
        rank = ((size - 1 - nans) // 2).clamp(min=0)
    else:
        rank = torch.where(nans > 0, size - nans, (size - 1) // 2)
    indices = order.gather(along, rank)
    values = rows.gather(along, indices)
    if dim is None:
        return values.reshape(())
    if input.dim() == 0:
        values, indices = values.reshape(()), indices.reshape(())
    elif not keepdim:
        values, indices = values.squeeze(along), indices.squeeze(along)
    result = torch.return_types.nanmedian if skips_nan else torch.return_types.median
    return result((values, indices))


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest, NaN being the greatest; of equal elements as `sort` has them."""
    need(input.dim() > 0 and -input.dim() <= dim < input.dim() and 1 <= k <= input.size(dim))
    indices = _sorted(input, dim, False).narrow(dim, k - 1, 1)
    values = input.gather(dim, indices)
    if not keepdim:
        values, indices = values.squeeze(dim), indices.squeeze(dim)
    return torch.return_types.kthvalue((values, indices))


def cummax(input: Tensor, dim: int) -> Any:
    """The largest so far, the last one of equal elements, as on the CPU; NaN wins."""
    return torch.return_types.cummax(_so_far(input, dim, largest=True))


def cummin(input: Tensor, dim: int) -> Any:
    """The smallest so far, the last one of equal elements, as on the CPU; NaN wins."""
    return torch.return_types.cummin(_so_far(input, dim, largest=False))


def _so_far(input: Tensor, dim: int, *, largest: bool) -> tuple[Tensor, Tensor]:
    need(input.dim() > 0 and -input.dim() <= dim < input.dim())
    keys = _keys(input, nan_last=largest)
    extreme = (torch.cummax if largest else torch.cummin)(keys, dim).values
    # Where an element is the extreme itself, its index is the last one so far.
    shape = [1] * input.dim()
    shape[dim] = -1
    index = torch.arange(input.size(dim), device=input.device).view(shape)
    indices = torch.cummax(torch.where(keys == extreme, index, 0), dim).values
    return input.gather(dim, indices), indices


# ---- The largest and the smallest ----------------------------------------------------------------


def amax(input: Tensor, dim: int | Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """R0: NaN wins over every number, and +0 is greater than -0."""
    return _extreme(input, dim, keepdim, largest=True)


def amin(input: Tensor, dim: int | Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """R0: NaN wins over every number, and -0 is less than +0."""
    return _extreme(input, dim, keepdim, largest=False)


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    dims = () if dim is None else dim
    pair = (amin(input, dims, keepdim), amax(input, dims, keepdim))
    return torch.return_types.aminmax(pair)


def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Over everything as `amax`; along a dimension the first of the largest, as on the CPU."""
    need(other is None)  # that is a function of two tensors
    if dim is None:
        return amax(input)
    return torch.return_types.max(_first(input, dim, keepdim, largest=True))


def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Over everything as `amin`; along a dimension the first of the smallest, as on the CPU."""
    need(other is None)  # that is a function of two tensors
    if dim is None:
        return amin(input)
    return torch.return_types.min(_first(input, dim, keepdim, largest=False))


def _first(input: Tensor, dim: Any, keepdim: bool, *, largest: bool) -> tuple[Tensor, Tensor]:
    need(isinstance(dim, int) and not isinstance(dim, bool) and input.dim() > 0)
    need(input.size(dim) > 0)
    keys = _keys(input, nan_last=largest)
    indices = (keys.argmax if largest else keys.argmin)(dim, keepdim=True)
    values = input.gather(dim, indices)
    return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))


def _extreme(input: Tensor, dim: int | Sequence[int], keepdim: bool, *, largest: bool) -> Tensor:
    given = (dim,) if isinstance(dim, int) else tuple(dim)
    need(all(isinstance(d, int) and -input.dim() <= d < input.dim() for d in given))
    dims = {d % input.dim() for d in given} or set(range(input.dim()))
    if not dims:  # a tensor of one element, without dimensions
        return input.clone()
    need(len(dims) == len(given) or not given)
    if torch.is_grad_enabled() and input.requires_grad:
        return _chosen(input, dims, keepdim, largest=largest)
    keys = _keys(input, nan_last=largest, zeros_equal=False)
    return _elements((torch.amax if largest else torch.amin)(keys, tuple(dims), keepdim), input)


def _elements(keys: Tensor, of: Tensor) -> Tensor:
    """The elements whose keys these are, zeros of both signs having keys of their own."""
    if of.dtype is torch.bool:
        return keys.to(torch.bool)
    if not of.is_floating_point():
        return keys
    return torch.where(keys < 0, keys ^ torch.iinfo(keys.dtype).max, keys).view(of.dtype)


def _chosen(input: Tensor, dims: set[int], keepdim: bool, *, largest: bool) -> Tensor:
    """The same, from the element itself, to which a gradient finds back."""
    kept = [d for d in range(input.dim()) if d not in dims]
    rows = input.permute([*kept, *builtins.sorted(dims)]).flatten(len(kept))
    need(rows.size(-1) > 0)
    keys = _keys(rows, nan_last=largest, zeros_equal=False)
    indices = (keys.argmax if largest else keys.argmin)(-1, keepdim=True)
    result = rows.gather(-1, indices).squeeze(-1)
    for d in builtins.sorted(dims) if keepdim else ():
        result = result.unsqueeze(d)
    return result
