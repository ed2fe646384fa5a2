"""Load a model by name: a timm NAME, `torchvision:NAME` or `package.module:callable`."""

from __future__ import annotations

import importlib
import inspect
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bninv.detection import is_detector
from bninv.loading.calibration import is_untrained, randomize_constants
from bninv.loading.checkpoint import load_checkpoint
from bninv.loading.detectors import SIDE, UNTRAINED_SIDE
from bninv.loading.images import Preprocess
from bninv.loading.usage import UsageError, near_matches


@dataclass
class LoadedModel:
    """A model in eval mode, how it wants its images, and where its weights are from.

    `untrained`: its weights are random, so its BatchNorm statistics want calibrating. `kind` is
    what it takes, as `load_inputs` has it, and `frames` how many images a clip has.
    """

    model: nn.Module
    name: str
    preprocess: Preprocess
    weights: str
    untrained: bool
    kind: str = "image"
    frames: int = 1


def load_model(
    name: str, *, pretrained: bool = False, checkpoint: Path | None = None, seed: int | None = 0
) -> LoadedModel:
    """Build the model that `name` names, on the CPU, in float32.

    Random weights are drawn after seeding PyTorch's global generator; constant parameters (layer
    scales of 1e-6, BatchNorm weights of 0 at the end of a residual branch) are drawn anew, because
    they would hide most of the model from the check.

    Args:
        name: a timm architecture, `torchvision:NAME`, or `package.module:callable` (a function that
            returns a module, or a module).
        pretrained: download the library's weights.
        checkpoint: a file to load weights from.
        seed: for random weights. None leaves them as nothing seeded them: others every time.

    Raises:
        UsageError: with one line that says what is wrong.
    """
    if pretrained and checkpoint is not None:
        raise UsageError("--pretrained and --checkpoint: give one of them")
    if seed is None:
        torch.seed()
    else:
        torch.manual_seed(seed)
    kind, _, rest = name.partition(":")
    if kind == "torchvision" and rest:
        model, prepare = _torchvision(rest, pretrained)
    elif rest and kind not in ("hf-hub", "hf_hub", "local-dir", "timm"):
        model, prepare = _callable(name, kind, rest, pretrained)
    else:
        model, prepare = _timm(rest if kind == "timm" else name, pretrained)
    weights, untrained = "pretrained", False
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
        weights = f"from {checkpoint.name}"
    elif not pretrained:
        # A user's own function may have loaded weights: then BatchNorm has seen data.
        own = kind not in ("torchvision", "timm") and bool(rest)
        untrained = is_untrained(model) if own else True
        weights = f"random, seed {seed}" if untrained else f"as {name} made them"
        if untrained and seed is not None:
            randomize_constants(model, seed)
    taken = takes(model)
    if is_detector(model):
        # Their own transform normalizes.
        side = UNTRAINED_SIDE if untrained else SIDE
        plain = Preprocess((3, side, side), (0.0,) * 3, (1.0,) * 3, 1.0, "bilinear")
        return LoadedModel(model.eval(), name, plain, weights, untrained, "detection")
    if taken is not None:
        return LoadedModel(model.eval(), name, taken[1], weights, untrained, taken[0], taken[2])
    return LoadedModel(model.eval(), name, prepare, weights, untrained)


def takes(model: nn.Module) -> tuple[str, Preprocess, int] | None:
    """What a model of torchvision's takes that is no classifier: kind, images and frames.

    The images are small, so that a check is quick, unless the model is made for one size.
    """
    where = type(model).__module__
    if where.startswith("torchvision.models.segmentation"):
        return "image", Preprocess(size=(3, 128, 128), interpolation="bilinear"), 1
    if where.startswith("torchvision.models.optical_flow"):
        return "flow", Preprocess((3, 128, 128), (0.5,) * 3, (0.5,) * 3, 1.0, "bilinear"), 1
    if not where.startswith("torchvision.models.video"):
        return None
    # S3D averages over two frames of 7 x 7 at the end; MViT has its positions in its weights.
    side, frames = {"S3D": (224, 16), "MViT": (224, 16)}.get(type(model).__name__, (112, 8))
    mean, std = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
    return "video", Preprocess((3, side, side), mean, std, 1.0, "bilinear"), frames


