"""A directory whose files are written atomically and verified when they are read.

All access to the files of a run goes through `Folder`. A run directory may come from a stranger, so `Folder` refuses
links and names that lead out of it, anything but regular files, and files larger than any run writes.

A JSON document holds the SHA-256 of its artefacts (tensor files next to it) and a checksum of itself. It is written
last, so a document that exists is complete. The checksums are needed because torch and safetensors load a file with
a flipped bit without an error.
"""

from __future__ import annotations

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
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import write_atomic, write_error
from ..errors import StoreError
from . import layout

if TYPE_CHECKING:
    from torch import Tensor

SURROGATE = re.compile("[\ud800-\udfff]")
SCHEMA = 1  # increased when an older ganbench would misread the files of a newer one
STALE = 3600.0  # seconds after which a temporary file is taken for abandoned
MAX_DOCUMENT = 2**28  # bytes; the plan of 100,000 scores has 20 MB
MAX_TENSORS = 2**36  # bytes; safetensors files are memory-mapped, so a large one costs no memory
REBUILD = "run the suite again to rebuild it"


@dataclass
class Folder:
    """A directory of atomically written, verified files. `warnings` collects messages for the user."""

    root: Path
    read_only: bool = False  # if so, damaged files are skipped and not moved
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def _real(self) -> str:
        return os.path.realpath(self.root)

    def path(self, name: str | Path, *parts: str) -> Path:
        """A path inside the directory; a string is relative to its root. Raises StoreError if a link or `..` leads out
        of the directory. Every method that takes a name or path calls this."""
        path = (self.root / name if isinstance(name, str) else name).joinpath(*parts)
        try:
            # `realpath` dominates the time to read a hundred thousand small files, so it is called only if there are
            # links.
            if _has_no_links(str(self.root), str(path)):
                return path
            real = os.path.realpath(path)
        except ValueError:  # a zero byte, or a surrogate that no file name can hold
            raise StoreError(f"{str(path)!r}: is not a valid path; no run writes such a name") from None
        if os.path.commonpath([self._real, real]) != self._real:
            raise StoreError(f"{path}: leads out of the run directory, to {real}; remove this link")
        return path

    def create(self) -> None:
        """Create the directory, and remove temporary files of killed writers. Raises StoreError if it cannot be
        created."""
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root}: is a file, expected a folder; choose another one with --out")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(error, self.root) from None
        for temporary in self.root.rglob(".*.tmp"):
            if _is_abandoned(temporary):
                temporary.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------ writing

    def write(self, name: str | Path, content: bytes) -> Path:
        """Write a file atomically: after a crash there is either the complete old file or the complete new one. Raises
        StoreError if it cannot be written."""
        return write_atomic(self.path(name), content)

    def remove_file(self, name: str | Path) -> None:
        """Remove a file, or a link in its place; a missing file is no error. Raises StoreError if it cannot be
        removed."""
        path = self.root / name if isinstance(name, str) else name
        try:
            # The folder must be inside the directory. The file may be a link to anywhere: the link itself is removed.
            self.path(path.parent).joinpath(path.name).unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise write_error(error, path) from None

    def write_json(self, name: str | Path, document: Mapping[str, Any]) -> None:
        """Write a JSON document with its schema and a checksum of itself. Raises ValueError for NaN and infinity."""
        text = json.dumps({"schema": SCHEMA, **document}, allow_nan=False, default=str, ensure_ascii=False)
        # Text from a plugin, such as an exception's, may contain lone surrogates, which UTF-8 cannot encode.
        plain = json.loads(SURROGATE.sub(lambda match: f"\\\\u{ord(match[0]):04x}", text))
        plain["checksum"] = _checksum(plain)
        self.write(name, json.dumps(plain, ensure_ascii=False, indent=1).encode() + b"\n")

    def commit(
        self, name: str | Path, document: Mapping[str, Any], artefacts: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        """Write artefacts (file name -> tensors) as safetensors files next to a document, then the document with their
        SHA-256. The file name `layout.TENSORS` stands for `x.safetensors` next to `x.json`. An artefact without tensors
        is not written."""
        from safetensors.torch import save

        path, sums = self.path(name), {}
        for artefact, tensors in artefacts.items():
            if not tensors:
                continue
            # Clones, since safetensors rejects tensors that share memory.
            content = save({key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()})
            target = path.with_suffix(artefact) if artefact == layout.TENSORS else path.with_name(artefact)
            self.write(target, content)
            sums[target.name] = hashlib.sha256(content).hexdigest()
        self.write_json(path, {**document, "artefacts": sums})

    # ------------------------------------------------------------------------------------------ reading

    def open(self, name: str | Path, limit: int) -> BufferedReader | None:
        """Open a file of the directory for reading; None if there is none.

        Raises StoreError for a link or name that leads out of the directory, for anything but a regular file (opening a
        FIFO would block for ever), and for a file of more than `limit` bytes.
        """
        path = self.path(name)
        try:
            kind = path.stat().st_mode
            if not stat.S_ISREG(kind):
                raise StoreError(
                    f"{path}: is {_KINDS.get(stat.S_IFMT(kind), 'not a file')}, expected a file; remove it"
                )
            file = path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            file.close()
            raise StoreError(f"{path}: has {size:,} bytes, more than any run writes ({limit:,}); remove it")
        return file

    def read_bytes(self, name: str | Path, limit: int = MAX_DOCUMENT) -> bytes | None:
        """The content of a file; None if there is none. Raises StoreError as `open` does."""
        file = self.open(name, limit)
        if file is None:
            return None
        try:
            with file:
                return file.read()
        except OSError as error:
            raise StoreError(f"{file.name}: cannot be read ({error.strerror})") from None

    def read_text(self, name: str | Path, limit: int = MAX_DOCUMENT) -> str | None:
        """The text of a file; None if there is none. Raises StoreError as `open` does, and for text that is not
        UTF-8."""
        content = self.read_bytes(name, limit)
        try:
            return None if content is None else content.decode()
        except UnicodeDecodeError as error:
            raise StoreError(f"{self.path(name)}: cannot be read as text ({error}); {REBUILD}") from None

    def read_object(self, name: str | Path) -> dict[str, Any]:
        """The object in a JSON file, without verifying its checksum; empty if there is no file. Raises StoreError as
        `open` does, and for a file that is not a JSON object."""
        content = self.read_bytes(name)
        try:
            return {} if content is None else _parse(content)
        except TypeError as error:
            raise StoreError(
                f"{self.path(name)}: holds a JSON {error}, expected an object; {REBUILD}"
            ) from None
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{self.path(name)}: cannot be read as JSON ({error}); {REBUILD}") from None

    def open_tensors(self, name: str | Path, framework: str = "numpy") -> Any:
        """A safetensors file of the directory, memory-mapped; None if there is none. Raises StoreError as `open` does,
        and for a damaged file."""
        from safetensors import SafetensorError, safe_open

        path = self.path(name)
        file = self.open(path, MAX_TENSORS)
        if file is None:
            return None
        file.close()
        try:
            return safe_open(path, framework=framework)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            raise StoreError(f"{path}: cannot be read as safetensors ({error}); {REBUILD}") from None

    def read_tensors(self, name: str | Path, framework: str = "numpy") -> dict[str, Any]:
        """The tensors of a safetensors file; empty if there is no file. Raises StoreError as `open_tensors` does."""
        file = self.open_tensors(name, framework)
        return {key: file.get_tensor(key) for key in file.keys()} if file else {}  # noqa: SIM118  # no mapping

    def read(
        self, name: str | Path, needs: Iterable[str] = (), *, folder: bool = False, artefacts: bool = True
    ) -> dict[str, Any] | None:
        """A document that `write_json` or `commit` wrote, with at least the keys `needs`; None if there is none.

        If the document or one of its artefacts is damaged, it is moved into quarantine (with `folder`, its whole
        folder) and the result is None. Raises StoreError for a document of a newer ganbench.
        """
        path = self.path(name)
        content = self.read_bytes(path)
        if content is None:
            return None
        try:
            document = _parse(content)
        except (TypeError, ValueError, RecursionError):
            document = {}
        if isinstance(newer := document.get("schema"), int) and newer > SCHEMA:
            raise StoreError(
                f"{path}: was written by a newer ganbench (schema {newer}, this one knows {SCHEMA}); "
                "use that version, or another folder with --out"
            )
        damage = "is not a complete record"
        if document.get("checksum") == _checksum(document) and document.keys() >= {*needs}:
            sums = document.get("artefacts", {}) if artefacts else {}
            if isinstance(sums, dict):
                damage = next(filter(None, (self._damage(path.parent / one, sums[one]) for one in sums)), "")
        if damage:
            self.quarantine(path.parent if folder else path, f"{path.relative_to(self.root)} {damage}")
        return None if damage else document

    def _damage(self, path: Path, checksum: str) -> str:
        """A description of what is wrong with an artefact; "" if nothing is."""
        stream = self.open(path, MAX_TENSORS)
        if stream is None:
            return f"names {path.name}, which is missing"
        try:
            with stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest == checksum and self.open_tensors(path):
                return ""
            return f"names {path.name}, which has changed since it was written"
        except (OSError, StoreError) as error:
            return f"names {path.name}, which cannot be read ({error})"

    def quarantine(self, path: Path, why: str) -> None:
        """Move a file or folder into the quarantine folder, and add a warning."""
        if self.read_only:
            return
        folder, stem, n = self.path(layout.QUARANTINE), "__".join(path.relative_to(self.root).parts), 1
        while (target := folder / f"{stem}.{n}").exists():
            n += 1
        try:
            folder.mkdir(exist_ok=True)
            path.rename(target)
        except FileNotFoundError:
            return  # another run has moved it already
        except OSError as error:
            raise write_error(error, path) from None
        self.warnings.append(f"{why}: moved to {target.relative_to(self.root)}; it will be computed again")


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _has_no_links(root: str, path: str) -> bool:
    """Whether the existing part of a path below `root` contains no link and no `..`; `root` itself may be a link."""
    at, below = root, path.removeprefix(root + os.sep).split(os.sep)
    if not path.startswith(root + os.sep) or os.pardir in below:
        return False
    for part in below:
        at = f"{at}{os.sep}{part}"
        try:
            if stat.S_ISLNK(os.lstat(at).st_mode):
                return False
        except OSError:  # nothing there, so no link either; reading or writing will raise the proper error
            return True
    return True


def _checksum(document: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _parse(content: bytes) -> dict[str, Any]:
    """A JSON object. Raises TypeError for other JSON, ValueError or RecursionError for invalid JSON."""

    def refuse(constant: str) -> float:  # NaN and infinity are not valid JSON, although Python reads them
        raise ValueError(f"{constant} in a document")

    document = json.loads(content, parse_constant=refuse)
    if not isinstance(document, dict):
        raise TypeError(type(document).__name__)
    return document


def _is_abandoned(temporary: Path) -> bool:
    """Whether the process that was writing this temporary file has ended."""
    stem, _, pid = temporary.name.removesuffix(".tmp").rpartition(".")
    try:
        if stem.endswith(f".{socket.gethostname()}") and pid.isdigit():
            os.kill(int(pid), 0)
        return time.time() - temporary.stat().st_mtime > STALE
    except (ProcessLookupError, FileNotFoundError, OverflowError):
        return True
    except PermissionError:  # it is running, under another user
        return False
