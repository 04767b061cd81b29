"""Files of images: where they lie, whether they are what they should be, and how they become arrays.

Data are read from the folder that the environment variable GANBENCH_DATA names, which is never written to,
else from `data` in the user's cache folder, where downloads go. Decoded images are kept in `decoded` in the
cache folder under the hash of the files they come from; that folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import io
import os
import socket
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import PIL
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from .. import caching
from ..caching import cache_folder, digest
from ..errors import DatasetError

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 64_000_000  # of one image file: more than a camera takes, less than a decompression bomb
MAX_MEMBER = 1_000_000  # bytes of one image inside an archive
TIMEOUT = 30  # seconds without an answer after which a download has failed
DECODING = 1  # goes up when `decode` gives other pixels, so that no older cache is used

T = TypeVar("T")

# --------------------------------------------------------------------------------------------- folders


def data_folder() -> Path | None:
    """The folder which GANBENCH_DATA names, if it names one. Raises DatasetError where there is none."""
    named = os.environ.get("GANBENCH_DATA")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise DatasetError(
            f"GANBENCH_DATA is set to {named!r}, which is not a folder; set it to the folder "
            f"that holds your datasets, or unset it to let ganbench download to {download_folder()}"
        )
    return folder


def download_folder() -> Path:
    """Where downloads go and are found again."""
    return cache_folder() / "data"


def read(path: Path) -> bytes:
    """The bytes of a file. Raises DatasetError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None


# --------------------------------------------------------------------------------------------- download


def obtain(name: str, files: Mapping[str, str | None], make: Callable[[Path, bool], T]) -> T:
    """A dataset out of GANBENCH_DATA, if any of its files are there, else from the downloads.

    files: their paths under the data folder, with their MD5 sums where they are known
    make: (folder, download) -> the dataset; raises RuntimeError or OSError where files are missing or wrong
    Raises DatasetError which names the wrong file, or says what to do where there is no network.
    """
    named = data_folder()
    root = named if named and any((named / file).exists() for file in files) else download_folder()
    try:
        return make(root, False)
    except (RuntimeError, OSError):
        _refuse_wrong(name, root, files)
    if root == named:
        missing = ", ".join(file for file in files if not (root / file).exists()) or "a part"
        raise DatasetError(
            f"{name}: missing in {root}, which GANBENCH_DATA names and ganbench does not write to: {missing}; "
            f"put that there, or unset GANBENCH_DATA to let ganbench download to {download_folder()}"
        )
    return _download(name, files, lambda: make(root, True))


def _refuse_wrong(name: str, root: Path, files: Mapping[str, str | None]) -> None:
    """Raise DatasetError for a file that is there and has another MD5 sum; no file is ever replaced."""
    for path, expected in ((root / file, md5) for file, md5 in files.items() if md5):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
        if found != expected:
            size = path.stat().st_size
            raise DatasetError(
                f"{name}: {path} has {size:,} bytes and MD5 {found}; expected MD5 {expected}. "
                "It is truncated or another file: delete it and run again to download it"
            )


def _download(name: str, files: Iterable[str], make: Callable[[], T]) -> T:
    """`make()` downloads, shows its progress and may fail. One process at a time downloads a dataset."""
    root = download_folder()
    patience = socket.getdefaulttimeout()
    try:
        root.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(TIMEOUT)
        with FileLock(root / f".{name}.lock"):
            return make()
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise DatasetError(
            f"{name}: downloading to {root} failed: {reason}. Without a network, put these files there, or "
            f"into the folder that GANBENCH_DATA names: {', '.join(files)}"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)


# --------------------------------------------------------------------------------------------- idx


def read_idx(path: Path, shape: tuple[int, ...], sha256: str | None = None) -> NDArray[np.uint8]:
    """An array of bytes in LeCun's idx format: a header of big-endian 32-bit numbers, then the bytes.

    shape: the one it must have; sha256: of the whole file, where it is known
    Raises FileNotFoundError, and DatasetError for a truncated or another file.
    """
    header = np.array([0x0800 + len(shape), *shape], dtype=">u4").tobytes()
    size = len(header) + int(np.prod(shape))
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    right = len(content) == size and content[: len(header)].tobytes() == header
    if not right or sha256:
        found = hashlib.sha256(content.data).hexdigest()
        if not right or found != sha256:
            wanted = f"{size:,} bytes" + (f", SHA-256 {sha256}" if sha256 else f" for an array {shape}")
            raise DatasetError(
                f"{path}: has {len(content):,} bytes, SHA-256 {found}; expected {wanted}. It is truncated "
                "or another file: delete it and run again to download it, or put the right one there"
            )
    return content[len(header) :].reshape(shape)


# --------------------------------------------------------------------------------------------- archives


def read_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the regular files in a .tar.gz, in its order. Nothing is written to the disk, so
    that names such as `../x` lead nowhere. Raises DatasetError."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    continue
                if member.size > MAX_MEMBER:
                    raise DatasetError(
                        f"{path}: {member.name!r} in it has {member.size:,} bytes; "
                        f"expected images of at most {MAX_MEMBER:,}"
                    )
                yield member.name, content.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DatasetError(f"{path}: is not a whole .tar.gz archive ({error}); get it again") from None


