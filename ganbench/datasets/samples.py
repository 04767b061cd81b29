"""Samples made elsewhere, as the data that others are held against."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Generator

from ..contracts import Data, dataset
from ..errors import DatasetError, SampleError
from ..samples import Samples, read_array

MIN_EXAMPLES = 10  # for three splits


@dataset("samples", version=2)
def samples(
    _generator: Generator,
    path: str,  # an .npy or .npz file: its array `samples`, or its only one
) -> Data:
    """Samples of your own or of others as the data: an .npy or .npz file of [N, *shape], N at least 10.

    In one fixed random order, which the contents of the rows decide, 50 % are for training, 10 % for validation,
    40 % for tests. Bytes are pixels in 0 to 1, everything else floats, whose scale is not bounded. Images [N, H, W, C]
    become [N, C, H, W]; the channels are the first or last axis of 1 or 3 entries, else of 4 or 2. Raises
    DatasetError for what is no such array.
    """
    file = Path(path).expanduser()
    try:
        array, name = read_array(file)
        if array.ndim < 2 or len(array) < MIN_EXAMPLES:
            raise DatasetError(
                f"{name}: holds {list(array.shape)}; expected [N, *shape], N at least {MIN_EXAMPLES}"
            )
        every = Samples(array, name, order="data")  # not the order in which the same file is read as samples
    except SampleError as error:
        raise DatasetError(str(error)) from None
    n = len(every)
    held = n // 10
    stored = every[:]
    train, valid, test = stored.split([n - 5 * held, held, 4 * held])
    scale = (0.0, 1.0) if stored.dtype == torch.uint8 else None
    return Data("samples", train, valid, test, every.example, scale, notes=(str(every),))
