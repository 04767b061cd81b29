"""Tools for methods that fit the parameters of a simulator to data without gradients: the budget and the path of the
search, and an estimate of the divergence by boosted trees. (The search of hyperparameters is in `suite.tune` and
`execution.search`.)

Cost is counted in examples made by the simulator. A place is a point of the unit cube: 0 stands for the least value of
a parameter, 1 for the greatest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Generator, Tensor

from .contracts import Budget, Data, Simulator
from .errors import PluginError
from .training.rng import generator

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

CURVE_POINTS = 200  # of the curve that is stored of a search


class Search:
    """A search for the parameters of the simulator behind `data`, within `budget.steps` simulator calls.

    Real and simulated examples have separate random generators, so that two methods under one seed see the same real
    examples. Raises PluginError if the data have no simulator, or for a budget of less than two calls.
    """

    def __init__(self, data: Data, seed: int, budget: Budget) -> None:
        if data.simulator is None:
            raise PluginError(
                f"this method fits a simulator, but {data.name} does not come from one; take a dataset that provides "
                "one (`ganbench list datasets`, then `ganbench show NAME`)"
            )
        if min(budget.batch, budget.steps) < 2:
            raise PluginError(
                f"a search needs at least two simulator calls, one to train on and one to hold out; the budget is "
                f"{budget.steps} (train.steps) in samples of {budget.batch} or more (train.batch)"
            )
        self.data, self.simulator, self.budget = data, data.simulator, budget
        self.generator = generator(seed, "search")  # for the method's own choices and the simulator
        self.reals = generator(seed, "real examples")
        self.calls = 0
        self.visited: list[tuple[int, Tensor, float]] = []  # calls so far, place, divergence

    @property
    def dimensions(self) -> int:
        """The number of parameters."""
        return len(self.simulator.parameters)

    @property
    def left(self) -> int:
        """The remaining simulator calls."""
        return self.budget.steps - self.calls

    @property
    def first(self) -> int:
        """Size of the first sample of a comparison: `budget.batch`, or the whole budget where that is less."""
        return min(self.budget.batch, self.budget.steps)

    def simulate(self, place: Tensor, n: int) -> Tensor:
        """n simulated examples [n, *shape] at a place [P], whose coordinates are clipped to [0, 1]."""
        self.calls += n
        return self.simulator.simulate(_parameters(self.simulator, place), n, self.generator)

    def real(self, n: int) -> Tensor:
        """n training examples [n, *shape], drawn with replacement."""
        chosen = torch.randint(len(self.data.train), (n,), generator=self.reals)
        return self.data.floats(self.data.train[chosen.to(self.data.train.device)]).cpu()

    def visit(self, place: Tensor, divergence: float) -> None:
        """Record that the search has reached this place [P], and the divergence there."""
        self.visited.append((self.calls, _parameters(self.simulator, place), divergence))

    def found(self, place: Tensor) -> Tuned:
        """The sampler at the place [P], for `fit` to return."""
        calls = torch.tensor([calls for calls, _, _ in self.visited])
        grid = torch.linspace(0, self.budget.steps, CURVE_POINTS + 1)[1:].round().long()
        # The divergence last seen at each point of the grid; NaN before the first.
        seen = torch.tensor([math.nan, *(divergence for _, _, divergence in self.visited)])
        state = {
            "parameters": _parameters(self.simulator, place),
            "path": torch.stack([parameters for _, parameters, _ in self.visited]),
            "calls": calls,
            "grid": grid,
        }
        curves = {"step": grid, "divergence": seen[torch.searchsorted(calls, grid, right=True)]}
        return Tuned(self.simulator, state, curves)


@dataclass(frozen=True)
class Tuned:
    """A simulator at the parameters that a search found.

    `state`: "parameters" [P]; "path" [L, P], the parameters of the search after "calls" [L] simulator calls; "grid"
    [200], equally spaced numbers of calls up to the budget. `curves`: the divergence last seen, in nats, at "step" =
    grid calls (NaN before the first). Parameters are in the simulator's units.
    """

    simulator: Simulator
    state: dict[str, Tensor]
    curves: dict[str, Tensor]

    def __call__(self, n: int, generator: Generator) -> Tensor:
        """n fresh examples [n, *shape]; these calls do not count."""
        seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
        return self.simulator.simulate(self.state["parameters"], n, Generator().manual_seed(int(seed)))


def _parameters(simulator: Simulator, place: Tensor) -> Tensor:
    """The parameters at a place of the unit cube, in the simulator's units."""
    low, high = (torch.tensor(ends, dtype=torch.float64) for ends in (simulator.low, simulator.high))
    return torch.lerp(low, high, place.detach().double().clamp(0, 1))


