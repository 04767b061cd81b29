"""Atomic writing of files, for run directories, tables, pictures and the cache.

In a test, one kill in seven left a file that had been written without it incomplete.
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
    """A temporary path to write to; after the block it replaces `path`.

    After a crash there is either the complete old file or the complete new one. Missing folders are created. A link at
    `path` is replaced, never followed. durable: guarantee this also for a power failure, which waits for the disk.
    Raises StoreError if the file cannot be written.
    """
    # In the same folder, since a rename is atomic only within a file system; host and process keep writers apart.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # writing would follow a link placed there
        try:
            yield temporary
            if durable:
                _sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if durable:
            _sync(path.parent)  # the rename must survive a power failure too
    except OSError as error:
        raise write_error(error, path) from None


def write_atomic(path: Path, content: bytes, *, durable: bool = True) -> Path:
    """Write a file atomically, and return its path. Raises StoreError if it cannot be written."""
    with replacement(path, durable=durable) as temporary, open(temporary, "xb") as file:
        file.write(content)
    return path


def write_error(error: OSError, path: Path) -> StoreError:
    """A failed write as an error message for the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(
            f"{path}: the disk is full; finished results are kept: free some space, then run the same command again"
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreError(
            f"{path}: cannot be written ({error.strerror}); a run can go to another folder with --out"
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return StoreError(
            f"{path}: cannot be written: there is a file where a folder is needed; move it away"
        )
    return StoreError(f"{path}: cannot be written ({error.strerror or error})")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
