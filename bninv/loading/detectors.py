"""Make a detector with random weights find something, soon: no threshold, and small images."""

from __future__ import annotations

from typing import Any

from torch import nn

# Sides of the photographs for a detector, in pixels: with random weights so that a check is quick.
UNTRAINED_SIDE, SIDE = 128, 480


def prepare_untrained(model: nn.Module, side: int) -> list[str]:
    """Lower the model's score thresholds to 0, and let it resize to `side`; says what it did.

    Random weights give scores that no threshold lets through, and torchvision's detectors resize
    what they get to 800 pixels. A model that resizes to one fixed size, as SSD does, keeps that:
    its anchors are made for it.
    """
    said = []
    lowered = False
    for module in model.modules():
        found: Any = module
        if isinstance(getattr(found, "score_thresh", None), float):
            lowered = lowered or found.score_thresh > 0
            found.score_thresh = 0.0
        if hasattr(found, "min_size") and hasattr(found, "max_size"):
            own = found.min_size[-1]
            if getattr(found, "fixed_size", None) is None and own != side:
                found.min_size, found.max_size = (side,), side
                said.append(f"images resized to {side} pixels instead of {own}")
    if lowered:
        said.insert(0, "score thresholds lowered to 0.0")
    return said
