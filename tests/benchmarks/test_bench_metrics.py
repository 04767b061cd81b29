"""The density estimate beside the matrix product it contains, and beside scikit-learn's.

Ratios are in the benchmarks' extra_info; with GANBENCH_BENCH_FULL=1 at 16,384 × 10,000 × 784. The bare product
is PyTorch's, 1,024 points at a time, on the same threads.

Where the time goes (one core with AVX-512, ns for each pair of a point and a sample, 784 dimensions): the product
17 to 22; least distance of each row 0.1; copy of a strip and its subtraction 0.4; then for each bandwidth that
has a tile with a neighbour near enough: scaling 0.07, clamping 0.07, exp2 0.32 and sum 0.08. A bandwidth √2
or 2 times another one costs a square and a sum, 0.14, in place of these 0.54. Narrow bandwidths have few such
tiles. What is left beyond the product is thus the exponentials, of which each pair needs one for each group.
"""

from __future__ import annotations

import os
import time

import pytest
import torch
from sklearn.neighbors import KernelDensity

from ganbench.metrics.kde import GOODFELLOW_GRID, log_densities

pytestmark = pytest.mark.slow

FULL = os.environ.get("GANBENCH_BENCH_FULL") == "1"
N, M = (16_384, 10_000) if FULL else (4096, 1024)
SMALL = (1024, 64)  # samples and points for scikit-learn, which is scaled by their product
GRIDS = {
    "one bandwidth": (0.2,),
    "Goodfellow's 10": GOODFELLOW_GRID,
    "16 steps of 2^(1/4)": tuple(0.1 * 2 ** (i / 4) for i in range(16)),
    "logspace(-1, 0, 16)": tuple(10 ** (i / 15 - 1) for i in range(16)),
}


def _seconds(f, *arguments, clock=time.perf_counter, **settings):
    start = clock()
    f(*arguments, **settings)
    return clock() - start


@pytest.mark.parametrize("grid", GRIDS)
def test_kde_against_the_matrix_product(benchmark, grid):
    torch.manual_seed(0)
    samples, points = torch.rand(N, 784), torch.rand(M, 784)

    def product():
        for part in points.split(1024):
            part @ samples.T

    def ours():
        log_densities(samples, points, GRIDS[grid])

    product()
    bare, cpu, own = [], [], []
    for _ in range(3):  # in turn, for other work on the machine slows both
        bare.append(_seconds(product))
        cpu.append(_seconds(product, clock=time.process_time))
        own.append(_seconds(ours, clock=time.process_time))
    benchmark.pedantic(ours, rounds=3)
    benchmark.extra_info["times the matrix product"] = round(benchmark.stats.stats.min / min(bare), 2)
    benchmark.extra_info["times its CPU time"] = round(min(own) / min(cpu), 2)
    benchmark.extra_info["threads"] = torch.get_num_threads()


def test_kde_against_scikit_learn(benchmark):
    """The same numbers, 16 bandwidths, from one fit and one pass of scikit-learn for each. Its CPU time is
    measured on 1,024 × 64 pairs and scaled by their number: it visits every pair in 784 dimensions. That is done
    as scikit-learn comes, and with all samples in one leaf: as it comes, it is slower and, at narrow bandwidths,
    off by up to hundreds of nats at some points (the bounds of its tree cancel), in one leaf it agrees."""
    torch.manual_seed(0)
    samples, points, grid = torch.rand(N, 784), torch.rand(M, 784), GRIDS["logspace(-1, 0, 16)"]
    n, m = SMALL
    few, held = samples[:n], samples[:m] + 0.1 * torch.randn(m, 784)

    def theirs(**settings):
        fitted = [
            KernelDensity(bandwidth=bandwidth, **settings).fit(few.double().numpy()) for bandwidth in grid
        ]
        return [each.score_samples(held.double().numpy()) for each in fitted]

    for mine, each in zip(log_densities(few, held, grid), theirs(leaf_size=n), strict=True):
        assert abs(mine.numpy() - each).max() < 3e-3
        assert abs(mine.numpy().mean() - each.mean()) < 1e-3
    benchmark.pedantic(log_densities, (samples, points, grid), rounds=2, warmup_rounds=1)
    own = min(_seconds(log_densities, samples, points, grid, clock=time.process_time) for _ in range(2))
    for name, settings in {"as it comes": {}, "in one leaf": {"leaf_size": n}}.items():
        spent = _seconds(theirs, clock=time.process_time, **settings) * (N * M) / (n * m)
        benchmark.extra_info[f"CPU time of scikit-learn {name} / ours"] = round(spent / own)
        benchmark.extra_info[f"its time / ours on these threads, {name}"] = round(
            spent / benchmark.stats.stats.min
        )
    benchmark.extra_info["threads"] = torch.get_num_threads()
