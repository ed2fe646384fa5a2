"""What each kind of model is fed with, made of photographs: images, lists of them, clips, pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bninv.detection import Images
from bninv.loading.images import Preprocess, load_samples
from bninv.loading.usage import UsageError

# Pixels by which each frame of a clip shows the photograph further to the right and below.
_STEP = 2
# And the second image of a pair, from which an optical flow is computed: (down, right).
_SHIFT = (3, 5)
_FLOW_SIDE, _FLOW_MULTIPLE = 128, 8


def load_inputs(
    kind: str, paths: list[Path], count: int, prepare: Preprocess, frames: int = 1
) -> tuple[Any, list[str]]:
    """`count` samples of the kind that a model takes, and their names.

    Args:
        kind: "image": a tensor (count, C, H, W). "detection": `Images`. "video": a tensor
            (count, C, frames, H, W), of frames that move over a photograph. "flow": a pair of
            tensors like those of "image", the second of them moved.
        paths: of photographs.
        count: of samples.
        prepare: size and normalisation.
        frames: of a clip.

    Raises:
        UsageError: the model cannot take images of this size, or a photograph cannot be read.
    """
    height, width = prepare.size[1:]
    if kind == "flow" and (min(height, width) < _FLOW_SIDE or (height | width) % _FLOW_MULTIPLE):
        raise UsageError(
            f"--image-size {height}: a model of optical flow takes multiples of {_FLOW_MULTIPLE}, "
            f"at least {_FLOW_SIDE}"
        )
    room = {"video": (_STEP * (frames - 1),) * 2, "flow": _SHIFT}.get(kind, (0, 0))
    size = (prepare.size[0], height + room[0], width + room[1])
    images, names = load_samples(paths, count, replace(prepare, size=size))

    def part(top: int, left: int) -> Tensor:
        return images[:, :, top : top + height, left : left + width].contiguous()

    made: dict[str, Callable[[], Any]] = {
        "detection": lambda: Images(images.unbind()),
        "video": lambda: torch.stack([part(_STEP * t, _STEP * t) for t in range(frames)], 2),
        "flow": lambda: (part(0, 0), part(*_SHIFT)),
    }
    return made.get(kind, lambda: images)(), names


def load_mixed(paths: list[Path], count: int, prepare: Preprocess) -> Images:
    """`count` images of three shapes in turn: square, landscape and portrait (2 : 1)."""
    channels, side = prepare.size[0], prepare.size[1]
    short = max(1, side // 2)
    shapes = [(side, side), (short, side), (side, short)]
    loaded = [load_samples(paths, count, replace(prepare, size=(channels, *s)))[0] for s in shapes]
    return Images(loaded[index % len(shapes)][index] for index in range(count))
