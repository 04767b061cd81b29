"""Reading of samples: arrays of any layout, type and order, by one set of rules.

Layout: [N, *shape] is read unchanged. [N, H, W, C] is transposed if [N, C, H, W] is expected. Axes of length 1 may be
missing or added. Flat rows are read if the data have one channel. Everything else is an error.
Scale: bytes (uint8) are pixels, 0…255 mapped to the data's scale, in every layout. bool is 0 and 1. All other numbers
are read unchanged; for data with a scale, other integers in 0…255 are pixels too.
Order: a file is read in a pseudo-random order that depends only on the contents of its rows.
Memory: files are memory-mapped. Rows become tensors when they are indexed.
"""

from __future__ import annotations

import hashlib
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .contracts import Data
from .errors import SampleError

Array = NDArray[Any]
MAX_UNPACKED = 8 * 2**30  # bytes of a compressed array in an .npz file; uncompressed ones are mapped
BLOCK = 2**24  # numbers converted at a time
STATISTICS = {
    "mu",
    "sigma",
    "mu_s",
    "sigma_s",
}  # of features, in the reference files of FID and guided diffusion

# --------------------------------------------------------------------------------------------- files


class Header(NamedTuple):
    """The header of an .npy file."""

    shape: tuple[int, ...]
    fortran: bool  # whether the first axis runs fastest
    dtype: np.dtype[Any]
    start: int  # bytes before the numbers

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_array(path: Path) -> tuple[Array, str]:
    """The array of an .npy or .npz file, memory-mapped if it is not compressed, and its name in messages.

    From an .npz: `samples`, or its only array, or the only one with more than one axis, such as images stored with
    their labels. Raises SampleError for a file without numbers, or with fewer than its header says. Nothing is
    unpickled.
    """
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise SampleError(f"{path}: is a folder, a pipe or a device; expected an .npy or .npz file")
    try:
        with path.open("rb") as file:
            if file.read(4).startswith(b"PK"):
                return _read_npz(path, file)
            file.seek(0)
            header = _header(file)
            _check_header(header, path.stat().st_size, str(path))
            return _map_array(path, header, 0), str(path)
    except (OSError, ValueError, EOFError, TypeError, RuntimeError, NotImplementedError) as error:
        raise SampleError(f"{path}: cannot be read as .npy or .npz ({error})") from None
    except (zipfile.BadZipFile, zlib.error, SyntaxError, tokenize.TokenError) as error:
        raise SampleError(f"{path}: cannot be read as .npy or .npz ({error})") from None


