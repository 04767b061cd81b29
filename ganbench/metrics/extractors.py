"""Named feature extractors for distances between sets of samples.

pixels: the data's own numbers. classifier: the last hidden layer of a small net that ganbench trains on the dataset
itself. inception: the 2048 features of papers' FID (Heusel et al. 2017). dinov2: the 1024 features of DINOv2 ViT-L/14,
which agree better with people's judgement (Stein et al. 2023). The weights of the last two are read from PyTorch's
download folder; ganbench does not download them.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # what torch.load raises; nothing is unpickled here
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..contracts import Data
from ..errors import SampleError, did_you_mean
from .classifier import classifier, in_blocks, recipe, recipe_fields
from .distances import check_samples

PIXELS = "pixels"
BLOCK = 50  # images at a time in a large net
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation of the colours
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"  # the name that torch-fidelity gives it
DINOV2 = "dinov2_vitl14_pretrain.pth"  # the name in the hub
DINOV2_CODE = "facebookresearch_dinov2_main"

Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Extractor:
    """A named function from samples to features."""

    name: str
    identity: str  # in a protocol's sentence: architecture, training recipe or hash of the weights, data
    # floats [n, *shape] in the data's scale -> floats [n, d], without gradient; no example depends on another
    apply: Features

    def __call__(self, x: Tensor) -> Tensor:
        """Features [n, d] of floats `x` [n, *shape] in the data's scale. Raises SampleError for other input."""
        return self.apply(x)


def extractor(name: str, data: Data, device: torch.device | str = "cpu") -> Extractor:
    """The extractor of this name for samples of `data`, on a device.

    Raises SampleError for an unknown name, for data that it cannot take (no images, or no labels for "classifier") and
    for weights that are missing.
    """
    return Extractor(name, identity(name, data), _kind(name).make(data, torch.device(device)))


def identity(name: str, data: Data) -> str:
    """The extractor in a protocol's sentence; nothing is trained. Raises SampleError as `extractor` does."""
    return _kind(name).describe(data)


def extractor_fields(name: str, data: Data) -> dict[str, Any]:
    """The extractor in a protocol's fields. Raises SampleError as `extractor` does."""
    return {"extractor": name, **_kind(name).fields(data)}


def space(name: str, data: Data) -> str:
    """The space of a metric's distances, in a protocol's sentence. Raises SampleError as `extractor` does."""
    return "the data's own scale" if name == PIXELS else identity(name, data)


def space_fields(name: str, data: Data) -> dict[str, Any]:
    """The same in a protocol's fields; empty for pixels. Raises SampleError as `extractor` does."""
    return {} if name == PIXELS else extractor_fields(name, data)


@dataclass(frozen=True)
class _ExtractorKind:
    describe: Callable[[Data], str]
    fields: Callable[[Data], dict[str, Any]]
    make: Callable[[Data, torch.device], Features]


def _kind(name: str) -> _ExtractorKind:
    if name not in EXTRACTORS:
        raise SampleError(f"features: {name!r} is not a feature extractor{did_you_mean(name, EXTRACTORS)}")
    return EXTRACTORS[name]


def _describe_pixels(data: Data) -> str:
    return "the data's own numbers" if len(data.shape) < 3 else f"pixels in {data.scale}"


def _make_pixels(data: Data, device: torch.device) -> Features:
    empty = torch.empty(0, *data.shape, device=device)
    return lambda x: check_samples(x, "samples", like=empty).flatten(1)


# --------------------------------------------------------------------------------------------- large nets


