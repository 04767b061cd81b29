"""Euclidean distances between sets of examples, in blocks, and the checks all metrics make on samples.

Memory is a copy of both sets and a block, not the product of the two sizes. Both sets are centred by a robust mean
and compared by ‖x‖² + ‖y‖² − 2xy, the norms riding along as two more columns of the matrix product. In float32 the
error of a squared distance is about 1e-6 of the two squared norms. It depends on this pair alone: an example far
from the centre has inexact distances of its own and spoils no other one. In few dimensions, where the product is
cheap and neighbours can be very near, everything is float64.

What is decided by these distances (which are the nearest, who is inside a ball) is not left to rounding: pairs that
`rounding` leaves in doubt are computed again in float64 from their differences. Whole numbers need none of that as
long as every sum is exact; `whole_numbers` makes them of data that lie on a grid, such as pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.nn.functional import pad

from ..errors import SampleError
from ..precision import float32_products

FEW_DIMENSIONS = 64  # up to here the product in float64 costs less than what is done with its result
MAX_TILE_ROWS = 1536  # points in a tile, at most
CHUNK_DIMENSIONS = 112  # dimensions after which a chunk's norms are added
MIN_POINTS_PER_THREAD = 256  # points for which it is worth to start a thread
EXTRA_CANDIDATES = (
    2  # more candidates than neighbours, so that rounding in float32 seldom leaves any neighbour out
)
ROUNDING_FACTOR = (
    40  # times the machine's epsilon: the error of a squared distance as a part of its two squared norms
)
TIE_RTOL = 1e-12  # relative: squared distances that agree to this, in float64 from differences, are equal
CENTRE_EXAMPLES = 250  # examples, of which the centre is taken
STRIP_ROWS = 128  # examples at a time, which stay in the cache
OUTLIER_FACTOR = (
    10.0  # times the usual size: examples and coordinates that say nothing about where the bulk lies
)
MAX_GRID_STEPS = 2**16  # steps of a grid of data, at most
MAX_FLOAT32 = 1e15  # numbers whose squares are too large for float32
MAX_FLOAT64 = 1e100  # numbers whose squares are too large for float64
Block = tuple[int, int]  # points and reference points at a time
T = TypeVar("T")


class Prepared(NamedTuple):
    """A reference made ready once for several calls of `squared_distances`."""

    centre: Tensor  # [d]
    columns: Tensor  # [n, d + two for each chunk]


def check_samples(x: Tensor, name: str, *, like: Tensor | None = None, least: int = 1) -> Tensor:
    """`x` as detached floats [n, *shape], on the device of `like`.

    Raises SampleError, which calls the samples `name`, unless they are finite floats within ±1e100, whose squares
    are finite too, at least `least` examples, each of the shape of an example of `like`.
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
    if x.dtype == torch.float64 and (large := x.abs().amax().item()) > MAX_FLOAT64:
        raise SampleError(
            f"{name}: holds numbers as large as {large:.0e}; expected none beyond ±{MAX_FLOAT64:.0e}"
        )
    x = x.detach()
    x = x if x.dtype == torch.float64 else x.float()
    return x if like is None else x.to(like.device)


def whole_numbers(real: Tensor, other: Tensor) -> tuple[Tensor, Tensor, float]:
    """Both sets [n, *shape] in units of the grid on which `real` lies, and the unit: pixels k/255 become the whole
    numbers k, whose distances are exact, so that ties are ties in any type and on any scale.

    Numbers of `other` that are not on the grid are only scaled. Examples of `real` far from the others, by which no
    grid is judged, too. Data that lie on no grid of at most 65,536 steps come back as they are, with the unit 1.
    """
    flat = real.flatten(1)
    size = flat.abs().amax(1)
    bulk = flat[size <= OUTLIER_FACTOR * size.median()]
    found = _grid(bulk)
    if found is None:
        return real, other, 1.0
    low, step = found
    # float32 numbers, whatever their type is now, are this far from the grid by rounding.
    slack = 8 * torch.finfo(torch.float32).eps * bulk.abs().amax().item() / step
    if not _on_grid((bulk - low) / step, slack).all():
        return real, other, 1.0
    scaled = ((x - low) / step for x in (real, other))
    first, second = (torch.where(_on_grid(x, slack), x.round(), x) for x in scaled)
    return first, second, step


