"""Under which arguments an operator of the table in `exact.py` is exact.

A condition gets the positional and the keyword arguments of one call, of an ATen operator or of the
Python function of that name. It may refuse what is exact; it must not accept what is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._arguments import promoted
from bninv._rounding import converts_exactly, narrows_once, rounds_once


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors among an operator's arguments or results, lists included."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)


def stored_exactly(kwargs: Mapping[str, Any], tensors: Sequence[Tensor]) -> bool:
    """Whether a result of these tensors would not be rounded again on its way to `out`."""
    outs = list(tensors_in(kwargs.get("out")))
    return all(converts_exactly(t.dtype, out.dtype) for t in tensors for out in outs)


def _every_tensor(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    return [*tensors_in(args), *tensors_in(kwargs)]


def _plain_alpha(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # rsub.Scalar and the Scalar overloads of add and sub take alpha as a third positional. An old
    # signature of theirs has alpha in the second place and a tensor in the third.
    alpha = kwargs.get("alpha", args[2] if len(args) > 2 else 1)
    return isinstance(alpha, (int, float)) and alpha == 1


def _survives_half(number: float) -> bool:
    """Whether float16 and bfloat16 both hold this number: 8 bits, and a moderate exponent."""
    mantissa, exponent = math.frexp(number)
    return (mantissa * 256) % 1 == 0 and -13 <= exponent <= 15


def _numbers(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    named = [value for name, value in kwargs.items() if name in ("input", "self", "other")]
    return [a for a in (*args[:2], *named) if isinstance(a, (int, float, complex))]


def full_precision(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # With half-precision tensors a Python number may be rounded to half first, or not: that is
    # up to the backend, and so is a tensor without dimensions, which counts as a number, and how
    # an integer is converted. Between two tensors a float32 result rounded to half is exact.
    tensors = _every_tensor(args, kwargs)
    floats = {t.dtype for t in tensors if t.is_floating_point()}
    numbers = _numbers(args, kwargs)
    if any(isinstance(n, complex) for n in numbers):
        return False
    if floats <= {torch.float32, torch.float64}:
        return True
    if not all(t.is_floating_point() or t.dtype == torch.bool for t in tensors):
        return False
    if len(floats) > 1 and any(t.dim() == 0 for t in tensors):
        return False
    return all(_survives_half(n) for n in numbers)


def once_each(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # index_put(accumulate=True) adds up, in an order of its own. Without it, of the values for
    # one position any may win; a mask names no position twice, and one value is no choice.
    accumulate = kwargs.get("accumulate", args[3] if len(args) > 3 else False)
    indices = kwargs.get("indices", args[1] if len(args) > 1 else ())
    values = kwargs.get("values", args[2] if len(args) > 2 else None)
    places = list(tensors_in(indices))
    one_value = isinstance(values, Tensor) and values.numel() == 1
    masks = all(t.dtype in (torch.bool, torch.uint8) for t in places)
    once = one_value or masks or all(t.numel() == 1 for t in places)
    return not accumulate and (once or _all_different(args[0] if args else None, indices))


def _all_different(target: Any, indices: Any) -> bool:
    """Whether indices into one dimension name no place twice, as far as they can be looked at."""
    found = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    if len(found) != 1 or torch.compiler.is_compiling():
        return False
    ((dim, index),) = found
    if not type(index) is type(target) is Tensor or _torch.tracing_state() is not None:
        return False  # a fake tensor has no values, and a traced call will see others
    if index.dtype not in (torch.int32, torch.int64) or index.is_meta or target.dim() <= dim:
        return False
    places = torch.remainder(index, target.size(dim))
    return bool(places.unique().numel() == places.numel())


def once_along_a_dimension(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # index_copy: of the elements for one place any may win.
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    index = kwargs.get("index", args[2] if len(args) > 2 else None)
    target = args[0] if args else None
    if not isinstance(dim, int) or not isinstance(target, Tensor) or target.dim() == 0:
        return False
    return _all_different(target, [*[None] * (dim % target.dim()), index])


def no_reduction(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # scatter(reduce=...) adds up. Of several values for one position the CPU takes the last.
    source = kwargs.get("src", args[3] if len(args) > 3 else None)
    return "reduce" not in kwargs and (not isinstance(source, Tensor) or on_cpu(args, kwargs))


def promotes_exactly(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    first = args[0] if args else None
    others = any(isinstance(a, Tensor) for a in args[1:])
    if isinstance(first, (list, tuple)) and not others and len({t.dtype for t in first}) == 1:
        return True  # most calls of cat, decided at once
    # Tensors without dimensions count as numbers, rounded once.
    found = {t.dtype for t in _every_tensor(args, kwargs) if t.dim() > 0}
    if len(found) < 2:
        return True
    target = torch.bool
    for dtype in found:
        target = promoted(target, dtype)
    return all(converts_exactly(dtype, target) for dtype in found)


def real(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return "decimals" not in kwargs and not any(t.is_complex() for t in _every_tensor(args, kwargs))


def on_cpu(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return all(t.device.type == "cpu" for t in _every_tensor(args, kwargs))


def one_rounding(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return _plain_alpha(args, kwargs) and full_precision(args, kwargs) and real(args, kwargs)


def _half_by_number(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # Between a half-precision tensor and a number, products and quotients round the number to
    # binary32, and the result once. (Sums on the CPU round the number to half first.)
    tensors, numbers = _every_tensor(args, kwargs), _numbers(args, kwargs)
    narrow = len(tensors) == 1 and tensors[0].dtype in (torch.float16, torch.bfloat16)
    return narrow and not any(isinstance(n, complex) for n in numbers)


def one_product(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return one_rounding(args, kwargs) or _half_by_number(args, kwargs)


def one_product_in_place(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return one_product(args, kwargs) and _not_narrowed(args, kwargs)


def _not_narrowed(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # Into a tensor of a narrower dtype the result would be rounded twice.
    into, other = args[0], kwargs.get("other", args[1] if len(args) > 1 else None)
    if not isinstance(other, Tensor) or into.dtype == other.dtype:
        return True
    # As torch.result_type has it, which Dynamo does not take in a whole graph.
    if other.dim() == 0 < into.dim() and _category(other) <= _category(into):
        return True
    return into.dtype == promoted(into.dtype, other.dtype)


def _category(tensor: Tensor) -> int:
    if tensor.is_floating_point() or tensor.is_complex():
        return 3 if tensor.is_complex() else 2
    return int(tensor.dtype is not torch.bool)


def one_rounding_in_place(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return one_rounding(args, kwargs) and _not_narrowed(args, kwargs)


def one_tensor_on_cpu(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # clamp between tensors is a maximum and a minimum of two tensors.
    return len(_every_tensor(args, kwargs)) == 1 and on_cpu(args, kwargs)


def no_choice_of_zero(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # A bound of zero meets -0: which of the two zeros is kept differs between devices.
    if one_tensor_on_cpu(args, kwargs):
        return True
    bounds = [*args[1:], *(v for k, v in kwargs.items() if k not in ("input", "self", "inplace"))]
    given = [bound for bound in bounds if bound is not None and not isinstance(bound, bool)]
    numbers = all(isinstance(bound, (int, float)) and bound != 0 for bound in given)
    return bool(given) and numbers and len(_every_tensor(args, kwargs)) == 1


def one_division(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    tensors = _every_tensor(args, kwargs)
    if kwargs.get("rounding_mode") in ("trunc", "floor") and "out" not in kwargs:
        # Of integers, whose quotient is one.
        whole = all(isinstance(a, (int, torch.SymInt, torch.Tensor)) for a in args)
        return whole and not any(t.is_floating_point() or t.is_complex() for t in tensors)
    if kwargs.get("rounding_mode") is not None or "out" in kwargs:
        return False
    if not on_cpu(args, kwargs):
        # By a number, or a tensor on the CPU that counts as one, CUDA multiplies with a reciprocal.
        on_device = all(t.device.type == "cuda" for t in tensors)
        if len(tensors) != 2 or not on_device:
            return False
    real = all(t.is_floating_point() for t in tensors)
    return real and (full_precision(args, kwargs) or _half_by_number(args, kwargs))


def one_reciprocal(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    tensors = _every_tensor(args, kwargs)
    return "out" not in kwargs and len(tensors) == 1 and tensors[0].is_floating_point()


def number_over_tensor(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # A reciprocal and a multiplication, each rounded once.
    real = one_reciprocal(args[:1], kwargs)
    return real and (full_precision(args, kwargs) or _half_by_number(args, kwargs))


def bounds_of_hardtanh(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # Those that are missing are -1 and 1: the dispatcher hands over no argument's default.
    missing = len(args) == 1 and not {"min_val", "max_val"} & kwargs.keys()
    return no_choice_of_zero(args, kwargs) or missing


def one_division_in_place(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return one_division(args, kwargs) and _not_narrowed(args, kwargs)


def one_multiplication(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # leaky_relu's slope is a number even where it is not given; prelu's is a tensor.
    tensors = _every_tensor(args, kwargs)
    full = all(t.dtype in (torch.float32, torch.float64) for t in tensors)
    return full or (len(tensors) == 2 and full_precision(args, kwargs))


def alike(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    tensors = _every_tensor(args, kwargs)
    floats = all(t.is_floating_point() for t in tensors)
    numbers = _numbers(args, kwargs)
    return (
        floats
        and len({t.dtype for t in tensors}) == 1
        and not any(isinstance(n, complex) for n in numbers)
    )


def numbers_survive(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # Those that half precision does not hold may be rounded to it in two steps.
    tensors = _every_tensor(args, kwargs)
    full = all(t.dtype in (torch.float32, torch.float64) for t in tensors)
    given = [*args[1:], *(v for k, v in kwargs.items() if k in ("nan", "posinf", "neginf"))]
    numbers = [n for n in given if n is not None]
    return full or all(isinstance(n, (int, float)) and _survives_half(n) for n in numbers)


def counts(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # start + i * step is exact between integers that the dtype holds.
    bounds = [*args, *(kwargs[name] for name in ("start", "end", "step") if name in kwargs)]
    if not all(isinstance(bound, (int, torch.SymInt)) for bound in bounds):
        return False
    dtype = kwargs.get("dtype")
    if dtype is None or not dtype.is_floating_point:
        return True
    largest = 2**24 if dtype in (torch.float32, torch.float64) else 2**8
    return all(abs(bound) <= largest for bound in bounds)


def along_a_dimension(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # max() and min() over all elements, or of two tensors, may return either zero; along a
    # dimension the first wins.
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return on_cpu(args, kwargs) and isinstance(dim, int)


def not_in_training(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return (args[2] if len(args) > 2 else kwargs.get("train")) is False


def exact_copy(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    tensors = _every_tensor(args, kwargs)  # the destination, then the source
    if len(tensors) < 2:
        return True
    return rounds_once(tensors[1].dtype, tensors[0].dtype, narrows_once(tensors))


# Python's own types, which `to` takes for dtypes.
_TYPES = {
    bool: torch.bool,
    int: torch.int64,
    float: torch.float64,
    complex: torch.complex128,
}


def target_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.dtype:
    """The dtype that a conversion names: to(dtype), to(device, dtype), to(other), to(dtype=...),
    to(int), type_as(other).
    """
    values = [_TYPES.get(a, a) if isinstance(a, type) else a for a in (*args, *kwargs.values())]
    named = [value for value in values if isinstance(value, torch.dtype)]
    tensors = _every_tensor(args, kwargs)
    return named[0] if named else tensors[-1].dtype


def exact_conversion(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    tensors = _every_tensor(args, kwargs)
    return rounds_once(tensors[0].dtype, target_of(args, kwargs), narrows_once(tensors))


def stable_sort_of_integers(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # Among integers only equal ones leave a choice, and a stable sort keeps their order.
    integers = not any(t.is_floating_point() or t.is_complex() for t in _every_tensor(args, kwargs))
    return integers and kwargs.get("stable") is True


def one_dtype(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # A number is compared after it was rounded to the boundaries' dtype.
    tensors = _every_tensor(args, kwargs)
    floats = [t for t in tensors if t.is_floating_point()]
    return len(tensors) > 1 and len(floats) in (0, 2) and len({t.dtype for t in floats}) < 2
