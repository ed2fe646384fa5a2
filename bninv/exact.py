"""ATen operators known to be exact: one table, with a reason for each group.

An operator is exact here when every element of its result is a copy of an input element, or one
correctly rounded IEEE operation on input elements: nothing an implementation could order, split,
contract or approximate in another way. Such operators may stay PyTorch's own. Whatever is not in
the table counts as not exact, whether or not it happens to move on this machine.

Left out on purpose, each seen on a CPU with PyTorch 2.11:
  sqrt            not correctly rounded (one result in six was off), so not the same everywhere
  maximum, minimum, amax, amin, and max(), min() over everything
                  of zeros of both signs they return either, by position in a vector or layout
  add(alpha != 1), addcmul, addcdiv, lerp     a backend may contract them to a fused multiply-add
  sigmoid, silu, gelu, elu, softplus, mish    other bits in a vector's tail than in its body
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Condition = Callable[[Sequence[Any], Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Group:
    """Operators that are exact for one reason, under one condition on their arguments."""

    reason: str
    operators: frozenset[str]
    condition: Condition | None = None


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


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


def _plain_alpha(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # rsub.Scalar and the Scalar overloads of add and sub take alpha as a third positional.
    alpha = kwargs.get("alpha", args[2] if len(args) > 2 else 1)
    return bool(alpha == 1)


def _full_precision(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # With half-precision tensors a Python number may be rounded to half first, or not: that is
    # up to the backend. Between two tensors a float32 result rounded to half is exact either way.
    tensors = list(tensors_in(args)) + list(tensors_in(kwargs))
    floats = [t for t in tensors if t.is_floating_point()]
    has_number = any(isinstance(a, (int, float)) for a in args[:2]) or any(
        t.dim() == 0 for t in floats
    )
    return not has_number or all(t.dtype in (torch.float32, torch.float64) for t in floats)


def _no_accumulation(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # index_put(accumulate=True) and scatter(reduce=...) add up, in an order of their own.
    accumulate = kwargs.get("accumulate", args[3] if len(args) > 3 else False)
    return accumulate is not True and "reduce" not in kwargs


def _real(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return "decimals" not in kwargs and not any(t.is_complex() for t in tensors_in(args))


def _on_cpu(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return all(t.device.type == "cpu" for t in tensors_in(args))


def _one_rounding(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return _plain_alpha(args, kwargs) and _full_precision(args, kwargs) and _real(args, kwargs)


def _one_tensor_on_cpu(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # clamp between tensors is a maximum and a minimum of two tensors.
    tensors = [*tensors_in(args), *tensors_in(kwargs)]
    return len(tensors) == 1 and _on_cpu(args, kwargs)


def _cpu_one_rounding(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    if kwargs.get("rounding_mode") is not None or not _on_cpu(args, kwargs):
        return False
    real = all(t.is_floating_point() for t in tensors_in(args))
    return real and _full_precision(args, kwargs)


def _along_a_dimension(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # max() and min() over all elements, or of two tensors, may return either zero; along a
    # dimension the first wins.
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return _on_cpu(args, kwargs) and isinstance(dim, int)


def _converts_exactly(source: torch.dtype, target: torch.dtype) -> bool:
    """Same dtype, a widening one, or an integer rounded once to float32 or float64."""
    if source == target or source == torch.bool:
        return True
    if not source.is_floating_point and not source.is_complex:
        return not target.is_floating_point or target in (torch.float32, torch.float64)
    return torch.promote_types(source, target) == target


def _exact_copy(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    tensors = [*tensors_in(args), *tensors_in(kwargs)]  # the destination, then the source
    return len(tensors) < 2 or _converts_exactly(tensors[1].dtype, tensors[0].dtype)


def _exact_conversion(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    # to(dtype), to(device, dtype), to(other), to(dtype=...), type_as(other)
    named = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
    tensors = [*tensors_in(args), *tensors_in(kwargs)]
    target = named[0] if named else tensors[-1].dtype
    return _converts_exactly(tensors[0].dtype, target)


GROUPS: tuple[Group, ...] = (
    Group(
        "another view of the same memory",
        names(
            """view _unsafe_view reshape _reshape_alias flatten unflatten permute transpose t
            numpy_T expand expand_as slice select split split_with_sizes chunk tensor_split unbind
            squeeze unsqueeze alias detach narrow diagonal movedim swapaxes unfold as_strided
            view_as view_as_real view_as_complex real imag squeeze_ unsqueeze_ transpose_ t_ detach_
            lift_fresh"""
        ),
    ),
    Group(
        "copies elements, changes none",
        names(
            """cat stack hstack vstack clone contiguous index_select index gather embedding
            take_along_dim roll flip rot90 where masked_fill masked_fill_ index_put index_put_
            pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle constant_pad_nd
            pad reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
            replication_pad2d replication_pad3d repeat repeat_interleave tile tril triu select_copy
            upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
            _upsample_nearest_exact2d _upsample_nearest_exact3d meshgrid
            slice_scatter select_scatter scatter im2col split_copy split_with_sizes_copy
            unbind_copy permute_copy view_copy expand_copy lift lift_fresh_copy item
            _local_scalar_dense"""
        ),
        _no_accumulation,
    ),
    Group(
        "the identity outside training",
        names("dropout feature_dropout alpha_dropout native_dropout"),
        lambda args, kwargs: (args[2] if len(args) > 2 else kwargs.get("train")) is False,
    ),
    Group(
        "makes a tensor from numbers",
        names(
            """empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like
            new_zeros zero_ ones ones_like new_ones full full_like new_full fill fill_ eye
            scalar_tensor arange"""
        ),
    ),
    Group(
        "changes the dtype to one that holds every value, or rounds an integer once",
        names("_to_copy to type_as"),
        _exact_conversion,
    ),
    Group("the same, into memory that is there", names("copy_ copy"), _exact_copy),
    Group(
        "one IEEE operation an element (alpha = 1)",
        names("add add_ sub sub_ rsub mul mul_"),
        _one_rounding,
    ),
    Group(
        # CUDA divides by a number through its reciprocal: two roundings.
        "one IEEE division an element on the CPU",
        names("div div_"),
        _cpu_one_rounding,
    ),
    Group(
        "changes the sign bit only, or rounds to an integer",
        names("neg neg_ abs abs_ sign sgn floor floor_ ceil ceil_ round round_ trunc trunc_"),
        _real,
    ),
    Group(
        "compares, or works on integers and booleans",
        names(
            """eq ne lt le gt ge isnan isinf isfinite logical_and logical_or logical_not
            logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor any all equal argmax argmin
            is_nonzero"""
        ),
    ),
    Group(
        # Tried with NaN and zeros of both signs: the same bits in a vector's body and tail, in
        # every layout. They keep -0 where another device (and R6's relu) gives +0: CPU only.
        "selects one of its inputs, the same way at every position on the CPU",
        names(
            """relu relu_ clamp clamp_ clamp_min clamp_min_ clamp_max clamp_max_ hardtanh
            hardtanh_ relu6 threshold threshold_ max_pool1d max_pool2d max_pool3d
            max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d"""
        ),
        _one_tensor_on_cpu,
    ),
    Group(
        "selects the first of its largest (smallest) inputs along a dimension",
        names("max min"),
        _along_a_dimension,
    ),
    Group(
        "one IEEE multiplication of the negative elements",
        names("leaky_relu leaky_relu_ prelu _prelu_kernel"),
        _full_precision,
    ),
)

_GROUP_OF = {operator: group for group in GROUPS for operator in group.operators}


def operators() -> frozenset[str]:
    """The names of all operators that can be exact."""
    return frozenset(_GROUP_OF)


def group_of(operator: str) -> Group | None:
    """The group of an operator, by ATen's name."""
    return _GROUP_OF.get(operator)


def reason(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> str | None:
    """Why this call of an ATen operator is exact, or None where it is not known to be.

    Args:
        func: a `torch._ops.OpOverload`, as a TorchDispatchMode gets it.
        args, kwargs: what it was called with.
        result: what it returned.
    """
    if func.namespace != "aten":
        return None
    group = group_of(func.overloadpacket.__name__)
    if group is not None and (group.condition is None or group.condition(args, kwargs)):
        return group.reason
    inputs = [*tensors_in(args), *tensors_in(kwargs)]
    tensors = [*inputs, *tensors_in(result)]
    integers = not any(t.is_floating_point() or t.is_complex() for t in tensors)
    if inputs and integers and torch.Tag.nondeterministic_seeded not in func.tags:
        return "integer arithmetic"
    return None
