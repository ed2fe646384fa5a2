"""Object detectors: images of one shape whatever the batch, so that padding depends on none.

torchvision's detectors (`torchvision.models.detection`) pad a batch to its largest image. What an
image is padded to then depends on its neighbours, and with it the image's boxes: by what the model
computes, not by rounding, so that `bninv.patch` alone cannot mend it. `fixed_size` does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from bninv._shown import shown

ModelT = TypeVar("ModelT", bound=nn.Module)


class Images(list[Tensor]):
    """One image [C, H, W] for each sample, of sizes of their own: what a detector is called with.

    `bninv.check` takes them for the batch's samples, where it would take a plain list for one
    argument of several batched tensors. For torchvision's detectors a plain list will do as well.
    """


def is_detector(model: nn.Module) -> bool:
    """Whether the model resizes and pads its images by torchvision's transform for detectors."""
    return any(True for _ in _transforms(model))


def fixed_size(model: ModelT, size: tuple[int, int] | None) -> ModelT:
    """Pad every image to one shape, whatever batch it is in, in place; returns the model.

    The transform of the model still normalizes each image and resizes it as it did, its aspect
    kept; then it fills the image with zeros, at the right and at the bottom, up to `size`. The
    detections of a patched model are then the same bits for an image alone and beside images of any
    other sizes, at any position. Compared with a batch of that one image alone without
    `fixed_size`, there is more padding: detections may be others than those.

    It may be called before or after `bninv.patch`, in training as well. Nothing but this model
    changes; copies of it keep the size, its state dict knows nothing of it. A model that resizes
    every image to the same size, as SSD does, is left as it is.

    Args:
        model: a detector of `torchvision.models.detection`, or a module that holds one.
        size: (height, width) that every resized image fits, multiples of what the model pads to
            (32, for most). (1344, 1344) holds whatever min_size=800 and max_size=1333 make, upright
            or not; images of one orientation do with less, as (800, 1344). None takes a size off
            again.

    Raises:
        ValueError: the model is no such detector, or the size is none that it can pad to. The
            model's forward raises one for an image that does not fit.
    """
    transforms = list(_transforms(model))
    if not transforms:
        raise ValueError(
            f"model: got {type(model).__name__}, must be a detector of "
            "torchvision.models.detection (it has no GeneralizedRCNNTransform)"
        )
    if size is not None:
        for transform in transforms:
            _need_size(size, transform)
    if all(transform.fixed_size is not None for transform in transforms):
        return model
    for transform in transforms:
        transform.__dict__.pop("batch_images", None)
        if size is not None:
            # On the instance: patched or not, and whatever its class becomes, it is found first.
            transform.batch_images = _Canvas(*size)
    for pooler in _poolers(model):
        for key, hook in list(pooler._forward_pre_hooks.items()):
            if isinstance(hook, _ScalesOfCanvas):
                del pooler._forward_pre_hooks[key]
        # The first batch that a pooler sees decides its scales: what it saw before is void.
        pooler.scales = pooler.map_levels = None
        if size is not None:
            pooler.register_forward_pre_hook(_ScalesOfCanvas(*size), prepend=True)
    return model


def resized_sizes(model: nn.Module, images: Iterable[Tensor]) -> list[tuple[int, int]]:
    """The least multiples that `fixed_size` takes for each image: resized, (height, width).

    Raises:
        ValueError: the model is no detector of torchvision's.
    """
    transform = next(iter(_transforms(model)), None)
    if transform is None:
        raise ValueError(f"model: got {type(model).__name__}, has no GeneralizedRCNNTransform")
    step = transform.size_divisible
    found = []
    for image in images:
        height, width = transform.resize(image)[0].shape[-2:]
        found.append((-(-height // step) * step, -(-width // step) * step))
    return found


@dataclass(frozen=True)
class _Canvas:
    """In the place of `GeneralizedRCNNTransform.batch_images`; a copy of it copies no model."""

    height: int
    width: int

    def __call__(self, images: Sequence[Tensor], size_divisible: int = 32) -> Tensor:
        for index, image in enumerate(images):
            height, width = image.shape[-2:]
            if height > self.height or width > self.width:
                raise ValueError(
                    f"bninv.detection.fixed_size: image {index} of the batch is {height} x {width} "
                    f"(height x width) once resized, and must fit {self.height} x {self.width}: "
                    "give fixed_size a larger size, or the model a smaller min_size and max_size"
                )
        channels = images[0].shape[0]
        batch = images[0].new_zeros((len(images), channels, self.height, self.width))
        for index, image in enumerate(images):
            batch[index, :, : image.shape[-2], : image.shape[-1]].copy_(image)
        return batch


@dataclass(frozen=True)
class _ScalesOfCanvas:
    """Has a `MultiScaleRoIAlign` tell its features' scales by the shape that was padded to.

    It takes the largest image of the first batch for that shape, rounding to a power of two: wrong
    where the padding is as large as half of the image.
    """

    height: int
    width: int

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        features, boxes, image_shapes, *rest = args
        return features, boxes, [(self.height, self.width)] * len(image_shapes), *rest


def _need_size(size: Any, transform: Any) -> None:
    whole = isinstance(size, (tuple, list)) and all(
        isinstance(side, int) and not isinstance(side, bool) for side in size
    )
    if not whole or len(size) != 2 or min(size) < 1:
        raise ValueError(f"size: got {shown(size)}, must be (height, width), two whole numbers")
    step = transform.size_divisible
    if any(side % step for side in size):
        above = tuple(-(-side // step) * step for side in size)
        raise ValueError(f"size: got {tuple(size)}, must be multiples of {step}, such as {above}")


def _transforms(model: nn.Module) -> Iterable[Any]:
    return _modules(model, "torchvision.models.detection.transform", "GeneralizedRCNNTransform")


def _poolers(model: nn.Module) -> Iterable[Any]:
    return _modules(model, "torchvision.ops.poolers", "MultiScaleRoIAlign")


def _modules(model: nn.Module, where: str, name: str) -> Iterable[Any]:
    # Whoever has such a module has imported torchvision; nobody else has to.
    kind = getattr(sys.modules.get(where), name, None)
    return iter(()) if kind is None else (m for m in model.modules() if isinstance(m, kind))
