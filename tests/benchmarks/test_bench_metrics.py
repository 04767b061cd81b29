"""The density estimate beside the matrix product it contains. The ratio is in the benchmark's extra_info;
with GANBENCH_BENCH_FULL=1 at 16,384 × 10,000 × 784."""

from __future__ import annotations

import os
import time

import pytest
import torch

from ganbench.metrics.kde import GOODFELLOW, log_densities

FULL = os.environ.get("GANBENCH_BENCH_FULL") == "1"
N, M = (16_384, 10_000) if FULL else (4096, 1024)
GRIDS = {
    "one bandwidth": (0.2,),
    "Goodfellow's 10": GOODFELLOW,
    "16 steps of 2^(1/4)": tuple(0.1 * 2 ** (i / 4) for i in range(16)),
}


def _seconds(f, rounds=3):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize("grid", GRIDS)
def test_kde_against_the_matrix_product(benchmark, grid):
    torch.manual_seed(0)
    samples, points = torch.rand(N, 784), torch.rand(M, 784)

    def product():
        for part in points.split(1024):
            part @ samples.T

    before = _seconds(product)
    benchmark.pedantic(log_densities, (samples, points, GRIDS[grid]), rounds=3, warmup_rounds=1)
    bare = min(before, _seconds(product))
    benchmark.extra_info["times the matrix product"] = round(benchmark.stats.stats.min / bare, 2)
    benchmark.extra_info["threads"] = torch.get_num_threads()