# ---------------------------------------------------------------------------------------------- divergence


@dataclass(frozen=True)
class Comparison:
    """The result of comparing real with simulated examples."""

    divergence: float  # nats, on held-out examples: log 2 at most, about 0 (or a little less) for equal ones
    gap: float  # nats: the divergence on the training examples minus that on the held-out ones
    trees: int  # of the discriminator
    calls: int  # simulated examples, half of them held out
    odds: Tensor  # [n] its log odds that the held-out simulated examples, in order, are real


@dataclass(frozen=True)
class BoostedDivergence:
    """The Jensen-Shannon divergence, estimated by boosted trees, or the adaptive divergence of Borisyak et al. 2020.

    With i trees the discriminator sees JSD_i = log 2 − cross-entropy, which grows with i on its training examples.
    "full" capacity takes all trees. The adaptive divergence stops at the first tree i with JSD_i > t_i, so that it is
    JSD_i ≤ JSD. t falls to 0 at the last tree: for "linear" capacity along linspace(log 2/4, 0, trees), for
    "logarithmic" as log 2/4 · log(i/trees) / log(1/trees). Few trees separate distributions that are far apart, and
    few trees need few examples.

    A comparison starts with `first` real and as many simulated examples. Half of each are held out, and the value is
    measured on these. While the divergence on the training examples exceeds it by more than `gap`, the number of
    examples is doubled and a new discriminator is fitted. All examples are kept; only new ones are drawn.
    """

    capacity: Literal["full", "linear", "logarithmic"] = "full"
    gap: float = 0.03  # nats
    trees: int = 100
    depth: int = 3

    def __call__(
        self, real: Callable[[int], Tensor], fake: Callable[[int], Tensor], first: int, most: int
    ) -> Comparison:
        """Compare `real(n)` with `fake(n)`, each [n, *shape] and fresh at every call, on at least `first` and at most
        `most` examples of each."""
        reals, fakes = [real(first)], [fake(first)]
        while True:
            seen = self.compare(torch.cat(reals), torch.cat(fakes))
            if seen.gap <= self.gap or 2 * seen.calls > most:
                return seen
            reals.append(real(seen.calls))
            fakes.append(fake(seen.calls))

    def compare(self, real: Tensor, fake: Tensor) -> Comparison:
        """Compare these examples [n, *shape], every second of which is held out."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits

        parts = (real[0::2], fake[0::2], real[1::2], fake[1::2])
        x = torch.cat(parts).flatten(1).numpy()
        sign = np.repeat([1.0, -1.0, 1.0, -1.0], [len(part) for part in parts])
        learnt = len(parts[0]) + len(parts[1])
        settings = {"max_iter": self.trees, "max_depth": self.depth, "early_stopping": False}
        with threadpool_limits(1):  # the trees are too small to gain from threads
            model = HistGradientBoostingClassifier(**settings).fit(x[:learnt], sign[:learnt] > 0)
            last, seen = self._stop(model, x[:learnt], sign[:learnt])
            odds = next(islice(model.staged_decision_function(x[learnt:]), last, None))
        held = _divergence(odds, sign[learnt:])
        odds = torch.from_numpy(odds[len(parts[2]) :])
        return Comparison(held, seen - held, last + 1, len(fake), odds)

    def _stop(
        self, model: HistGradientBoostingClassifier, x: np.ndarray, sign: np.ndarray
    ) -> tuple[int, float]:
        """The index of the last tree, from 0, and the divergence [nats] up to it on x, the training examples."""
        if self.capacity == "full":
            return self.trees - 1, _divergence(model.decision_function(x), sign)
        last, seen = 0, 0.0
        for last, odds in enumerate(model.staged_decision_function(x)):
            seen = _divergence(odds, sign)
            if seen > self.thresholds[last]:
                break
        return last, seen

    @cached_property
    def thresholds(self) -> np.ndarray:
        """t [trees], nats: a discriminator whose first i trees see more than t[i - 1] has no further tree."""
        if self.capacity == "full":
            return np.full(self.trees, np.inf)
        highest, i = math.log(2) / 4, np.arange(1, self.trees + 1)
        if self.capacity == "linear":
            return np.linspace(highest, 0, self.trees)
        return highest * np.log(i / self.trees) / math.log(1 / self.trees)


def _divergence(odds: np.ndarray, sign: np.ndarray) -> float:
    """log 2 − cross-entropy, nats, of log odds [n] of examples that are real (sign 1) or not (−1)."""
    return math.log(2) - float(np.logaddexp(0, -sign * odds).mean())
