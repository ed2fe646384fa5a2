"""Boxes of images, awkward ones mostly: for what regions give, and for what suppression keeps."""

from __future__ import annotations

import itertools
import random
from typing import Any

import torch
from torch import Tensor

from tests.support.properties import INF, NAN, any_bits, generator, with_specials

# ---- Regions -------------------------------------------------------------------------------------

# The operators with what they are called with besides input, boxes and bins.
OPERATORS: dict[str, list[tuple[Any, ...]]] = {
    "roi_align": [
        (scale, sampling, aligned)
        for scale, sampling, aligned in itertools.product((1.0, 0.3), (-1, 1, 2, 3), (False, True))
    ],
    "ps_roi_align": list(itertools.product((1.0, 0.3), (-1, 2, 3))),
    "roi_pool": [(1.0,), (0.3,)],
    "ps_roi_pool": [(1.0,), (0.3,)],
}
POSITIONED = ("ps_roi_align", "ps_roi_pool")

NUMBERS = [0.0, -0.0, 3.0, 2.5, 0.49999997, -7.5, 5.0, 4.0, -1.0, 1e9, -1e9, 2e5, 3e38, -3e38]
NUMBERS += [NAN, INF, -INF, 1e-40]


def corners(label: object, count: int, height: float, width: float) -> Tensor:
    """Of boxes in an image and around it, a few of them tiny and a few inside out."""
    rng = generator(label)
    size = torch.tensor([width, height])
    start = torch.from_numpy(rng.uniform(-0.2, 1, (count, 2))).float() * size
    length = torch.from_numpy(rng.uniform(-0.1, 0.9, (count, 2))).float() * size
    return torch.cat([start, start + length], 1)


def of_images(label: object, images: int, each: int, height: float, width: float) -> Tensor:
    """Boxes of every image, with indices."""
    boxes = corners(label, images * each, height, width)
    indices = torch.arange(images).repeat_interleave(each)[:, None].float()
    return torch.cat([indices, boxes], 1)


def hostile_regions(dtype: torch.dtype) -> Tensor:
    """Each number at each corner beside others."""
    rng = generator("hostile")
    rows = [
        [0, *rng.choice(NUMBERS, corner), number, *rng.choice(NUMBERS, 3 - corner)]
        for number in NUMBERS
        for corner in range(4)
        for _ in range(3)
    ]
    return torch.tensor(rows, dtype=torch.float64).to(dtype)


# ---- Suppression ---------------------------------------------------------------------------------

THRESHOLDS = (0.5, 0.0, -0.0, 0.3, 1 / 3, 0.7, 1.0, -1.0, 1e-310, -1e-310, 1e300, INF, -INF, NAN)


def hostile_boxes(seed: int, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores with ties, and classes. Of seven kinds."""
    made, choose = torch.Generator().manual_seed(seed), random.Random(seed)
    corners = torch.rand(count, 2, generator=made) * choose.choice([1, 4, 20])
    sizes = torch.rand(count, 2, generator=made) * 3 - choose.choice([0, 0, 0.5])
    boxes = torch.cat([corners, corners + sizes], 1).to(dtype)
    kind = choose.randrange(7)
    if kind == 1:
        boxes = with_specials(boxes, seed, 0.1)
    elif kind == 2:  # the same ones again
        boxes = boxes[torch.randint(0, count // 4 + 1, (count,), generator=made)]
    elif kind == 3:  # many without an area
        boxes = boxes.round()
    elif kind == 4:  # areas that underflow, sides that are subnormal
        boxes = boxes * torch.finfo(dtype).smallest_normal * 0.3
    elif kind == 5:
        boxes = any_bits(seed, (count, 4), dtype)
    scores = torch.rand(count, generator=made).to(dtype)
    if choose.random() < 0.5:
        scores = (scores * 5).round() / 5 - 0.4
    if choose.random() < 0.3:
        scores = with_specials(scores, seed, 0.4)
    return boxes, scores, torch.randint(-1, 3, (count,), generator=made)
