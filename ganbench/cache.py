"""A cache of tensors that take long to compute, in the user's cache folder, under a hash of all their inputs.

Everything in the folder may be deleted at any time; a damaged file is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .atomic import replacement
from .errors import StoreError


def cache_folder() -> Path:
    """`ganbench` in XDG_CACHE_HOME, else in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ganbench"


def digest(blobs: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of a sequence of blobs. Each is hashed separately first, so that moving a boundary changes the hash."""
    whole = hashlib.sha256()
    for blob in blobs:
        whole.update(hashlib.sha256(blob).digest())
    return whole.hexdigest()


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, types, shapes and bytes of tensors on the CPU."""
    # Bytes in the order of names, since tensors of one file may come in another order.
    heads = (f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() for name, tensor in tensors.items())
    bodies = (tensors[name].contiguous().reshape(-1).numpy().data for name in sorted(tensors))
    return digest(sorted(heads)) + digest(bodies)


def cached(folder: str, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The cached result of `make` for this key, if it is there and intact; else calls `make` and stores its result.

    folder: a folder inside the cache folder. If several processes need the same result, one computes it and the others
    wait. If the folder cannot be written, nothing is cached.
    """
    path = cache_folder() / folder / f"{digest([key.encode()])}.safetensors"
    tensors = _read(path)
    if tensors is None:
        with _lock(path):
            tensors = _read(path)  # again, since another process may have written it
            if tensors is None:
                tensors = make()
                _write(path, tensors)
    return tensors


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock next to `path`, if the file system supports it."""
    # Without a lock two processes compute the same, which costs time but no result.
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, NotImplementedError):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_name(f".{path.name}.lock")))
        yield


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
            expected = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return tensors if fingerprint(tensors) == expected else None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    with contextlib.suppress(StoreError, SafetensorError), replacement(path) as temporary:
        save_file(tensors, temporary, metadata={"sha256": fingerprint(tensors)})
