"""A physics simulator as the generator, its parameters found by Bayesian optimisation."""

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from ganbench import BoostedDivergence, Search, method


@method(needs=("simulator",), provides=("parameters",))
@dataclass(frozen=True)
class BayesianOptimisation:
    """Borisyak et al. 2020, section 4: Bayesian optimisation of a simulator's parameters.

    A Gaussian process (Matérn 5/2 kernel and noise, fitted by maximum likelihood) models the divergence, plain
    or adaptive, between data and simulation; the next place to look at has the greatest expected improvement on the
    process's least mean so far, out of 2,048 quasi-random places. The first ones are random. In a suite
    `steps` is the number of simulator calls and `batch` the size of a comparison's first sample.

    The seeds run one after the other: their samples and discriminators differ in size.
    """

    capacity: Literal["full", "linear", "logarithmic"] = "full"  # of the discriminator; full: plain JSD
    gap: float = 0.03  # nats by which training examples may flatter the discriminator; else more are made
    trees: int = 100  # of the discriminator at full capacity
    depth: int = 3  # of a tree
    start: int = 3  # random places before the Gaussian process chooses

    def fit(self, data, seed, budget):
        search = Search(data, seed, budget)
        divergence = BoostedDivergence(self.capacity, self.gap, self.trees, self.depth)
        sobol = torch.quasirandom.SobolEngine(search.dimensions, scramble=True, seed=seed)
        places, seen = torch.rand(0, search.dimensions), []
        while search.left >= search.first:
            if len(seen) < self.start:
                place = torch.rand(search.dimensions, generator=search.generator)
            else:
                candidates = sobol.draw(2048)
                place = candidates[expected_improvement(places, seen, candidates).argmax()]
            compared = divergence(search.real, partial(search.simulate, place), search.first, search.left)
            search.visit(place, compared.divergence)
            places, seen = torch.cat([places, place[None]]), [*seen, compared.divergence]
        candidates = torch.cat([places, sobol.draw(2048)])
        return search.found(candidates[posterior(places, seen, candidates)[0].argmin()])


def expected_improvement(places, seen, candidates):
    """E max(0, least − f) at candidates [n, P], f the process, `least` its least mean at the places [m, P]."""
    mean, std = posterior(places, seen, torch.cat([candidates, places]))
    least, mean, std = mean[len(candidates) :].min(), mean[: len(candidates)], std[: len(candidates)]
    unit = torch.distributions.Normal(0.0, 1.0)
    score = (least - mean) / std
    return (least - mean) * unit.cdf(score) + std * unit.log_prob(score).exp()


def posterior(places, seen, candidates):
    """Mean [n] and standard deviation [n] of the process at candidates [n, P], given values seen at places [m, P]."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    lengths = [0.3] * places.shape[1]
    kernel = ConstantKernel(1.0, (0.1, 10)) * Matern(lengths, (0.05, 3), nu=2.5) + WhiteKernel(
        0.01, (1e-4, 1)
    )
    process = GaussianProcessRegressor(kernel, normalize_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # with few points the bounds decide: they may
        process.fit(places.numpy(), seen)
    mean, std = process.predict(candidates.numpy(), return_std=True)
    noise = process.kernel_.k2.noise_level * process._y_train_std**2
    return torch.from_numpy(mean), torch.from_numpy(std**2 - noise).clamp(min=1e-12).sqrt()
