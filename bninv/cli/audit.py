"""What `bninv check --save` and `bninv audit` do: write a record, and compute it again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from bninv.loading.usage import UsageError


def save_record(
    path: Path, model: Any, inputs: Any, precision: str, source: dict[str, Any]
) -> None:
    """Write a record of the patched model, made from a stock one that `source` leads to again."""
    from torch import Tensor

    from bninv.auditing import record
    from bninv.patching import patch

    # What was measured on the photographs is in no checkpoint.
    names = dict(model.named_buffers()) if source["random"] else {}
    state = {name: t for name, t in model.state_dict().items() if name in names}
    state = {name: t for name, t in state.items() if isinstance(t, Tensor)}
    patched = patch(copy.deepcopy(model).eval(), precision=precision)  # type: ignore[arg-type]
    record(patched, inputs, path, source=source, state=state)


def run_audit(
    path: Path,
    name: str | None,
    checkpoint: Path | None,
    pretrained: bool,
    device: str,
    threads: int | None,
) -> Any:
    """An Audit of a record with the model that it names, or that is named here."""
    import torch

    from bninv.auditing import Record, audit
    from bninv.loading.detectors import prepare_untrained
    from bninv.loading.device import check_device, load_for
    from bninv.loading.models import load_model

    check_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        found = Record.load(path)
    except ValueError as error:
        raise UsageError(str(error)) from error
    source = found.source
    wanted = name or source.get("model")
    if wanted is None:
        raise UsageError(f"{path}: it does not name its model; give --model")
    if checkpoint is None and not pretrained and name is None:
        pretrained = bool(source.get("pretrained"))
        if source.get("checkpoint"):
            raise UsageError(
                f"{path}: its weights were from {source['checkpoint']}; give them by --checkpoint"
            )
    loaded = load_model(
        wanted, pretrained=pretrained, checkpoint=checkpoint, seed=source.get("seed", 0)
    )
    if source.get("detector_side") is not None:
        prepare_untrained(loaded.model, source["detector_side"])
    model = loaded.model
    own = model.state_dict()
    fitting = {n: t for n, t in found.state.items() if n in own and own[n].shape == t.shape}
    model.load_state_dict(fitting, strict=False)
    place, _ = load_for(device)
    try:
        return audit(found, model, place)
    except ValueError as error:
        raise UsageError(str(error)) from error
