"""Nearest neighbours beside FAISS and scikit-learn, and precision, recall, density and coverage beside the
package of their authors. Ratios and CPU times are in the benchmarks' extra_info; GANBENCH_BENCH_FULL=1 gives
10,000 points among 60,000 and 10,000 against 10,000, of 784 dimensions.

All on the threads that PyTorch uses, by the same single run of each in turn, the least of three. Ours is the
product by OpenBLAS (90 % of the time), a search for the least distance of each row and, where that is among
the nearest so far, for the k least, and the distances anew in float64, which FAISS leaves in float32.
"""

from __future__ import annotations

import contextlib
import io
import os
import time

import pytest
import torch
from threadpoolctl import threadpool_limits

from ganbench.metrics.distances import nearest
from ganbench.metrics.prdc import prdc

pytestmark = pytest.mark.slow

FULL = os.environ.get("GANBENCH_BENCH_FULL") == "1"
M, N = (10_000, 60_000) if FULL else (1000, 6000)
SETS = 10_000 if FULL else 1500


def side_by_side(benchmark, ours, **others):
    """The least time of three runs of each, taken in turn; the ratios to ours go to extra_info."""
    spent = {name: (float("inf"), float("inf")) for name in ("ours", *others)}
    for _ in range(3):
        for name, function in {"ours": ours, **others}.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            now = time.perf_counter() - wall, time.process_time() - cpu
            spent[name] = tuple(map(min, spent[name], now))
    benchmark.pedantic(ours, rounds=1)
    for name in others:
        for i, what in enumerate(("time", "CPU time")):
            benchmark.extra_info[f"{what} of {name} / ours"] = round(spent[name][i] / spent["ours"][i], 2)
    benchmark.extra_info["seconds of ours"] = round(spent["ours"][0], 3)
    benchmark.extra_info["threads"] = torch.get_num_threads()


def test_neighbours_against_faiss_and_scikit_learn(benchmark):
    faiss = pytest.importorskip("faiss")
    from sklearn.neighbors import NearestNeighbors

    torch.manual_seed(0)
    points, reference, k = torch.rand(M, 784), torch.rand(N, 784), 5
    faiss.omp_set_num_threads(torch.get_num_threads())

    def flat():
        index = faiss.IndexFlatL2(784)
        index.add(reference.numpy())
        return index.search(points.numpy(), k)

    def brute():
        return (
            NearestNeighbors(n_neighbors=k, algorithm="brute")
            .fit(reference.numpy())
            .kneighbors(points.numpy())
        )

    with threadpool_limits(torch.get_num_threads()):
        side_by_side(benchmark, lambda: nearest(points, reference, k), faiss=flat, sklearn=brute)
    assert (torch.as_tensor(flat()[1]) == nearest(points, reference, k)[1]).float().mean() > 0.999


def test_prdc_against_the_authors_package(benchmark):
    package = pytest.importorskip("prdc")
    torch.manual_seed(0)
    real, fake = torch.rand(2, SETS, 784)

    def theirs():
        with contextlib.redirect_stdout(io.StringIO()):
            return package.compute_prdc(real.numpy(), fake.numpy(), nearest_k=5)

    side_by_side(benchmark, lambda: prdc(real, fake), prdc=theirs)
    assert vars(prdc(real, fake)) == pytest.approx(theirs(), abs=2 / SETS)
