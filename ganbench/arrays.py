"""Arrays in files that others made."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import SampleError


def read_array(path: Path) -> Tensor:
    """The array of an .npy or .npz file (`samples` in it, or its only one). Raises SampleError; unpickles nothing."""
    try:
        with path.open("rb") as file:
            loaded: Any = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                names = loaded.files
                name = "samples" if "samples" in names else names[0] if len(names) == 1 else None
                if name is None:
                    raise SampleError(f"{path}: has no array 'samples'; it has: {', '.join(names)}")
                loaded = loaded[name]
        return torch.from_numpy(np.ascontiguousarray(loaded))
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise SampleError(f"{path}: cannot be read as .npy or .npz ({error})") from None