# --------------------------------------------------------------------------------------------- folders


def list_images(root: Path) -> list[str]:
    """Paths of the PNG and JPEG files in a folder or in its sub-folders, relative to it, sorted: either all
    of them lie in the folder itself, or all in sub-folders, one for each class. Raises DatasetError."""
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "there is no such folder"
        raise DatasetError(f"{root}: {what}; expected a folder of PNG or JPEG images")
    plain = [entry.name for entry in _entries(root) if _is_image(entry)]
    classed: list[str] = []
    for folder in (entry for entry in _entries(root) if entry.is_dir()):
        inside = [f"{folder.name}/{entry.name}" for entry in _entries(folder) if _is_image(entry)]
        if not inside:
            raise DatasetError(f"{folder}: has no PNG or JPEG images; remove it, or put its class there")
        classed += inside
    if plain and classed:
        raise DatasetError(
            f"{root}: has images ({plain[0]}, …) beside sub-folders with images ({classed[0]}, …); "
            "put all images into sub-folders, one for each class, or all into one folder"
        )
    if not plain and not classed:
        others = sorted({entry.suffix or entry.name for entry in _entries(root)})
        held = f"only {', '.join(others[:6])}" if others else "it is empty"
        raise DatasetError(f"{root}: has no images with the suffix {', '.join(SUFFIXES)}: {held}")
    return sorted(plain or classed)


def _entries(folder: Path) -> list[Path]:
    """Without hidden files and what archivers leave behind."""
    return sorted(entry for entry in folder.iterdir() if entry.name[0] not in "._")


def _is_image(entry: Path) -> bool:
    return entry.suffix.lower() in SUFFIXES and not entry.is_dir()


def shuffled(names: Iterable[str]) -> list[str]:
    """The names in an order that looks random and is the same everywhere: by the SHA-256 of each."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())


# --------------------------------------------------------------------------------------------- pixels


@dataclass(frozen=True)
class Layout:
    """How images become arrays: the centred square (`crop` pixels wide, else the largest), resized to
    `size` by antialiased bicubic interpolation. `exact` refuses images of another size instead."""

    size: int
    channels: Literal[1, 3]
    crop: int | None = None
    exact: bool = False


def decode(blob: bytes, name: str, layout: Layout) -> NDArray[np.uint8]:
    """A PNG or JPEG file -> [C, size, size]. Transparency is laid over white, 16 bits are cut to 8, cameras'
    rotation marks are followed. Raises DatasetError which names the file."""
    try:
        with Image.open(io.BytesIO(blob), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DatasetError(
                    f"{name}: has {image.width} × {image.height} pixels, more than {MAX_PIXELS:,}"
                )
            if layout.exact and image.size != (layout.size, layout.size):
                expected = f"{layout.size} × {layout.size}"
                raise DatasetError(f"{name}: has {image.width} × {image.height} pixels; expected {expected}")
            return _pixels(ImageOps.exif_transpose(image), layout)
    except PIL.UnidentifiedImageError:
        raise DatasetError(
            f"{name}: is not a PNG or JPEG image, whatever its suffix says; convert or remove it"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DatasetError(f"{name}: has more than {MAX_PIXELS:,} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error) as error:
        raise DatasetError(f"{name}: is a damaged image ({error}); replace or remove it") from None


def _pixels(image: Image.Image, layout: Layout) -> NDArray[np.uint8]:
    if image.mode[0] == "I":  # 16-bit grey: `convert` would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    image = image.convert("L" if layout.channels == 1 else "RGB")
    side = layout.crop or min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Cut before resizing: a resize of a box also reads the pixels just outside it.
    image = image.crop((left, top, left + side, top + side))
    if side != layout.size:
        image = image.resize((layout.size, layout.size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(layout.size, layout.size, layout.channels).transpose(2, 0, 1)


def decode_all(names: Sequence[str], load: Callable[[str], bytes], layout: Layout) -> Tensor:
    """Files -> uint8 [N, C, size, size]. Raises DatasetError which names the first bad one."""
    if not 1 <= layout.size <= 1024:
        raise DatasetError(f"size must lie between 1 and 1024 pixels, got {layout.size}")
    pixels = np.empty((len(names), layout.channels, layout.size, layout.size), dtype=np.uint8)

    def fill(index: int) -> None:
        pixels[index] = decode(load(names[index]), names[index], layout)

    with ThreadPoolExecutor() as pool:  # the decoders release the interpreter's lock
        futures = [pool.submit(fill, index) for index in range(len(names))]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return torch.from_numpy(pixels)


def decode_files(root: Path, names: Sequence[str], layout: Layout) -> Tensor:
    """Image files under `root` -> uint8 [N, C, size, size], decoded once for each content of the files."""

    paths = [str(root / name) for name in names]

    def load(path: str) -> bytes:
        return read(Path(path))

    key = f"{layout} {digest(map(load, paths))}"
    return cached(key, lambda: {"pixels": decode_all(paths, load, layout)})["pixels"]


def cached(key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `make` decoded for this key before, else what it decodes now (`caching.cached`)."""
    return caching.cached("decoded", f"{DECODING} {PIL.__version__} {key}", make)
