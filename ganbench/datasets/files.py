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
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import IO, Literal, NamedTuple, TypeVar

import numpy as np
import PIL
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from .. import cache
from ..cache import cache_folder, digest
from ..errors import DatasetError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")  # as Pillow calls them
IMAGE_KINDS = "PNG, JPEG, BMP or WebP"
OTHER_IMAGES = (
    ".tif",
    ".tiff",
    ".gif",
    ".avif",
    ".heic",
    ".ppm",
    ".pgm",
    ".jp2",
    ".tga",
)  # which are not read
MAX_PIXELS = 64_000_000  # of one image file: more than a camera takes, less than a decompression bomb
MAX_MEMBER_BYTES = 1_000_000  # bytes of one image inside an archive
TIMEOUT_SECONDS = 30  # seconds without an answer after which a download has failed
DECODER_VERSION = 1  # goes up when `decode` gives other pixels, so that no older cache is used

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
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise DatasetError(f"{path}: is a folder, a pipe or a device; expected a file")
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
    for path in (root / file for file in files):
        if path.exists() and not path.is_file() and not path.is_dir():  # reading a pipe would wait for ever
            raise DatasetError(f"{name}: {path} is a pipe or a device; expected a file: remove it")
    try:
        return make(root, False)
    except (RuntimeError, OSError):
        _check_md5(name, root, files)
    if root == named:
        missing = ", ".join(file for file in files if not (root / file).exists()) or "a part"
        raise DatasetError(
            f"{name}: missing in {root}, which GANBENCH_DATA names and ganbench does not write to: {missing}; "
            f"put that there, or unset GANBENCH_DATA to let ganbench download to {download_folder()}"
        )
    return _download(name, files, lambda: make(root, True))


def _check_md5(name: str, root: Path, files: Mapping[str, str | None]) -> None:
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
        socket.setdefaulttimeout(TIMEOUT_SECONDS)
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
                if member.size > MAX_MEMBER_BYTES:
                    raise DatasetError(
                        f"{path}: {member.name!r} in it has {member.size:,} bytes; "
                        f"expected images of at most {MAX_MEMBER_BYTES:,}"
                    )
                yield member.name, content.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DatasetError(f"{path}: is not a whole .tar.gz archive ({error}); get it again") from None