def _weights(file: str) -> Path:
    """The file of this name in PyTorch's download folder. Raises SampleError if it is missing."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        raise SampleError(
            f"features: weights are missing, expected in {path}; ganbench does not download them"
        )
    return path


def _sha256(file: str) -> str:
    with _weights(file).open("rb") as opened:
        return hashlib.file_digest(opened, hashlib.sha256).hexdigest()


def _load(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights. Raises SampleError if it is damaged or holds anything but tensors."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SampleError(
            f"features: {path} is not a file of weights; download it again ({reason})"
        ) from None


def _images(x: Tensor, data: Data) -> Tensor:
    """Samples [n, C, H, W] as colour images in [0, 1], rounded to 256 levels."""
    low, high = data.scale or (0.0, 1.0)
    x = ((x.float() - low) / (high - low)).clamp(0, 1)
    return (x * 255).round().div(255).expand(-1, 3, -1, -1)


def _check_colour(data: Data) -> None:
    if len(data.shape) != 3 or data.shape[0] not in (1, 3):
        raise SampleError(
            f"features: {data.name} has examples {list(data.shape)}; expected images [1 or 3, H, W]"
        )


def _large_net(
    data: Data, device: torch.device, net: nn.Module, prepare: Features, block: int = BLOCK
) -> Features:
    """Features by `net` of images [n, 3, H, W] in [0, 1] after `prepare`."""
    net = net.to(device).eval().requires_grad_(False)
    empty = torch.empty(0, *data.shape, device=device)

    def apply(x: Tensor) -> Tensor:
        x = check_samples(x, "samples", like=empty)
        return in_blocks(lambda part: net(prepare(_images(part, data))).flatten(1), x, block)

    return apply


class _Inception(nn.Module):
    """torch-fidelity's port of FID's Inception net, which resizes images as TensorFlow 1 did."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            ported = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        except ImportError:
            raise SampleError(
                "features: inception needs torch-fidelity: pip install 'ganbench[metrics]'"
            ) from None
        _load(path)  # checked here, since torch-fidelity itself would unpickle anything
        options = {"feature_extractor_weights_path": str(path)}
        self.net = ported.FeatureExtractorInceptionV3("inception", ["2048"], **options)

    def forward(self, x: Tensor) -> Tensor:  # [B, 3, H, W] in [0, 1] -> [B, 2048]
        return self.net((x * 255).round().to(torch.uint8))[0]


def _describe_inception(data: Data) -> str:
    _check_colour(data)
    return f"2048 features of Inception v3 (2015-12-05, torch-fidelity), weights SHA-256 {_sha256(INCEPTION)[:12]}"


def _make_inception(data: Data, device: torch.device) -> Features:
    return _large_net(data, device, _Inception(_weights(INCEPTION)), lambda x: x)


def _describe_dinov2(data: Data) -> str:
    _check_colour(data)
    return f"1024 features of DINOv2 ViT-L/14 at 224 × 224 pixels, weights SHA-256 {_sha256(DINOV2)[:12]}"


def _make_dinov2(data: Data, device: torch.device) -> Features:
    path, code = _weights(DINOV2), Path(torch.hub.get_dir()) / DINOV2_CODE
    if not code.is_dir():
        raise SampleError(
            f"features: the code of DINOv2 is missing, expected in {code}; ganbench does not download it"
        )
    net = cast(nn.Module, torch.hub.load(str(code), "dinov2_vitl14", source="local", pretrained=False))
    net.load_state_dict(_load(path))
    return _large_net(data, device, net, _standardise)


def _standardise(x: Tensor) -> Tensor:
    """Images [n, 3, H, W] in [0, 1] -> [n, 3, 224, 224], standardised by ImageNet's mean and standard deviation."""
    mean, std = (torch.tensor(v, device=x.device)[:, None, None] for v in IMAGENET)
    x = F.interpolate(x, (224, 224), mode="bicubic", antialias=True, align_corners=False)
    return (x.clamp(0, 1) - mean) / std


EXTRACTORS = {
    PIXELS: _ExtractorKind(_describe_pixels, lambda data: {"scale": data.scale}, _make_pixels),
    "classifier": _ExtractorKind(
        recipe, recipe_fields, lambda data, device: classifier(data, device).features
    ),
    "inception": _ExtractorKind(
        _describe_inception, lambda data: {"weights": _sha256(INCEPTION)[:12]}, _make_inception
    ),
    "dinov2": _ExtractorKind(_describe_dinov2, lambda data: {"weights": _sha256(DINOV2)[:12]}, _make_dinov2),
}
