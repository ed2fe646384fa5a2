"""PyTorch's autocast for functions it does not know: the policy of their stock namesakes.

Autocast acts on ATen's operators only; a custom operator sees whatever dtypes it is given. What
PyTorch does with each operator of its own is a table, `_autocast_lists`; here the same is done for
a function that stands for one of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._autocast_lists import LISTS

# By device type and by the operator's name: all listed overloads of a name have one policy.
_POLICIES: dict[str, dict[str, str]] = {
    device: {
        overload.partition(".")[0]: policy
        for policy, overloads in lists.items()
        for overload in overloads
    }
    for device, lists in LISTS.items()
}
_KEYS = _torch.AUTOCAST_KEYS

# What follows a product in its operator takes what it is given, as the separate operators do: only
# the product's own input, weight and bias are cast.
_FUSED = "_fused"
_PRODUCT_TENSORS = 3


# Of bninv's operators.
_NAMES: dict[Any, str] = {}


class MixedHalvesError(RuntimeError):
    """float16 beside bfloat16, where PyTorch's autocast raises an error."""


def policy_of(name: str, device: str) -> str | None:
    """What autocast does with ATen's operator of this name on this type of device, or None."""
    return _POLICIES[device].get(name) if device in _POLICIES else None


def is_listed(overload: str, device: str) -> bool:
    """Whether autocast has a policy for this operator of ATen's, named with its overload."""
    return any(overload in names for names in LISTS.get(device, {}).values())


def cast(
    name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """The arguments of a call as autocast would hand them to ATen's operator of this name.

    Called only where some autocast is enabled. The first tensor's type of device decides.

    Raises:
        MixedHalvesError: the operator promotes, and a tensor has the half-precision dtype that is
            not autocast's.
    """
    values = (*args, *kwargs.values())
    device = _device_of(values)
    dtype = _target(name, device, values)
    if dtype is None:
        return args, kwargs
    return (
        tuple(_to(dtype, device, value) for value in args),
        {key: _to(dtype, device, value) for key, value in kwargs.items()},
    )


def name_operator(op: Any, name: str) -> None:
    """Tell `cast_operator` of an operator of bninv's, when it is defined."""
    _NAMES[op] = name


def cast_operator(op: Any, input: Tensor, args: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
    """`cast` for an operator of bninv's, by the operator of ATen's that it is named after."""
    # Not by the schema nor by the operator's own name: torch.compile can look at neither.
    name = _NAMES[op]
    values, rest = (input, *args), ()
    if name.endswith(_FUSED):
        name = name[: -len(_FUSED)]
        values, rest = values[:_PRODUCT_TENSORS], values[_PRODUCT_TENSORS:]
    first, *others = cast(name, values, {})[0]
    return first, (*others, *rest)


def widened(device: str, *tensors: Tensor) -> tuple[Any, ...]:
    """The tensors in float32 where this type of device has autocast, as other libraries' operators
    cast them.
    """
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(_to(torch.float32, device, tensor) for tensor in tensors)


def result_dtype(name: str, input: Tensor) -> torch.dtype:
    """The dtype of what an operator of this name makes of `input`, which autocast may decide."""
    if not _torch.any_autocast():
        return input.dtype
    device = input.device.type
    dtype = _target(name, device, (input,))
    return dtype if dtype is not None and _is_eligible(input, device) else input.dtype


def call_as(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Call a function that stands for ATen's operator of this name, as autocast would call that:
    with its arguments cast by the operator's policy, and with nothing cast that it calls.
    """
    cast_args, cast_kwargs = cast(name, args, kwargs)
    with without(_device_of((*args, *kwargs.values()))):
        return function(*cast_args, **cast_kwargs)


def without(device: str) -> contextlib.AbstractContextManager[Any]:
    """A context in which this type of device has no autocast, as in PyTorch's own operators."""
    if device not in _KEYS or not torch.is_autocast_enabled(device):
        return contextlib.nullcontext()
    if torch.compiler.is_compiling():
        return torch.autocast(device, enabled=False)
    # What autocast itself does around an operator; torch.autocast takes ten times as long.
    return _torch.exclude_keys(_KEYS[device])


def enabled_devices() -> list[str]:
    """The types of device that have autocast now."""
    return [device for device in _KEYS if torch.is_autocast_enabled(device)]


@contextlib.contextmanager
def enabled_again(devices: Sequence[str]) -> Iterator[None]:
    """Autocast, with the dtypes that it has, where a dispatch mode has it switched off."""
    before = [torch.is_autocast_enabled(device) for device in devices]
    for device in devices:
        torch.set_autocast_enabled(device, True)
    try:
        yield
    finally:
        for device, was_enabled in zip(devices, before, strict=True):
            torch.set_autocast_enabled(device, was_enabled)


def _device_of(values: Iterable[Any]) -> str:
    for value in values:
        if isinstance(value, Tensor):
            return value.device.type
    return ""


def _target(name: str, device: str, values: tuple[Any, ...]) -> torch.dtype | None:
    """What the operator's tensors are cast to, or None if it takes what it is given."""
    policy = policy_of(name, device)
    if policy is None or not torch.is_autocast_enabled(device):
        return None
    if policy == "lower_precision_fp":
        return torch.get_autocast_dtype(device)
    if policy == "fp32":
        return torch.float32
    if policy in ("fp32_set_opt_dtype", "fp32_append_dtype"):
        # A result in float32 is that of the input in float32, to which it is widened exactly.
        given = any(isinstance(value, torch.dtype) for value in values)
        return None if given else torch.float32
    if policy == "promote":
        return _widest(device, values)
    return None


def _widest(device: str, values: tuple[Any, ...]) -> torch.dtype:
    low = torch.get_autocast_dtype(device)
    for value in values:
        if not _is_eligible(value, device):
            continue
        if value.dtype is torch.float32:
            return torch.float32
        if value.dtype is not low:  # PyTorch looks no further, whatever comes after it
            raise MixedHalvesError(f"{value.dtype} under an autocast to {low}")
    return low


def _is_eligible(value: Any, device: str) -> bool:
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.dtype is not torch.float64
        and value.device.type == device
    )


def _to(dtype: torch.dtype, device: str, value: Any) -> Any:
    return value.to(dtype) if _is_eligible(value, device) else value
