"""Numeric arrays out of MATLAB files of version 5 to 7.2.

scipy's reader ended the process by a segmentation fault on files with a few changed bytes, and builds objects
out of cells and structures. This one reads plain numbers only, and bounds everything it reads.
Format: MathWorks, "MAT-File Format", chapter 1 (level 5).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError

MATRIX_TYPE, COMPRESSED_TYPE = 14, 15
STORED_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASS_TYPES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
MAX_NUMBERS = 2**31  # numbers in one array; TFD at 96 × 96 has half as many
HEAD_BYTES = 1024  # bytes of a compressed variable that are enough for its class, shape and name


def read_mat(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The numeric arrays of these names. Raises DatasetError where there are none, and for damaged files."""
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    if content[124:128] == b"\x00\x02IM":
        raise DatasetError(f"{path}: is a MATLAB 7.3 file; save it again in MATLAB with save(..., '-v7')")
    if content[124:128] != b"\x00\x01IM":
        raise DatasetError(f"{path}: is not a MATLAB file of version 5 to 7.2 ({len(content):,} bytes)")
    found: dict[str, NDArray[Any]] = {}
    held: list[str] = []
    try:
        for kind, data in _elements(content[128:]):
            name, numeric = _name(kind, data)
            held.append(f"{name} ({'numbers' if numeric else 'no plain numbers'})")
            if name in names and numeric:
                found[name] = _array(kind, data)
    except (ValueError, TypeError, struct.error, zlib.error, UnicodeDecodeError, StopIteration) as error:
        raise DatasetError(f"{path}: is a damaged MATLAB file ({error}); get it again") from None
    if len(found) < len(names):
        raise DatasetError(
            f"{path}: must hold the numeric arrays {', '.join(names)}; it holds {', '.join(held) or 'nothing'}"
        )
    return found


def _elements(buffer: memoryview, whole: bool = True) -> Iterator[tuple[int, memoryview]]:
    """(type, bytes) of the data elements that stand one after the other; `whole`: none may be cut off."""
    start = 0
    while start + 8 <= len(buffer):
        kind, size = struct.unpack_from("<II", buffer, start)
        body = start + 8
        if kind >> 16:  # up to four bytes stand within the tag
            kind, size, body = kind & 0xFFFF, kind >> 16, start + 4
        if whole and (body + size > len(buffer) or (body == start + 4 and size > 4)):
            raise ValueError(f"{size:,} bytes announced, {len(buffer) - body:,} are left")
        yield kind, buffer[body : body + size]
        padding = 0 if kind == COMPRESSED_TYPE else -size % 8
        start = start + 8 if body == start + 4 else body + size + padding


def _matrix(kind: int, data: memoryview, limit: int) -> Iterator[tuple[int, memoryview]]:
    """The parts of a variable: flags, shape, name, numbers; of a compressed one the first `limit` bytes."""
    if kind == COMPRESSED_TYPE:
        data = memoryview(zlib.decompressobj().decompress(data, limit))
        kind, data = next(_elements(data, whole=False))
    if kind != MATRIX_TYPE:
        raise ValueError(f"a variable of the unknown type {kind}")
    return _elements(data, whole=False)


def _name(kind: int, data: memoryview) -> tuple[str, bool]:
    """Name of a variable, and whether it holds plain real numbers."""
    parts = _matrix(kind, data, HEAD_BYTES)
    flags, _, name = next(parts)[1], next(parts), next(parts)[1]
    return bytes(name).decode(), flags[0] in CLASS_TYPES and not flags[1] & 8


def _array(kind: int, data: memoryview) -> NDArray[Any]:
    parts = _matrix(kind, data, HEAD_BYTES)
    flags, shape = next(parts)[1], tuple(np.frombuffer(next(parts)[1], "<i4").tolist())
    size = math.prod(shape)
    if min(shape, default=-1) < 0 or size > MAX_NUMBERS:
        raise ValueError(f"the shape {shape}")
    _, _, _, (stored, numbers) = _matrix(kind, data, HEAD_BYTES + 8 * size)
    if stored not in STORED_TYPES or len(numbers) != size * np.dtype(STORED_TYPES[stored]).itemsize:
        raise ValueError(f"{len(numbers):,} bytes of type {stored} for the shape {shape}")
    array = np.frombuffer(numbers, "<" + STORED_TYPES[stored]).reshape(shape, order="F")
    return array.astype(CLASS_TYPES[flags[0]])
