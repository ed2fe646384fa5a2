"""Load a checkpoint file into a model, or say in one line why its keys do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bninv.loading.usage import UsageError

# Where training scripts keep the weights, an exponential moving average first, and what wrappers
# put before every key.
_WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "params",
    "weights",
)
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load the weights in `path` (safetensors, or what torch.save wrote) into `model`.

    Pickled code is never run: torch.load is called with `weights_only=True`.

    Raises:
        UsageError: the file cannot be read, or its keys or shapes do not fit.
    """
    state = _unwrap(_read(path), path)
    wanted = model.state_dict()
    state = _without_prefix(state, wanted)
    # Checkpoints from before PyTorch 0.4.1 have no counters; eval mode does not use them.
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in wanted]
    shapes = [
        f"{k} is {tuple(state[k].shape)} in the file and {tuple(wanted[k].shape)} in the model"
        for k in wanted
        if k in state and state[k].shape != wanted[k].shape
    ]
    problems = [
        *_some("missing", missing),
        *_some("unexpected", unexpected),
        *_some("of another shape", shapes),
    ]
    if problems:
        listed = "; ".join(problems)
        raise UsageError(f"--checkpoint {path}: its keys do not fit the model: {listed}")
    model.load_state_dict(state, strict=False)


def _some(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = ", …" if len(names) > 2 else ""
    return [f"{len(names)} {what} ({', '.join(names[:2])}{more})"]


def _read(path: Path) -> Any:
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise UsageError(f"--checkpoint {path}: {what}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        text = str(error)
        if "weights_only" in text or "Unsupported global" in text:
            reason = "holds more than tensors (it would run pickled code); save model.state_dict()"
        else:
            cause = " ".join(text.split())[:120]
            reason = f"cannot be read as safetensors or by torch.load: {cause}"
        raise UsageError(f"--checkpoint {path}: {reason}") from error


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)}
        inner = next((k for k in _WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if inner is not None:
            content = content[inner]
        elif tensors:
            return tensors
        else:
            break
    raise UsageError(f"--checkpoint {path}: holds no weights (a dict of tensors by name)")


def _without_prefix(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for _ in _PREFIXES:
        if any(key in wanted for key in state):
            break
        prefix = next((p for p in _PREFIXES if all(k.startswith(p) for k in state)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state
