"""AIS beside the calls of the generator that it makes: the ratio of its time to that of as many gradients."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from ganbench.contracts import Draw
from ganbench.metrics.ais import MIN_PILOT_STEPS, ais_log_likelihood

pytestmark = pytest.mark.slow

POINTS, CHAINS, STEPS, LEAPFROG = 50, 16, 10, 4


def test_ais_against_its_gradients(benchmark):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 784)).requires_grad_(False)
    x = net(torch.randn(POINTS, 64))

    def score():
        options = {"chains": CHAINS, "steps": STEPS, "leapfrog": LEAPFROG, "simulated": 0}
        return ais_log_likelihood(net, x, Draw.normal(64), sigma=0.3, **options)

    def gradient():
        z = torch.randn(POINTS * CHAINS, 64, requires_grad=True)
        return torch.autograd.grad(net(z).square().sum(), z)

    benchmark.pedantic(score, rounds=1)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        gradient()
        times.append(time.perf_counter() - start)
    calls = (STEPS + MIN_PILOT_STEPS) * LEAPFROG
    benchmark.extra_info["times its gradients"] = round(benchmark.stats.stats.min / calls / min(times), 2)
