"""ATen operators known to be exact: one table, with a reason for each group.

An operator is exact here when every element of its result is a copy of an input element, or one
correctly rounded IEEE operation on input elements: nothing an implementation could order, split,
contract or approximate in another way. Such operators may stay PyTorch's own. Whatever is not in
the table counts as not exact, whether or not it happens to move on this machine.

Left out on purpose, each seen on a CPU with PyTorch 2.11:
  sqrt            not correctly rounded (one result in six was off), so not the same everywhere
  maximum, minimum, amax, amin, and max(), min() over everything
                  of zeros of both signs they return either, by position in a vector or layout
  sort, topk      of equal elements any may come first: that changes with the number of rows
                  (composed.py and ordered.py have these and those above made of exact operators)
  nms, roi_align  arithmetic that a compiler may contract
  a float made an integer                     what becomes of one that is too large is open
  add(alpha != 1), addcmul, addcdiv, lerp     a backend may contract them to a fused multiply-add
  sigmoid, silu, gelu, elu, softplus, mish    other bits in a vector's tail than in its body
  arange by a step that is no integer         an element's bits change with the number of elements
  index_put at positions that may repeat      with several threads any of the values may win
  half-precision tensors plus a number that half precision rounds    rounded first, or not
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bninv.dispatch import conditions
from bninv.dispatch.conditions import tensors_in as tensors_in  # used with this table by others

Condition = Callable[[Sequence[Any], Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Group:
    """Operators that are exact for one reason, under one condition on their arguments."""

    reason: str
    operators: frozenset[str]
    condition: Condition | None = None

    def holds(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call of one of the operators is exact."""
        if self.condition is not None and not self.condition(args, kwargs):
            return False
        return "out" not in kwargs or conditions.stored_exactly(kwargs, list(tensors_in(args)))


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