# --------------------------------------------------------------------------------------------- folders


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, and what else lies there."""

    root: Path
    names: tuple[str, ...]  # relative to the folder, sorted
    skipped: tuple[str, ...]  # in words, such as "3 .txt"

    def __str__(self) -> str:
        """`300 image files, skipped: 2 .txt, 1 hidden`"""
        files = f"{len(self.names):,} image file{'' if len(self.names) == 1 else 's'}"
        return ", skipped: ".join([files, *([", ".join(self.skipped)] if self.skipped else [])])


def list_images(root: Path) -> Listing:
    """The image files in a folder or in its sub-folders: either all of them lie in the folder itself, or all in
    sub-folders, one for each class. Hidden files and folders, folders that begin with `_` (such as __MACOSX) and
    files with another suffix are skipped and counted. Raises DatasetError."""
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "there is no such folder"
        raise DatasetError(f"{root}: {what}; expected a folder of {IMAGE_KINDS} images")
    skipped: list[Path] = []
    plain, folders = _entries(root, skipped)
    classed: list[Path] = []
    for folder in folders:
        inside, deeper = _entries(folder, skipped)
        if not inside:
            raise DatasetError(f"{folder}: has no {IMAGE_KINDS} images; remove it, or put its class there")
        classed += inside
        skipped += deeper
    names = [[entry.relative_to(root).as_posix() for entry in part] for part in (plain, classed)]
    if plain and classed:
        raise DatasetError(
            f"{root}: has images ({names[0][0]}, …) beside sub-folders with images ({names[1][0]}, …); "
            "put all images into sub-folders, one for each class, or all into one folder"
        )
    if not plain and not classed:
        held = f"only {', '.join(_count_by_kind(skipped)[:6])}" if skipped else "it is empty"
        raise DatasetError(f"{root}: has no images with the suffix {', '.join(SUFFIXES)}: {held}")
    return Listing(root, tuple(sorted(names[0] or names[1])), _count_by_kind(skipped))


def _entries(folder: Path, skipped: list[Path]) -> tuple[list[Path], list[Path]]:
    """The image files and the folders in a folder, each sorted; all else is added to `skipped`."""
    images, folders = [], []
    for entry in sorted(folder.iterdir()):
        if entry.name[0] == "." or (entry.name[0] == "_" and entry.is_dir()):
            skipped.append(entry)
        elif entry.is_dir():
            folders.append(entry)
        elif entry.exists() and not entry.is_file():  # reading a pipe would wait for ever
            raise DatasetError(f"{entry}: is a pipe or a device; expected an image file: remove it")
        else:
            (images if entry.suffix.lower() in SUFFIXES else skipped).append(entry)
    return images, folders


def _count_by_kind(skipped: Sequence[Path]) -> tuple[str, ...]:
    """What was skipped, by kind: `12 .tif (convert to PNG)`, `1 hidden (.DS_Store)`, `folder old/cat`."""
    found = []
    for entry in skipped:
        suffix = entry.suffix.lower()
        if entry.name[0] == ".":
            found.append("hidden")
        elif entry.is_dir():
            found.append(f"folder {entry.parent.name}/{entry.name}")
        elif suffix in OTHER_IMAGES:
            found.append(f"{suffix} (not read: convert to PNG)")
        else:
            found.append(suffix or f"without suffix ({entry.name})")
    return tuple(f"{found.count(kind)} {kind}" for kind in sorted(set(found)))


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


class Header(NamedTuple):
    """What an image file says before its pixels."""

    grey: bool
    width: int  # pixels
    height: int


def read_headers(listing: Listing) -> list[Header]:
    """The headers of all files, in their order. Raises DatasetError which names a bad file."""

    def read_header(name: str) -> Header:
        path = listing.root / name
        try:
            with path.open("rb") as file, _open_image(file, str(path)) as image:
                return Header(_is_grey(image), *image.size)
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read_header, listing.names))


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P":
        colours = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La", "F") or image.mode[0] == "I"


def channel_note(headers: Sequence[Header], channels: int) -> str:
    """How files of both kinds are read with so many channels: `298 of 300 are in colour, 2 grey, read as …`"""
    grey = sum(header.grey for header in headers)
    colour = len(headers) - grey
    if channels == 1:
        return f"{colour:,} of {len(headers):,} are in colour, read as grey" if colour else "all grey"
    return f"{grey:,} of {len(headers):,} are grey, read as colour" if grey else "all in colour"


@contextmanager
def _open_image(source: IO[bytes], name: str) -> Iterator[Image.Image]:
    """An image whose pixels are not decoded yet. Raises DatasetError, also for what goes wrong when they are."""
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DatasetError(
                    f"{name}: has {image.width} × {image.height} pixels, more than {MAX_PIXELS:,}"
                )
            if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
                raise DatasetError(f"{name}: is an animation; expected a picture: save its frames as files")
            yield image
    except PIL.UnidentifiedImageError:
        raise DatasetError(
            f"{name}: is not a {IMAGE_KINDS} image, whatever its suffix says; convert or remove it"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DatasetError(f"{name}: has more than {MAX_PIXELS:,} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error) as error:
        raise DatasetError(f"{name}: is a damaged image ({error}); replace or remove it") from None


def decode(blob: bytes, name: str, layout: Layout) -> NDArray[np.uint8]:
    """An image file -> [C, size, size]. Transparency is laid over white, 16 bits are cut to 8, cameras' rotation
    marks are followed. Raises DatasetError which names the file."""
    with _open_image(io.BytesIO(blob), name) as image:
        if layout.exact and image.size != (layout.size, layout.size):
            expected = f"{layout.size} × {layout.size}"
            raise DatasetError(f"{name}: has {image.width} × {image.height} pixels; expected {expected}")
        return _pixels(ImageOps.exif_transpose(image), layout)


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
    return cache.cached("decoded", f"{DECODER_VERSION} {PIL.__version__} {key}", make)
