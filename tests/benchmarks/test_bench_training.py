"""A stack of seeds beside the plain loop over one seed that a user would write: the same numbers, and how many times
as many seeds × steps in a second. Everything is alternated within one process of one thread; scripts/speed measures
more, into results/reference/speed.md."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from eager import CASES, Eager, Stacked

pytestmark = pytest.mark.slow

WARM = 9  # rounds first: recorded at the third, held against the loss itself at the fourth and eighth

SMALL = {name: replace(case, batch=min(case.batch, 64)) for name, case in CASES.items() if "512" not in name}


@pytest.mark.parametrize("name", [name for name in SMALL if "4096" not in name and "10 steps" not in name])
def test_the_plain_loop_and_the_stack_train_the_same(name):
    """In float64, on the same minibatches, through recorded losses as well."""
    case = SMALL[name]
    params = {**case.params, **{key: 8 for key in ("width", "g_width", "v_width") if key in case.params}}
    case = replace(case, batch=16, params=params or {"width": 8})
    seeds = 1 if "DCGAN" in name else 3  # convolutions are played seed by seed
    stack, eager = (Stacked(case, seeds, torch.float64), Eager(case, torch.float64))
    for _ in range(6):
        minibatches = next(stack.rounds)
        queue = iter([{key: value[0].clone() for key, value in one.items()} for one in minibatches])
        eager.minibatch = lambda queue=queue: next(queue)
        eager.round()
        stack.stack.play(stack.step, 100, minibatches)
        stack.step += 1
    for player in ("D", "G"):
        (net,) = stack.stack.game.players[player].owns
        mine = stack.stack.replica(0).parameters(net)
        # What an Adam without the tiny number under its root, and rounding, may differ by in six steps.
        for key, theirs in eager.game.nets[net].named_parameters():
            assert torch.allclose(mine[key], theirs, atol=1e-7), key


def alternate(runs: dict[str, tuple[Stacked | Eager, int]], seconds: float) -> dict[str, float]:
    """Seconds that a round of one seed takes, for each run: the lower quartile over turns that alternate."""
    turns: dict[str, list[float]] = {name: [] for name in runs}
    for run, _ in runs.values():
        for _ in range(WARM):
            run.round()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, turns.values())) < 4:
        for name, (run, seeds) in runs.items():
            rounds = max(1, 8 // seeds)
            start = time.perf_counter()
            for _ in range(rounds):
                run.round()
            turns[name].append((time.perf_counter() - start) / rounds / seeds)
    return {name: sorted(found)[len(found) // 4] for name, found in turns.items()}


def test_stacks_against_a_plain_loop(benchmark):
    """The smallest game alone, for a second; scripts/speed measures the others."""
    case, seeds = CASES["ring MLP, batch 128"], (1, 16)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runs: dict[str, tuple[Stacked | Eager, int]] = {"plain": (Eager(case), 1)}
        runs |= {f"stack of {n}": (Stacked(case, n), n) for n in seeds}
        found = benchmark.pedantic(alternate, args=(runs, 1.0), rounds=1)
    finally:
        torch.set_num_threads(threads)
    for run in found:
        benchmark.extra_info[f"{run}, times a plain loop"] = found["plain"] / found[run]
