"""Photographs to check a model with, prepared as the model wants them."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from bninv.loading.usage import UsageError

# Colour photographs inside the wheels of scikit-image and scikit-learn: nothing is downloaded.
# The order is part of what makes two runs comparable.
_SHIPPED = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/retina.jpg"),
)
_SUFFIXES = (".jpg", ".jpeg", ".png")
# What further samples of one photograph show: the corners and the centre, (left, top) of the room.
_CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5))


@dataclass(frozen=True)
class Preprocess:
    """How a model wants its images: (channels, height, width), scale and normalisation."""

    size: tuple[int, int, int] = (3, 224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop_pct: float = 0.875
    interpolation: str = "bicubic"

    def resized(self, side: int | None) -> Preprocess:
        """The same for square images of `side` pixels; unchanged for None."""
        if side is None:
            return self
        if side < 1:
            raise UsageError(f"--image-size {side}: must be at least 1")
        return replace(self, size=(self.size[0], side, side))


def find_images(folder: Path | None) -> list[Path]:
    """The photographs in `folder` by name, or those that an installed package ships."""
    if folder is None:
        found = [path for package, name in _SHIPPED if (path := _shipped(package, name))]
        if not found:
            raise UsageError(
                "no photographs found: pip install 'bninv[images]' for some, or name a folder "
                "with --images DIR"
            )
        return found
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"--images {folder}: {what}; it must be a folder of JPEG or PNG files")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not found:
        raise UsageError(f"--images {folder}: holds no {', '.join(_SUFFIXES)} file")
    return found


def _shipped(package: str, name: str) -> Path | None:
    # find_spec does not import the package.
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root, name)
        if path.is_file():
            return path
    return None


def load_samples(paths: list[Path], count: int, prepare: Preprocess) -> tuple[Tensor, list[str]]:
    """`count` prepared samples (count, channels, height, width), float32, and their names.

    Where there are fewer photographs than samples, the rest are crops of them, every second one
    mirrored: always the same for the same `count`, and the first samples the same for any.
    """
    tensors, names = [], []
    for index in range(count):
        path, variant = paths[index % len(paths)], index // len(paths)
        image = _open(path, prepare.size[0])
        tensors.append(_prepare(_variant(image, variant), prepare))
        names.append(f"{path.stem} (crop {variant})" if variant else path.stem)
    return torch.stack(tensors), names


def _open(path: Path, channels: int) -> Image.Image:
    if channels not in (1, 3):
        raise UsageError(f"the model takes images of {channels} channels; bninv check has 1 or 3")
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            return upright.convert("RGB" if channels == 3 else "L")
    except UnidentifiedImageError:
        raise UsageError(f"{path}: not a readable image (JPEG or PNG)") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path}: cannot be read as an image ({error})") from error


def _variant(image: Image.Image, variant: int) -> Image.Image:
    if variant == 0:
        return image
    left, top = _CORNERS[(variant - 1) % len(_CORNERS)]
    # Each round over the corners goes closer.
    share = 0.7 * 0.8 ** ((variant - 1) // len(_CORNERS))
    width, height = (max(1, round(share * side)) for side in image.size)
    x, y = round(left * (image.width - width)), round(top * (image.height - height))
    crop = image.crop((x, y, x + width, y + height))
    return ImageOps.mirror(crop) if variant % 2 else crop


def _prepare(image: Image.Image, prepare: Preprocess) -> Tensor:
    """Resize so that the crop is covered, crop the centre, scale to [0, 1], normalise."""
    channels, height, width = prepare.size
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    scale = max(height / image.height, width / image.width) / prepare.crop_pct
    # Rounding up, so that a crop_pct of 1 leaves no row short.
    resized = image.resize(
        (math.ceil(scale * image.width), math.ceil(scale * image.height)),
        filters.get(prepare.interpolation, Image.Resampling.BICUBIC),
    )
    left, top = (resized.width - width) // 2, (resized.height - height) // 2
    pixels = np.asarray(resized.crop((left, top, left + width, top + height)), np.float32)
    pixels = pixels.reshape(height, width, channels) / np.float32(255)
    mean, std = (np.asarray(v[:channels], np.float32) for v in (prepare.mean, prepare.std))
    return torch.from_numpy((pixels - mean) / std).permute(2, 0, 1).contiguous()
