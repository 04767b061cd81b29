"""Samples made elsewhere, as the data that others are held against."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Generator, Tensor

from ..arrays import read_array
from ..contracts import Data, dataset
from ..errors import DatasetError, SampleError

LEAST = 10  # for three splits


@dataset("samples")
def samples(
    generator: Generator,
    path: str,  # an .npy or .npz file: its array `samples`, or its only one
) -> Data:
    """Samples of your own or of others as the data: an .npy or .npz file of [N, *shape], N at least 10.

    In one fixed shuffled order 50 % are for training, 10 % for validation, 40 % for tests. Bytes [N, C, H, W] are
    pixels, everything else floats, whose scale is not bounded. Raises DatasetError for what is no such array.
    """
    file = Path(path).expanduser()
    found = _read(file)
    if len(found) < LEAST or found[0].numel() == 0:
        raise DatasetError(f"{file}: holds {list(found.shape)}; expected [N, *shape], N at least {LEAST}")
    if found.is_floating_point() and not bool(torch.isfinite(found).all()):
        raise DatasetError(f"{file}: {int((~torch.isfinite(found)).sum())} values are NaN or infinite")
    found = found[torch.randperm(len(found), generator=generator)]
    train, valid, test = found.split([len(found) - 5 * (len(found) // 10), *_parts(len(found))])
    scale = (0.0, 1.0) if found.dtype == torch.uint8 else None
    return Data("samples", train, valid, test, tuple(found.shape[1:]), scale)


def _parts(n: int) -> tuple[int, int]:
    """Sizes of the validation and of the test split."""
    return n // 10, 4 * (n // 10)


def _read(file: Path) -> Tensor:
    """The array: bytes of images as they are, all else as float32. Raises DatasetError."""
    try:
        found = read_array(file)
    except SampleError as error:
        raise DatasetError(str(error)) from None
    if found.ndim < 2:
        raise DatasetError(f"{file}: holds {list(found.shape)}; expected [N, *shape], one row per example")
    return found if found.dtype == torch.uint8 and found.ndim == 4 else found.float()