GROUPS: tuple[Group, ...] = (
    Group(
        "another view of the same memory",
        names(
            """view _unsafe_view reshape _reshape_alias flatten unflatten permute transpose t
            numpy_T expand expand_as slice select split split_with_sizes chunk tensor_split unbind
            squeeze unsqueeze alias detach narrow diagonal movedim swapaxes unfold as_strided
            view_as broadcast_to hsplit vsplit dsplit unsafe_chunk positive adjoint
            view_as_real view_as_complex real imag squeeze_ unsqueeze_ transpose_ t_ detach_
            lift_fresh"""
        ),
    ),
    Group(
        "copies elements, changes none",
        names(
            """clone contiguous index_select index gather embedding masked_select index_fill
            diag_embed diagonal_copy block_diag fliplr flipud narrow_copy
            take_along_dim roll flip rot90 masked_fill masked_fill_ pixel_shuffle
            pixel_unshuffle channel_shuffle native_channel_shuffle constant_pad_nd
            pad reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
            replication_pad2d replication_pad3d repeat repeat_interleave tile tril triu select_copy
            upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
            _upsample_nearest_exact2d _upsample_nearest_exact3d meshgrid
            slice_scatter select_scatter im2col split_copy split_with_sizes_copy
            unbind_copy permute_copy view_copy expand_copy lift lift_fresh_copy item
            _local_scalar_dense take index_fill_ masked_scatter masked_scatter_ tril_ triu_
            diagonal_scatter"""
        ),
    ),
    Group(
        "copies elements of several tensors, converts none inexactly",
        names("cat stack hstack vstack dstack column_stack row_stack where"),
        conditions.promotes_exactly,
    ),
    Group(
        "copies elements, each to a place of its own",
        names("index_put index_put_"),
        conditions.once_each,
    ),
    Group(
        "copies elements, the last one where several meet",
        names("scatter scatter_"),
        conditions.no_reduction,
    ),
    Group(
        "the identity outside training",
        names(
            """dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout dropout_
            feature_dropout_ alpha_dropout_ feature_alpha_dropout_"""
        ),
        conditions.not_in_training,
    ),
    Group(
        "makes a tensor from numbers",
        names(
            """empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like
            new_zeros zero_ ones ones_like new_ones full full_like new_full fill fill_ eye
            tril_indices triu_indices
            scalar_tensor"""
        ),
    ),
    Group("counts in integers", names("arange"), conditions.counts),
    Group(
        "changes the dtype to one that holds every value, or rounds each once",
        names("_to_copy to type_as"),
        conditions.exact_conversion,
    ),
    Group("the same, into memory that is there", names("copy_ copy"), conditions.exact_copy),
    Group(
        "one IEEE operation an element (alpha = 1)",
        names("add sub rsub"),
        conditions.one_rounding,
    ),
    Group(
        "the same, into a tensor of the result's dtype",
        names("add_ sub_"),
        conditions.one_rounding_in_place,
    ),
    Group("one IEEE multiplication an element", names("mul"), conditions.one_product),
    Group(
        "the same, into a tensor of the result's dtype",
        names("mul_"),
        conditions.one_product_in_place,
    ),
    Group(
        # By a number CUDA multiplies with its reciprocal: covered.py has an adapter for that.
        "one IEEE division an element",
        names("div"),
        conditions.one_division,
    ),
    Group(
        "the same, into a tensor of the result's dtype",
        names("div_"),
        conditions.one_division_in_place,
    ),
    Group(
        "changes the sign bit only, or rounds to an integer",
        names("neg neg_ abs abs_ sign sgn floor floor_ ceil ceil_ round round_ trunc trunc_"),
        conditions.real,
    ),
    Group(
        "takes a sign from one tensor, or one of three values by the sign",
        names("copysign copysign_ heaviside heaviside_"),
        conditions.alike,
    ),
    Group(
        "puts numbers in the place of NaN and infinities",
        names("nan_to_num nan_to_num_"),
        conditions.numbers_survive,
    ),
    Group(
        "copies elements, each to a place of its own",
        names("index_copy index_copy_"),
        conditions.once_along_a_dimension,
    ),
    Group(
        "compares",
        names("eq ne lt le gt ge"),
        conditions.full_precision,
    ),
    Group(
        # Comparisons again, whose outcomes decide where a binary search goes.
        "finds places among numbers of the same dtype",
        names("bucketize searchsorted"),
        conditions.one_dtype,
    ),
    Group(
        "asks for a property, or works on integers and booleans",
        names(
            """isnan isinf isfinite logical_and logical_or logical_not
            logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor any all equal argmax argmin
            count_nonzero is_nonzero nonzero nonzero_numpy argwhere signbit isposinf isneginf
            _nested_tensor_from_mask_left_aligned"""
        ),
    ),
    Group(
        "one IEEE division an element",
        names("reciprocal reciprocal_"),
        conditions.one_reciprocal,
    ),
    Group(
        "selects its input or a bound, neither of them zero on CUDA",
        names("clamp clamp_ clamp_min clamp_min_ clamp_max clamp_max_"),
        conditions.no_choice_of_zero,
    ),
    Group(
        "selects its input or a bound, neither of them zero on CUDA",
        names("hardtanh hardtanh_"),
        conditions.bounds_of_hardtanh,
    ),
    Group(
        # Tried with NaN and zeros of both signs: the same bits in a vector's body and tail, in
        # every layout. They keep -0 where another device (and R6's relu) gives +0: CPU only.
        "selects one of its inputs, the same way at every position on the CPU",
        names(
            """relu relu_ relu6 threshold threshold_ max_pool1d max_pool2d max_pool3d
            max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d
            adaptive_max_pool3d hardshrink"""
        ),
        conditions.one_tensor_on_cpu,
    ),
    Group(
        "selects the first of its largest (smallest) inputs along a dimension",
        names("max min"),
        conditions.along_a_dimension,
    ),
    Group(
        "sorts integers, equal ones by their places",
        names("sort"),
        conditions.stable_sort_of_integers,
    ),
    Group(
        "one IEEE multiplication of the negative elements",
        names("leaky_relu leaky_relu_ prelu _prelu_kernel"),
        conditions.one_multiplication,
    ),
)

# Of integers too these make a choice where several elements meet or are equal, and how is open.
_CHOOSING = names("index_put index_put_ scatter scatter_ index_copy index_copy_ sort argsort topk")

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
    if group is not None and group.holds(args, kwargs):
        return group.reason
    inputs = [*tensors_in(args), *tensors_in(kwargs)]
    tensors = [*inputs, *tensors_in(result)]
    if not tensors:
        return "a question, of no tensor"
    if not inputs or any(t.is_floating_point() or t.is_complex() for t in tensors):
        return None
    if (
        func.overloadpacket.__name__ not in _CHOOSING
        and torch.Tag.nondeterministic_seeded not in func.tags
    ):
        return "integer arithmetic"
    return None