def _grid(x: Tensor) -> tuple[float, float] | None:
    """The least value and the step of the grid on which some numbers of `x` [n, d] lie; None if there is none.

    The step is the greatest common divisor of the values' distances from the least one, by Euclid's algorithm.
    """
    values = x.flatten()
    values = values[:: max(1, len(values) // MAX_GRID_STEPS)].double().unique()
    low, span = values[0].item(), (values[-1] - values[0]).item()
    error = 8 * torch.finfo(torch.float32).eps * values.abs().amax().item()
    rest = values - low
    while len(rest := rest[rest > error]):
        step = rest.min().item()
        if step < max(span / MAX_GRID_STEPS, 8 * error):
            return None
        step = span / round(span / step)  # less rounding than in the distance of two neighbours
        rest = ((values - low) - ((values - low) / step).round() * step).abs()
        if not (rest > error).any():
            return low, step
    return None


def _on_grid(x: Tensor, slack: float) -> Tensor:
    return (x - x.round()).abs() <= slack


def centre(x: Tensor) -> Tensor:
    """A mean [d] (float64) of `x` [n, *shape] that a few far examples do not move: of a few hundred examples, each
    coordinate cut off at ten usual distances from its median. Whole numbers where the examples are."""
    x = x.flatten(1)[:: max(1, len(x) // CENTRE_EXAMPLES)].double()
    middle = x.T.contiguous().median(1).values
    reach = OUTLIER_FACTOR * ((x - middle).norm(dim=1).median() / math.sqrt(x.shape[1]))
    mean = torch.clamp(x, middle - reach, middle + reach).mean(0)
    return mean.round() if (x == x.round()).all(1).double().mean() > 0.5 else mean


def rounding(norms: Tensor, squared: Tensor, dtype: torch.dtype, *, whole: bool) -> Tensor:
    """How far a squared distance of `squared_distances` may be from the thresholds `squared` [n] while the true one
    is on the other side; `norms` [n] are the squared distances of the same n examples from the centre.

    The error of a pair is at most c (‖x‖² + ‖y‖²), and ‖y‖² is at most 2‖x‖² + 2d²(x, y), so that near the
    threshold one of the norms is enough, and far examples on the other side have no part in it. c is 40 times the
    machine's epsilon, twice the greatest error seen in 65 to 12,288 dimensions. 0 where all numbers are whole and no
    sum is too large to be exact.
    """
    reach = 3 * norms.double() + 2 * squared
    bound = ROUNDING_FACTOR * torch.finfo(dtype).eps * reach
    exact = 2**23 if dtype == torch.float32 else 2**52  # a sum comes to twice the norms on its way
    return torch.where(reach < exact, 0.0, bound) if whole else bound


def norms(x: Tensor, middle: Tensor) -> Tensor:
    """Squared distances [n] of `x` [n, *shape] from `middle` [d], in its type."""
    parts = x.flatten(1).split(STRIP_ROWS)
    return torch.cat([(part.to(middle.dtype) - middle).square_().sum(1) for part in parts])


def all_whole(x: Tensor, middle: Tensor) -> bool:
    """Whether all of `x` [n, *shape] that lie near `middle` [d] are whole numbers apart from it."""
    gaps = (part.to(middle.dtype) - middle for part in x.flatten(1).split(STRIP_ROWS))
    return all(bool(((gap == gap.round()).all(1) | (gap.abs().amax(1) > 2**12)).all()) for gap in gaps)


def squared_distances(
    points: Tensor, reference: Tensor | Prepared, block: Block | None = None
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Squared distances from `points` [m, *shape] to `reference` [n, *shape], a block at a time: rows,
    columns, and the tile [rows, columns], which is overwritten by the next one. Tiles may be negative by
    rounding."""
    ready = reference if isinstance(reference, Prepared) else prepare(reference, points)
    left = _columns(points.flatten(1), ready.centre, "points")
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


def prepare(
    reference: Tensor, points: Tensor, *, middle: Tensor | None = None, dtype: torch.dtype | None = None
) -> Prepared:
    """`reference` [n, *shape] made ready for distances from `points` [m, *shape] or parts of them.

    `middle` [d] is the centre; None: that of the reference. Where the reference are samples, give that of the real
    side: samples may be anywhere. `dtype`: of the product; None: float64 where it is needed.
    """
    reference, points = reference.flatten(1), points.flatten(1)
    middle = centre(reference) if middle is None else middle
    middle = middle.to(dtype or _dtype(points, reference))
    return Prepared(middle, _columns(reference, middle, "reference"))


def in_threads(function: Callable[..., T], points: Tensor, *more: Tensor) -> list[T]:
    """`function` of consecutive parts of `points` [m, *shape], and the same of `more` [m, ...], side by side on
    as many cores as PyTorch uses.

    Each part has a thread that shares its operations with no other one. An operation on a tile takes
    microseconds; shared among PyTorch's threads each would wait for the slowest of them, and on a machine that
    has other work to do as well that wait is many times as long as the operation.
    """
    threads = torch.get_num_threads()
    if threads == 1 or points.device.type != "cpu" or len(points) < 2 * MIN_POINTS_PER_THREAD:
        return [function(points, *more)]
    size = max(MIN_POINTS_PER_THREAD, -(-len(points) // (4 * threads)))
    try:
        # Precision and BLAS are set here once, so that no thread sets them back while another one multiplies.
        with (
            float32_products(),
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
    squared, index = nearest_squared(points, reference, k, block=block)
    return squared.sqrt(), index


def nearest_squared(
    points: Tensor, reference: Tensor, k: int = 1, *, block: Block | None = None
) -> tuple[Tensor, Tensor]:
    """The same with squared distances, which are exact for whole numbers.

    Where rounding in float32 may have put a wrong one among the `k`, a few more candidates are compared; where it may
    have put one behind those, the product is made again in float64.
    """
    if len(reference) < k:
        raise SampleError(f"{k} nearest neighbours need at least {k} examples; there are {len(reference)}")
    ready = prepare(reference, points)
    dtype = ready.centre.dtype
    whole = dtype == torch.float32 and all(all_whole(x, ready.centre) for x in (reference, points))
    candidates = min(k + EXTRA_CANDIDATES, len(reference)) if dtype == torch.float32 else k

    def search(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index, rounded = _nearest(x, ready, candidates, block)
        squared, near = _exact_distances(x, reference, index[:, :k])
        unsure = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        if candidates > k:
            far = norms(x, ready.centre)

            def may_miss(number: int) -> Tensor:
                """Where the candidate of that number, and so all later ones, may be nearer than the last of the k."""
                last = squared[:, -1]
                return (last + rounding(far, last, dtype, whole=whole) > rounded[:, number]) & (last > 0)

            more = may_miss(k)
            squared[more], near[more] = (y[:, :k] for y in _exact_distances(x[more], reference, index[more]))
            unsure = may_miss(-1) if candidates < len(reference) else unsure
        return squared, near, unsure

    squared, index, unsure = (torch.cat(parts) for parts in zip(*in_threads(search, points), strict=True))
    if unsure.any():
        ready = prepare(reference, points, dtype=torch.float64)
        again = in_threads(
            lambda x: _exact_distances(x, reference, _nearest(x, ready, k, block)[0]), points[unsure]
        )
        squared[unsure], index[unsure] = (torch.cat(parts) for parts in zip(*again, strict=True))
    return squared, index


def _nearest(points: Tensor, reference: Prepared, k: int, block: Block | None) -> tuple[Tensor, Tensor]:
    """Indices [m, k] of the `k` nearest, by distances with the rounding of the product, and these squared
    distances [m, k], ascending.

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
    return index, best


def _exact_distances(points: Tensor, reference: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances [m, k] to the indexed examples from float64 differences, ascending, and their indices."""
    x, y = points.flatten(1), reference.flatten(1)
    size = max(1, 2**18 // (x.shape[1] * index.shape[1]))  # differences that stay in the cache
    parts = [
        (part[:, None].double() - y[near]).square_().sum(2)
        for part, near in zip(x.split(size), index.split(size), strict=True)
    ]
    squared, order = torch.cat(parts).sort(dim=1, stable=True)
    return squared, index.gather(1, order)


def pair_squares(x: Tensor, y: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Squared distances [p] of the pairs of `x` [m, *shape] and `y` [n, *shape] with the indices `i` and `j` [p], from
    differences in float64."""
    x, y = x.flatten(1), y.flatten(1)
    size = max(1, 2**18 // x.shape[1])  # differences that stay in the cache
    pairs = zip(i.split(size), j.split(size), strict=True)
    parts = [(x[a].double() - y[b]).square_().sum(1) for a, b in pairs]
    return torch.cat(parts) if parts else x.new_zeros(0, dtype=torch.float64)


def _dtype(points: Tensor, reference: Tensor) -> torch.dtype:
    given = torch.promote_types(points.dtype, reference.dtype)
    if given == torch.float64 or points.shape[1] <= FEW_DIMENSIONS:
        return torch.float64
    large = max(bound.abs().item() for x in (points, reference) for bound in x.aminmax()) > MAX_FLOAT32
    return torch.float64 if large else torch.float32


def _block(m: int, device: torch.device) -> Block:
    """Tiles of a few MB, high enough that a product reads each of its reference points for many points;
    on other devices ones that keep them busy."""
    if device.type != "cpu":
        return 4096, 8192
    tiles = max(1, -(-m // MAX_TILE_ROWS))
    return max(1, -(-m // tiles)), 1024


def _product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """`left` times `right` into `out`. In float32 on the CPU by NumPy's BLAS: where both were measured, on an AMD EPYC,
    its OpenBLAS made 12 to 18 % more of them in a second than the MKL of PyTorch."""
    if out.device.type == "cpu" and out.dtype == torch.float32:
        with blas_threads(torch.get_num_threads()):
            np.matmul(left.numpy(), right.numpy(), out=out.numpy())
    else:
        with float32_products():
            torch.mm(left, right, out=out)


def _columns(x: Tensor, middle: Tensor, side: str) -> Tensor:
    """Columns [n, d + two for each chunk] whose products are the squared distances: for each chunk c of the
    dimensions [x, ‖x‖², 1] of the points and [−2y, 1, ‖y‖²] of the reference, in the type of `middle`.

    The chunks keep the sums that the product runs through near the squared distance itself, so that less
    is lost to rounding than if all norms came last.
    """
    n, d = x.shape
    chunks = -(-d // CHUNK_DIMENSIONS)
    chunks = next((c for c in range(chunks, 2 * chunks) if d % c == 0), chunks)
    width = -(-d // chunks)
    columns = torch.empty(n, chunks, width + 2, dtype=middle.dtype, device=x.device)
    body, missing = columns[:, :, :width], chunks * width - d
    x, middle = (pad(z, (0, missing)) if missing else z for z in (x, middle))
    torch.sub(x.view(n, chunks, width).to(middle.dtype), middle.view(chunks, width), out=body)
    # Sums of squares, not squared roots: those of whole numbers are exact.
    squares = torch.cat([part.square().sum(2) for part in body.split(STRIP_ROWS)])
    first, last = (squares, 1.0) if side == "points" else (1.0, squares)
    columns[:, :, width], columns[:, :, width + 1] = first, last
    if side == "reference":
        body *= -2
    return columns.flatten(1)


@cache
def _blas() -> ThreadpoolController:
    """The matrix products of NumPy (and SciPy), to set the number of their threads."""
    return ThreadpoolController().select(user_api="blas")


def blas_threads(threads: int) -> AbstractContextManager[object]:
    """Products of NumPy by this many threads."""
    return _blas().limit(limits=threads)
