"""A directory whose files are written whole or not at all, and checked when they are read.

JSON documents vouch for the artefacts beside them by their SHA-256, and for themselves by a checksum. They are
written last, so that a document which is there is complete. Plain writes were seen torn by one kill in seven,
and a flipped bit loads silently in torch and safetensors alike.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StoreError

if TYPE_CHECKING:
    from torch import Tensor

SURROGATE = re.compile("[\ud800-\udfff]")
SCHEMA = 1  # goes up when an older ganbench would misread what a newer one wrote
STALE = 3600.0  # seconds after which a temporary file has no writer any more


@dataclass
class Folder:
    """A directory with atomic, checked files. `warnings` collects what the user must be told."""

    root: Path
    read_only: bool = False  # damaged files are then passed over, and stay where they are
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def _real(self) -> str:
        return os.path.realpath(self.root)

    def path(self, *parts: str) -> Path:
        """A path inside the directory. Raises StoreError where a link or `..` leads out of it."""
        return self._inside(self.root.joinpath(*parts))

    def _inside(self, path: Path) -> Path:
        # Only paths with links need to be followed to their end, which takes most of the time to read a hundred
        # thousand small files.
        if _without_links(str(self.root), str(path)):
            return path
        real = os.path.realpath(path)
        if os.path.commonpath([self._real, real]) != self._real:
            raise StoreError(f"{path}: leads out of the run directory, to {real}; remove this link")
        return path

    def create(self) -> None:
        """Make the directory, and clean it of what killed writers left. Raises StoreError."""
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root}: is a file, expected a folder; choose another one with --out")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explained(error, self.root) from None
        for temporary in self.root.rglob(".*.tmp"):
            if _abandoned(temporary):
                temporary.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------ writing

    def write(self, path: Path, content: bytes) -> None:
        """Write a file so that after a crash at any moment the old or the new one is there, entirely."""
        self._inside(path)
        temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_directory(path.parent)
        except OSError as error:
            raise explained(error, path) from None

    def write_json(self, path: Path, document: Mapping[str, Any]) -> None:
        """Write a JSON document with its schema and a checksum of itself. NaN raises ValueError."""
        text = json.dumps({"schema": SCHEMA, **document}, allow_nan=False, default=str, ensure_ascii=False)
        # Text of a plugin, such as an exception's, may hold lone surrogates, which UTF-8 does not encode.
        plain = json.loads(SURROGATE.sub(lambda match: f"\\\\u{ord(match[0]):04x}", text))
        plain["checksum"] = _checksum(plain)
        self.write(path, json.dumps(plain, ensure_ascii=False, indent=1).encode() + b"\n")

    def commit(
        self, path: Path, document: Mapping[str, Any], artefacts: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        """Write tensors as safetensors files beside `path`, by their names, then the JSON that vouches for
        them."""
        from safetensors.torch import save

        sums = {}
        for name, tensors in artefacts.items():
            # Clones, since safetensors refuses tensors that share their memory.
            content = save({key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()})
            self.write(path.with_name(name), content)
            sums[name] = hashlib.sha256(content).hexdigest()
        self.write_json(path, {**document, "artefacts": sums})

    # ------------------------------------------------------------------------------------------ reading

    def read(
        self, path: Path, needs: Iterable[str] = (), *, whole: Path | None = None, artefacts: bool = True
    ) -> dict[str, Any] | None:
        """A document that `write_json` or `commit` wrote, with the keys it `needs`; None where there is none.

        Where it, or one of its artefacts, is not what was written, `whole` (by default the document alone)
        goes into quarantine. Raises StoreError for a document of a newer ganbench.
        """
        self._inside(path)
        try:
            document = _parse(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
        if document and isinstance(newer := document.get("schema"), int) and newer > SCHEMA:
            raise StoreError(
                f"{path}: was written by a newer ganbench (schema {newer}, this one knows {SCHEMA}); "
                "use that version, or another folder with --out"
            )
        bad = "is not a complete record"
        if document and document.get("checksum") == _checksum(document) and document.keys() >= {*needs}:
            names = document.get("artefacts", {}) if artefacts else {}
            bad = next(
                (why for name, checksum in names.items() if (why := self._damage(path, name, checksum))), ""
            )
        if bad:
            self.quarantine(whole or path, f"{path.relative_to(self.root)} {bad}")
        return None if bad else document

    def _damage(self, path: Path, name: str, checksum: str) -> str:
        """What is wrong with an artefact; "" if nothing is."""
        from safetensors import SafetensorError, safe_open

        file = self._inside(path.with_name(name))
        try:
            with open(file, "rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != checksum:
                return f"names {name}, which has changed since it was written"
            with safe_open(file, framework="numpy"):
                return ""
        except FileNotFoundError:
            return f"names {name}, which is missing"
        except (OSError, SafetensorError) as error:
            return f"names {name}, which cannot be read ({error})"

    def quarantine(self, path: Path, why: str) -> None:
        """Put a file or directory out of the way, and say so."""
        if self.read_only:
            return
        folder, stem, n = self.path("quarantine"), "__".join(path.relative_to(self.root).parts), 1
        while (target := folder / f"{stem}.{n}").exists():
            n += 1
        try:
            folder.mkdir(exist_ok=True)
            path.rename(target)
        except FileNotFoundError:
            return  # another run was faster
        except OSError as error:
            raise explained(error, path) from None
        self.warnings.append(f"{why}: moved to {target.relative_to(self.root)}, to be done again")


def _without_links(root: str, path: str) -> bool:
    """Whether a path leads down from `root` (which may be one) by folders alone, as far as it is there."""
    at, below = root, path.removeprefix(root + os.sep).split(os.sep)
    if not path.startswith(root + os.sep) or os.pardir in below:
        return False
    for part in below:
        at = f"{at}{os.sep}{part}"
        try:
            if stat.S_ISLNK(os.lstat(at).st_mode):
                return False
        except OSError:  # nothing there, so no link either; reading or writing will say more
            return True
    return True


def _checksum(document: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} in a document")


def _parse(content: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _abandoned(temporary: Path) -> bool:
    """Whether the process that was writing this file is no more."""
    stem, _, pid = temporary.name.removesuffix(".tmp").rpartition(".")
    try:
        if stem.endswith(f".{socket.gethostname()}") and pid.isdigit():
            os.kill(int(pid), 0)
        return time.time() - temporary.stat().st_mtime > STALE
    except (ProcessLookupError, FileNotFoundError, OverflowError):
        return True
    except PermissionError:  # it lives, under another user
        return False


def explained(error: OSError, path: Path) -> StoreError:
    """What a failed write means to the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(
            f"{path}: the disk is full; what is finished is kept: make room, then run the same command again"
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreError(f"{path}: cannot be written ({error.strerror}); choose another folder with --out")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return StoreError(f"{path}: a file stands where a folder is needed; choose another one with --out")
    return StoreError(f"{path}: cannot be written ({error.strerror or error})")
