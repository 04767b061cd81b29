"""Files that are written whole or not at all: the one writer for run directories, tables, pictures and the cache.

Plain writes were seen torn by one kill in seven.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import StoreError


@contextmanager
def replacement(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path to write; after the block it takes the place of `path`.

    After a crash at any moment the old or the new file is there, entirely. Missing folders are made. A link at `path`
    is replaced, never followed. durable: also after a power cut, which waits for the disk. Raises StoreError where
    something cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # a link that was put there would be followed
        try:
            yield temporary
            if durable:
                _sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if durable:
            _sync(path.parent)  # the new name, too, must outlive a power cut
    except OSError as error:
        raise explained(error, path) from None


def write_atomic(path: Path, content: bytes, *, durable: bool = True) -> Path:
    """Write a file whole or not at all, and return its path. Raises StoreError where that is not possible."""
    with replacement(path, durable=durable) as temporary, open(temporary, "xb") as file:
        file.write(content)
    return path


def explained(error: OSError, path: Path) -> StoreError:
    """What a failed write means to the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(
            f"{path}: the disk is full; what is finished is kept: make room, then run the same command again"
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreError(
            f"{path}: cannot be written ({error.strerror}); a run can go to another folder with --out"
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return StoreError(f"{path}: cannot be written: a file stands where a folder is needed; move it away")
    return StoreError(f"{path}: cannot be written ({error.strerror or error})")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
