"""Euclidean distances between sets of examples, in blocks, and the checks all metrics make on samples.

Memory is a copy of both sets and a block, not the product of the two sizes. Both sets are centred by the mean of
the reference and compared by ‖x‖² + ‖y‖² − 2xy, the norms riding along as two more columns of the matrix
product. In float32 this leaves an error of about 1e-6 of the squared norms; in few dimensions, where the
product is cheap and neighbours can be very near, everything is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.nn.functional import pad

from ..errors import SampleError

FEW_DIMENSIONS = 64  # up to here the product in float64 costs less than what is done with its result
HEIGHT = 1536  # points in a tile, at most
CHUNK = 112  # dimensions after which a chunk's norms are added
PART = 256  # points for which it is worth to start a thread
Block = tuple[int, int]  # points and reference points at a time
T = TypeVar("T")


class Prepared(NamedTuple):
    """A reference made ready once for several calls of `squared_distances`."""

    mean: Tensor  # [d]
    columns: Tensor  # [n, d + two for each chunk]


def check_samples(x: Tensor, name: str, *, like: Tensor | None = None, least: int = 1) -> Tensor:
    """`x` as detached floats [n, *shape], on the device of `like`.

    Raises SampleError, which calls the samples `name`, unless they are finite floats, at least `least`
    examples, each of the shape of an example of `like`.
    """
    if not isinstance(x, Tensor):
        try:
            x = torch.as_tensor(x)
        except (TypeError, ValueError, RuntimeError):
            raise SampleError(f"{name}: expected a tensor [n, *shape], got {type(x).__name__}") from None
    if not x.is_floating_point():
        raise SampleError(
            f"{name}: holds {str(x.dtype).removeprefix('torch.')}; expected floats in the data's scale "
            "(for stored images: data.floats(images))"
        )
    if x.ndim < 2:
        raise SampleError(f"{name}: has shape {list(x.shape)}; expected [n, *shape], one row per example")
    if like is not None and x.shape[1:] != like.shape[1:]:
        raise SampleError(
            f"{name}: one example has shape {list(x.shape[1:])}; expected {list(like.shape[1:])}, as in the data"
        )
    if len(x) < least or x.numel() == 0:
        raise SampleError(f"{name}: holds {len(x)} examples; at least {least} are needed")
    bad = (~torch.isfinite(x)).flatten(1).any(1)
    if bad.any():
        raise SampleError(
            f"{name}: {int(bad.sum())} of {len(x)} examples hold NaN or infinity, the first of them number "
            f"{int(bad.nonzero()[0])}; has the generator diverged?"
        )
    x = x.detach()
    x = x if x.dtype == torch.float64 else x.float()
    return x if like is None else x.to(like.device)


def squared_distances(
    points: Tensor, reference: Tensor | Prepared, block: Block | None = None
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Squared distances from `points` [m, *shape] to `reference` [n, *shape], a block at a time: rows,
    columns, and the tile [rows, columns], which is overwritten by the next one. Tiles may be negative by
    rounding."""
    ready = reference if isinstance(reference, Prepared) else prepare(reference, points)
    left = _columns(points.flatten(1), ready.mean, "points")
    m, n = len(points), len(ready.columns)
    height, width = block or _block(m, points.device)
    buffer = torch.empty(min(height, m) * min(width, n), dtype=left.dtype, device=points.device)
    for column in range(0, n, width):
        columns = slice(column, min(column + width, n))
        right = ready.columns[columns].T
        for row in range(0, m, height):
            rows = slice(row, min(row + height, m))
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            tile = buffer[: shape[0] * shape[1]].view(shape)
            _product(left[rows], right, tile)
            yield rows, columns, tile


def prepare(reference: Tensor, points: Tensor) -> Prepared:
    """`reference` [n, *shape] made ready for distances from `points` [m, *shape] or parts of them."""
    reference, points = reference.flatten(1), points.flatten(1)
    mean = reference.mean(0).to(_dtype(points, reference))
    return Prepared(mean, _columns(reference, mean, "reference"))