def _header(file: IO[bytes]) -> Header:
    """The header of an .npy file. Raises ValueError for another file."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of .npy is for tables with named columns")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return Header(*read(file), file.tell())


def _check_header(header: Header, size: int, name: str) -> None:
    """Raises SampleError for Python objects, and for a header that needs more than the `size` bytes of its file."""
    if header.dtype.hasobject:
        raise SampleError(
            f"{name}: holds Python objects, which ganbench never unpickles; save one array of numbers: "
            'np.save("mine.npy", np.stack(images))'
        )
    if any(n < 0 for n in header.shape) or header.size > size - header.start:
        raise SampleError(
            f"{name}: its header says {list(header.shape)} of {header.dtype}, which is {header.size:,} bytes; it "
            f"holds {size - header.start:,}. It is truncated or damaged: save it again"
        )


def _map_array(path: Path, header: Header, offset: int) -> Array:
    """The numbers after a header at byte `offset` of a file, memory-mapped."""
    order: Literal["F", "C"] = "F" if header.fortran else "C"
    if not header.size:
        return np.empty(header.shape, header.dtype)
    return np.memmap(path, header.dtype, "r", offset + header.start, header.shape, order)


def _read_npz(path: Path, file: IO[bytes]) -> tuple[Array, str]:
    """The array of samples in an .npz file, and its name in messages."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        headers: dict[str, Header] = {}
        for name, info in members.items():
            with archive.open(info) as member:
                headers[name] = _header(member)
        name = _choose(headers, path)
        info, header = members[name], headers[name]
        _check_header(header, info.file_size, f"{path}: array {name!r}")
        others = [f"{other} {list(headers[other].shape)}" for other in headers if other != name]
        called = f"{path}, array {name!r}" + (f" ({', '.join(others)} not used)" if others else "")
        if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
            file.seek(info.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")  # of the name and of what follows it
            return _map_array(path, header, info.header_offset + 30 + int(lengths.sum())), called
        if header.size > MAX_UNPACKED:
            raise SampleError(
                f"{path}: array {name!r} unpacks to {header.size:,} bytes, more than {MAX_UNPACKED:,}; save it as "
                ".npy or with np.savez, which does not compress and is read in parts"
            )
        with archive.open(info) as member:
            return np.lib.format.read_array(member, allow_pickle=False), called


def _choose(headers: dict[str, Header], path: Path) -> str:
    """The name of the array of samples. Raises SampleError if it is not clear."""
    names = [name for name in headers if name not in STATISTICS]
    several = [name for name in names if len(headers[name].shape) > 1]
    if "samples" in names:
        return "samples"
    if headers and not names:
        raise SampleError(
            f"{path}: holds statistics of features ({', '.join(headers)}), from which no sample can be taken"
        )
    if len(names) == 1 or len(several) == 1:
        return names[0] if len(names) == 1 else several[0]
    held = ", ".join(f"{name} {list(headers[name].shape)}" for name in headers) or "nothing"
    raise SampleError(
        f"{path}: has no array 'samples'; it has: {held}. Save the one to be scored alone, or as 'samples'"
    )


# --------------------------------------------------------------------------------------------- layout


def channels_first(shape: Sequence[int], name: str) -> tuple[int, ...]:
    """The shape of an example as [C, H, W] for rows [a, b, c], from the shape of the file alone.

    The first or the last axis holds the channels: the one with 1 or 3 entries, else the one with 4 or 2. If neither has
    so few, or both have 4 or 2, the rows are not images and stay unchanged. Raises SampleError if both have 1 or 3 and
    the layout matters.
    """
    first, last = shape[0], shape[-1]
    for counts in ((1, 3), (2, 4)):
        if (first in counts) != (last in counts):
            return tuple(shape) if first in counts else (last, *shape[:-1])
    if first in (1, 3) and last in (1, 3) and (first, last) != (1, 1):
        raise SampleError(
            f"{name}: examples have the shape {list(shape)}, and both the first and the last axis could hold the "
            "channels; flatten both files (x.reshape(len(x), -1)) in one layout"
        )
    return tuple(shape)


def _layout(given: tuple[int, ...], shape: tuple[int, ...], name: str, images: bool) -> tuple[bool, str]:
    """Whether an array [N, ...] of the shape `given` has its channels last although `shape` has them first, and how it
    is read. An array that is not transposed has the same numbers in the same order.

    images: whether cubes, such as [3, 3, 3], are an error, since both layouts fit them
    Raises SampleError for a shape that does not fit, or fits in more than one way.
    """
    n, rest = given[0], given[1:]
    expected = [n, *shape]
    long, wanted = [size for size in rest if size != 1], [size for size in shape if size != 1]
    cube = images and len(shape) == 3 and shape[0] > 1 and len(set(shape)) == 1
    if rest == shape and not cube:
        return False, f"{expected}"
    if long == wanted and not cube:
        return False, f"{list(given)} read as {expected}"
    text = f"{name}: samples have the shape {list(given)}, expected [{', '.join(map(str, ('N', *shape)))}]"
    if len(rest) == len(shape) == 3 and rest == (*shape[1:], shape[0]):
        if shape[0] not in shape[1:]:
            return True, f"{list(given)} read as [N, H, W, C], transposed to {expected}"
        raise SampleError(
            f"{text}: this does not say which axis holds the channels; save a folder of images, or transpose them "
            "yourself (np.moveaxis(x, -1, 1) turns [N, H, W, C] into [N, C, H, W])"
        )
    if math.prod(rest) == math.prod(shape) and 1 in (len(long), len(wanted)):
        if max(len(long), len(wanted)) == 2:
            return False, f"{list(given)} read row by row as {expected}"
        better = expected if len(wanted) > 1 else list(given)
        raise SampleError(
            f"{text}: flat rows do not say whether the channels come first or last; save both as {better}"
        )
    if len(rest) == len(shape) == 3:
        found = (rest[0],) if rest[1:] == shape[1:] else (rest[-1],) if rest[:-1] == shape[1:] else ()
        text += f"; samples have {found[0]} channels, the data {shape[0]}" if found else ""
    raise SampleError(text)


# --------------------------------------------------------------------------------------------- samples


class Samples:
    """Checked samples of one array, in the expected layout and order; a slice of them is a tensor [n, *shape].

    Rows are uint8 pixels or float32 numbers; `data.floats` converts both to floats in the data's scale. `notes` say
    what was changed, `range` is the least and the greatest value in the data's scale, `shape` is [N, *shape].
    """

    def __init__(
        self,
        array: Array,
        name: str,
        shape: tuple[int, ...] | None = None,
        scale: tuple[float, float] | None = None,
        order: str | None = "samples",
    ) -> None:
        """
        array: [N, ...], of any type of numbers
        name: of the array in error messages
        shape: of an example of the data; None: by `channels_first`, and bytes [N, H, W] are grey images
        scale: least and greatest value in the data; None: unbounded
        order: a key for a pseudo-random order of the rows; None: the order of the array

        Raises SampleError for another shape, values that are not finite or lie outside the scale, complex numbers,
        and bytes that hold only 0 and 1.
        """
        self.array, self.name, given, byte = array, name, tuple(array.shape[1:]), array.dtype == np.uint8
        if array.dtype.kind not in "biuf":
            what = "complex numbers" if array.dtype.kind == "c" else f"values of the type {array.dtype}"
            raise SampleError(f"{name}: holds {what}; expected whole or real numbers")
        if not array.ndim or not array.size:
            expected = ", ".join(map(str, ("N", *(shape or ("*shape",)))))
            raise SampleError(f"{name}: samples have the shape {list(array.shape)}, expected [{expected}]")
        if shape is None:
            shape = channels_first(given, name) if len(given) == 3 else given
            shape = (1, *given) if byte and len(given) == 2 else shape
        self.example, self.scale, self.shape = shape, scale, (len(array), *shape)
        self.last, self.layout = _layout(array.shape, shape, name, scale is not None and order is not None)
        low, high = self._extremes()
        whole = array.dtype.kind in "iu" and scale is not None and low >= 0 and 1 < high <= 255
        self.pixels = byte or whole
        self._check_values(low, high)
        self.range, values = self._in_scale(low, high)
        changed = self.layout if "read as" in self.layout else ""
        self.notes = tuple(text for text in (changed, values) if text)
        self.order = None if order is None else self._shuffled_rows(order)

    def __len__(self) -> int:
        return len(self.array)

    def __str__(self) -> str:
        """How the array was read, in one line."""
        low, high = self.range
        unchanged = [] if self.layout in self.notes else [self.layout]
        return f"{self.name}: " + "; ".join([*unchanged, *self.notes, f"values {low:.4g} to {high:.4g}"])

    def __getitem__(self, rows: slice) -> Tensor:
        chosen = np.arange(len(self))[rows] if self.order is None else self.order[rows]
        taken = torch.empty((len(chosen), *self.example), dtype=torch.uint8 if self.pixels else torch.float32)
        for start, block in self._blocks(chosen):
            taken[start : start + len(block)] = torch.from_numpy(self._row_major(block))
        return taken

    def _blocks(self, rows: NDArray[np.int64] | None = None) -> Iterator[tuple[int, Array]]:
        """Stored rows in blocks, each with the index of its first row; `rows` None: all."""
        n, size = len(self) if rows is None else len(rows), max(1, BLOCK // max(1, math.prod(self.example)))
        for start in range(0, n, size):
            part = slice(start, start + size)
            yield start, np.asarray(self.array[part if rows is None else rows[part]])

    def _row_major(self, block: Array) -> Array:
        """A block as it is returned: [n, *shape], uint8 or float32, in new memory."""
        block = np.moveaxis(block, -1, 1) if self.last else block
        with np.errstate(over="ignore"):  # what becomes infinite was refused
            block = np.array(block, np.uint8 if self.pixels else np.float32, order="C")
        return block.reshape(len(block), *self.example)

    def _extremes(self) -> tuple[float, float]:
        """The least and the greatest number. Raises SampleError if one is not finite as float32."""
        lows, highs, wrong = [], [], 0
        for _, block in self._blocks():
            if block.dtype.kind == "f":
                with np.errstate(over="ignore"):
                    block = block.astype(np.float32)
                wrong += block.size - int(np.isfinite(block).sum())
            lows.append(block.min())
            highs.append(block.max())
        if wrong:
            raise SampleError(f"{self.name}: {wrong} values are NaN or infinite")
        return float(min(lows)), float(max(highs))

    def _check_values(self, low: float, high: float) -> None:
        """Raises SampleError for bytes that are not pixels, and for numbers outside the scale."""
        if self.array.dtype == np.uint8 and high == 1:
            raise SampleError(
                f"{self.name}: holds bytes that are all 0 or 1, and as pixels 1 is nearly black; save a mask as bool "
                "(x.astype(bool)), which is read as 0 and 1, or pixels as 0 and 255 (x * 255)"
            )
        if self.pixels or not self.scale or (low >= self.scale[0] - 1e-3 and high <= self.scale[1] + 1e-3):
            return
        hint = ""
        if self.scale == (0.0, 1.0) and -1.001 <= low < 0 and high <= 1.001:
            hint = "; of values in -1…1 save (x + 1) / 2"
        elif self.scale == (0.0, 1.0) and low >= 0 and high <= 255.5:
            hint = "; save pixels in 0…255 as bytes (uint8), or divide them by 255"
        elif self.scale == (0.0, 1.0):
            hint = "; save np.clip(x, 0, 1) if they are meant to lie there"
        found, wanted = f"{low:.3g} to {high:.3g}", f"{self.scale[0]:g} to {self.scale[1]:g}"
        raise SampleError(f"{self.name}: values lie in {found}, expected {wanted}{hint}")

    def _in_scale(self, low: float, high: float) -> tuple[tuple[float, float], str]:
        """The extremes in the data's scale, and how values that are not floats are read."""
        kind = "bytes (uint8)" if self.array.dtype == np.uint8 else str(self.array.dtype.newbyteorder("="))
        if self.pixels:
            least, most = self.scale or (0.0, 1.0)
            step = (most - least) / 255
            mapped = "divided by 255" if (least, most) == (0, 1) else f"0…255 mapped onto {least:g}…{most:g}"
            return (least + low * step, least + high * step), f"{kind} read as pixels, {mapped}"
        if kind == "bool":
            return (low, high), "bool read as 0 and 1"
        return (low, high), "" if self.array.dtype.kind == "f" else f"{kind} read as numbers, not as pixels"

    def _shuffled_rows(self, word: str) -> NDArray[np.int64]:
        """The rows in the order of hashes of their contents, so that the order in which they were saved, such as class
        by class, does not decide which are the first n. Equal rows are spread by counting them."""
        parts, key = [], word.encode()
        for _, block in self._blocks():
            whole = self._row_major(block).reshape(-1).view(np.uint8).data
            width = len(whole) // len(block)
            rows = (whole[start : start + width] for start in range(0, len(whole), width))
            parts += [hashlib.blake2b(row, digest_size=8, key=key).digest() for row in rows]
        digests = np.frombuffer(b"".join(parts), "<u8")
        by_digest = np.argsort(digests, kind="stable")
        alike = np.r_[False, np.diff(digests[by_digest]) == 0]
        first = np.maximum.accumulate(np.where(alike, 0, np.arange(len(alike))))
        count = np.empty(len(alike), np.uint64)
        count[by_digest] = np.arange(len(alike)) - first
        mixed = digests + count * np.uint64(0x9E3779B97F4A7C15)  # splitmix64 (Steele et al. 2014)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable")


def read_samples(path: Path, data: Data) -> Samples:
    """The samples of an .npy or .npz file in the layout of the data. Raises SampleError if they do not fit the data."""
    array, name = read_array(path)
    return Samples(array, name, data.shape, data.scale)


def check_sampler_output(made: Any, data: Data, name: str) -> Samples:
    """Samples from a program, in the layout of the data and in the given order. Raises SampleError if they do not fit
    the data."""
    if isinstance(made, Tensor):
        made = made.detach().cpu()
        made = made.float() if made.dtype == torch.bfloat16 else made  # which numpy lacks
    try:
        array = np.asarray(made)
    except (TypeError, ValueError, RuntimeError):
        array = np.empty(0, object)
    if array.dtype == object:
        raise SampleError(f"{name} gave a {type(made).__name__}, expected a tensor of samples")
    return Samples(array, name, data.shape, data.scale, order=None)


def range_warning(samples: Samples, data: Data) -> str | None:
    """A warning if samples and data seem to have different scales: one in 0…1 and the other down to -1, or one 20 times
    as large as the other; None if not."""
    low, high = samples.range
    if data.train.dtype == torch.uint8:
        least, most = data.scale or (0.0, 1.0)
    else:
        least, most = float(data.train.min()), float(data.train.max())
    size, expected = max(-low, high), max(-least, most)
    signs = min(low, least) < -0.5 and max(low, least) >= 0 and max(size, expected) <= 1.001
    sizes = min(size, expected) > 0 and not 1 / 20 < size / expected < 20
    if not signs and not sizes:
        return None
    return (
        f"samples lie in {low:.3g} to {high:.3g}, the data in {least:.3g} to {most:.3g}: if these are two scales of "
        "the same thing, no score below means anything; save both on one scale"
    )