def _timm(name: str, pretrained: bool) -> tuple[nn.Module, Preprocess]:
    timm = _import_library("timm", name)
    architecture = name.split(".")[0]
    if ":" not in name and not timm.is_model(architecture):
        known = timm.list_models()
        if "." in architecture or "/" in name:
            known = []
        elif (tv := _torchvision_names()) and architecture in tv:
            raise UsageError(f"timm has no model {name!r}, torchvision has: torchvision:{name}")
        raise UsageError(
            f"timm has no model {name!r}{near_matches(architecture, known)} "
            "(a model is a timm NAME, torchvision:NAME or package.module:callable)"
        )
    if pretrained:
        _no_endless_retries("huggingface.co")
    model = _build(name, pretrained, lambda: timm.create_model(name, pretrained=pretrained))
    config = timm.data.resolve_data_config({}, model=model)
    keys = ("mean", "std", "crop_pct", "interpolation")
    return model, Preprocess(size=config["input_size"], **{key: config[key] for key in keys})


def _no_endless_retries(host: str) -> None:
    """Without a network, let huggingface_hub use its cache or say so at once, not in a minute."""
    if any(name in os.environ for name in ("HF_ENDPOINT", "HTTPS_PROXY", "https_proxy")):
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True


def _torchvision(name: str, pretrained: bool) -> tuple[nn.Module, Preprocess]:
    tv = _import_library("torchvision", f"torchvision:{name}").models
    known = _torchvision_names()
    if name not in known:
        raise UsageError(f"torchvision has no model {name!r}{near_matches(name, known)}")
    options: dict[str, Any] = {"weights": "DEFAULT" if pretrained else None}
    # Segmentation and detection models would download a backbone otherwise.
    builder = tv.get_model_builder(name)
    if not pretrained and "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    # GoogLeNet and Inception say that their random init will change; ours is drawn anew anyway.
    if not pretrained and name in ("googlenet", "inception_v3"):
        options["init_weights"] = True
    model = _build(name, pretrained, lambda: tv.get_model(name, **options))
    side = getattr(model, "image_size", 299 if name == "inception_v3" else 224)
    prepare = Preprocess(size=(3, side, side), interpolation="bilinear")
    return model, prepare


def _torchvision_names() -> list[str]:
    try:
        from torchvision import models
    except ImportError:
        return []
    return list(models.list_models())


def _callable(
    name: str, module_name: str, attribute: str, pretrained: bool
) -> tuple[nn.Module, Preprocess]:
    if pretrained:
        raise UsageError("--pretrained is for timm and torchvision models; use --checkpoint FILE")
    # A console script does not have the current directory on its path; python -m has.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise UsageError(
                f"{name}: there is no Python module {error.name!r} here or installed"
            ) from error
        raise UsageError(f"{name}: importing {module_name} failed: {error}") from error
    except Exception as error:
        raise UsageError(f"{name}: importing {module_name} failed: {error!r}") from error
    target: Any = module
    for part in attribute.split("."):
        if not hasattr(target, part):
            names = [n for n in vars(target) if not n.startswith("_")]
            raise UsageError(f"{name}: {module_name} has no {part!r}{near_matches(part, names)}")
        target = getattr(target, part)
    if isinstance(target, nn.Module):
        return target, Preprocess()
    if not callable(target):
        got = type(target).__name__
        raise UsageError(f"{name}: got {got}, must be callable or a torch.nn.Module")
    model = _build(name, False, target)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{name}: returned {type(model).__name__}, must return a torch.nn.Module")
    return model, Preprocess()


def _import_library(library: str, name: str) -> Any:
    try:
        module = importlib.import_module(library)
        importlib.import_module(f"{library}.models")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == library:
            raise UsageError(
                f"model {name!r} needs {library}, which is not installed: "
                f"pip install 'bninv[{library}]'"
            ) from error
        raise UsageError(f"model {name!r}: importing {library} failed: {error}") from error
    return module


def _build(name: str, pretrained: bool, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        if pretrained:
            raise UsageError(
                f"could not get pretrained weights for {name}: {type(error).__name__}: {text} "
                "(--checkpoint FILE loads a file; without --pretrained the weights are random)"
            ) from error
        raise UsageError(f"{name} could not be built: {type(error).__name__}: {text}") from error