def in_threads(function: Callable[..., T], points: Tensor, *more: Tensor) -> list[T]:
    """`function` of consecutive parts of `points` [m, *shape], and the same of `more` [m, ...], side by side on
    as many cores as PyTorch uses.

    Each part has a thread that shares its operations with no other one. An operation on a tile takes
    microseconds; shared among PyTorch's threads each would wait for the slowest of them, and on a machine that
    has other work to do as well that wait is many times as long as the operation.
    """
    threads = torch.get_num_threads()
    if threads == 1 or points.device.type != "cpu" or len(points) < 2 * PART:
        return [function(points, *more)]
    size = max(PART, -(-len(points) // (4 * threads)))
    try:
        # Precision and BLAS are set here once, so that no thread sets them back while another one multiplies.
        with (
            full_precision(),
            blas_threads(1),
            ThreadPoolExecutor(threads, "", torch.set_num_threads, (1,)) as pool,
        ):
            return list(pool.map(function, *(x.split(size) for x in (points, *more))))
    finally:
        torch.set_num_threads(threads)  # what one thread sets is what all later ones begin with


def nearest(
    points: Tensor, reference: Tensor, k: int = 1, *, block: Block | None = None
) -> tuple[Tensor, Tensor]:
    """Distances [m, k] (float64, ascending) from `points` to their `k` nearest in `reference`, and the
    indices of those. The distances are computed anew from the differences, so that a copy is at 0.

    Raises SampleError when the reference has fewer than `k` examples.
    """
    if len(reference) < k:
        raise SampleError(f"{k} nearest neighbours need at least {k} examples; there are {len(reference)}")
    ready = prepare(reference, points)
    found = in_threads(lambda x: _exact(x, reference, _nearest(x, ready, k, block)), points)
    distances, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    return distances, index


def _nearest(points: Tensor, reference: Prepared, k: int, block: Block | None) -> Tensor:
    """Indices [m, k] of the `k` nearest, by distances with the rounding of the product.

    A tile is searched only for points that have something in it nearer than their k-th so far: all of them
    in the first tiles, few later.
    """
    m, device = len(points), points.device
    best = torch.full((m, k), torch.inf, dtype=torch.float64, device=device)
    index = torch.zeros((m, k), dtype=torch.int64, device=device)
    for rows, columns, tile in squared_distances(points, reference, block):
        better = (tile.amin(1) < best[rows, -1]).nonzero()[:, 0]
        if not len(better):
            continue
        found = tile.index_select(0, better)
        near, where = found.topk(min(k, found.shape[1]), dim=1, largest=False, sorted=False)
        better += rows.start
        near = torch.cat([best[better], near.to(best.dtype)], dim=1)
        where = torch.cat([index[better], where + columns.start], dim=1)
        best[better], order = near.topk(k, dim=1, largest=False)
        index[better] = where.gather(1, order)
    return index


def _exact(points: Tensor, reference: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Distances [m, k] to the indexed examples from float64 differences, ascending."""
    points, reference = points.flatten(1), reference.flatten(1)
    rows = max(1, 2**18 // (points.shape[1] * index.shape[1]))  # differences that stay in the cache
    parts = [
        (reference[index[i : i + rows]].double() - points[i : i + rows, None].double()).norm(dim=2)
        for i in range(0, len(points), rows)
    ]
    distances, order = torch.cat(parts).sort(dim=1, stable=True)
    return distances, index.gather(1, order)


def _dtype(points: Tensor, reference: Tensor) -> torch.dtype:
    given = torch.promote_types(points.dtype, reference.dtype)
    return torch.float64 if given == torch.float64 or points.shape[1] <= FEW_DIMENSIONS else torch.float32


def _block(m: int, device: torch.device) -> Block:
    """Tiles of a few MB, high enough that a product reads each of its reference points for many points;
    on other devices ones that keep them busy."""
    if device.type != "cpu":
        return 4096, 8192
    tiles = max(1, -(-m // HEIGHT))
    return max(1, -(-m // tiles)), 1024


def _product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """`left` times `right` into `out`. In float32 on the CPU by NumPy's BLAS: where both were measured, on an AMD EPYC,
    its OpenBLAS made 12 to 18 % more of them in a second than the MKL of PyTorch."""
    if out.device.type == "cpu" and out.dtype == torch.float32:
        with blas_threads(torch.get_num_threads()):
            np.matmul(left.numpy(), right.numpy(), out=out.numpy())
    else:
        with full_precision():
            torch.mm(left, right, out=out)


def _columns(x: Tensor, mean: Tensor, side: str) -> Tensor:
    """Columns [n, d + two for each chunk] whose products are the squared distances: for each chunk c of the
    dimensions [x, ‖x‖², 1] of the points and [−2y, 1, ‖y‖²] of the reference, in the type of `mean`.

    The chunks keep the sums that the product runs through near the squared distance itself, so that less
    is lost to rounding than if all norms came last.
    """
    n, d = x.shape
    chunks = -(-d // CHUNK)
    chunks = next((c for c in range(chunks, 2 * chunks) if d % c == 0), chunks)
    width = -(-d // chunks)
    columns = torch.empty(n, chunks, width + 2, dtype=mean.dtype, device=x.device)
    body, missing = columns[:, :, :width], chunks * width - d
    x, mean = (pad(z, (0, missing)) if missing else z for z in (x, mean))
    torch.sub(x.view(n, chunks, width).to(mean.dtype), mean.view(chunks, width), out=body)
    norms = torch.linalg.vector_norm(body, dim=2).square()
    first, last = (norms, 1.0) if side == "points" else (1.0, norms)
    columns[:, :, width], columns[:, :, width + 1] = first, last
    if side == "reference":
        body *= -2
    return columns.flatten(1)


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 products in float32, also where the user has allowed TF32 or bfloat16 for training."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def _blas() -> ThreadpoolController:
    """The matrix products of NumPy (and SciPy), to set the number of their threads."""
    return ThreadpoolController().select(user_api="blas")


def blas_threads(threads: int) -> AbstractContextManager[object]:
    """Products of NumPy by this many threads."""
    return _blas().limit(limits=threads)
