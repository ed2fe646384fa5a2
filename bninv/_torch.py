"""What bninv stands on that PyTorch keeps private, in one place: a release may move any of it.

Elsewhere it is used under these names alone.
"""

from __future__ import annotations

import types
from typing import Any

import torch

_C: Any = torch._C
_modules: Any = torch.nn.modules.module

# ---- Where PyTorch's functions live beside torch, torch.nn.functional and Tensor ----

NN: Any = _C._nn
LINALG: Any = _C._linalg
SPECIAL: Any = _C._special
einsum_as_given = _C._VariableFunctions.einsum  # torch.einsum may reorder its operands first
# Its code as it is, but for the question at its start whether a mode is to be asked.
multi_head_attention_code = types.FunctionType(
    torch.nn.functional.multi_head_attention_forward.__code__,
    {**vars(torch.nn.functional), "has_torch_function": lambda tensors: False},
    "multi_head_attention_forward",
    torch.nn.functional.multi_head_attention_forward.__defaults__,
)
set_grad_enabled = _C._set_grad_enabled  # what a TorchFunctionMode gets for torch.no_grad()

OpOverload = torch._ops.OpOverload
OpOverloadPacket = torch._ops.OpOverloadPacket

# ---- Questions, each some ten nanoseconds ----

any_autocast = _C._is_any_autocast_enabled
tracing_state = _C._get_tracing_state  # None unless torch.jit.trace is at work
is_gradtracking = _C._functorch.is_gradtrackingtensor  # of torch.func.grad and its relatives
has_kernel = _C._dispatch_has_kernel_for_dispatch_key  # of an operator's name and a key's


def has_global_hooks() -> bool:
    """Whether the calls of all modules are looked at."""
    return bool(
        _modules._global_forward_hooks
        or _modules._global_forward_pre_hooks
        or _modules._global_backward_hooks
        or _modules._global_backward_pre_hooks
    )


def users_of(storage: torch.UntypedStorage) -> int:
    """How many tensors and storage objects hold a piece of memory, this one included."""
    return int(_C._storage_Use_Count(storage._cdata))


# ---- The thread's stack of TorchFunctionModes: entered and left without their Python wrapper ----

modes = _C._len_torch_function_stack
mode_at = _C._get_function_stack_at
push_mode = _C._push_on_torch_function_stack
pop_mode = _C._pop_torch_function_stack

# ---- Parts of the dispatcher switched off, as PyTorch's own operators do it ----

below_autograd = _C._AutoDispatchBelowAutograd
exclude_keys = _C._ExcludeDispatchKeyGuard
AUTOCAST_KEYS: dict[str, Any] = {
    "cpu": _C.DispatchKeySet(_C.DispatchKey.AutocastCPU),
    "cuda": _C.DispatchKeySet(_C.DispatchKey.AutocastCUDA),
}


def is_observed() -> bool:
    """Whether a compiler or a tracer follows what runs: nothing may then depend on values."""
    return torch.compiler.is_compiling() or tracing_state() is not None
