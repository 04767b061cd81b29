"""Log-likelihood of decoder-based generators by annealed importance sampling (AIS), Wu et al. 2017.

The model is p(x) = ∫ p(z) N(x; G(z), σ²I) dz. The latents z are a function of standard normal numbers u, so that all
chains move in an unconstrained space. Shapes: p points with c chains each, which run as one batch of p·c; d latent
numbers; `*shape` one example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor

from ..contracts import Data, Draw, Model, Score, Value, metric
from ..errors import SampleError, did_you_mean
from .distances import check_samples
from .kde import scale_grid
from .statistics import standard_error
from .subset import random_subset

TARGET_ACCEPTANCE = 0.65  # of the moves; step sizes are tuned to it, as in Wu et al.
ADAPTATION_RATE = 1.0  # change of log(step size) per unit of acceptance above the target
LOG_STEP_GRID = 0.1  # log(step size) is a multiple of it
STEP_JITTER = 0.2  # the steps of a trajectory are up to this fraction longer or shorter than tuned
SIGMOID_REACH = 4.0  # the sigmoid schedule covers ± this range, as in Wu et al.
PILOT_RATIO = 4  # the pilot run that tunes the step sizes is this many times shorter ...
MIN_PILOT_STEPS = 50  # ... but has at least this many steps
MAX_CHAINS = 1024  # that run together
NOISE_STEPS = 16  # steps whose random numbers are drawn at once
MAX_GAP = 1.0  # nats; a larger BDMC gap gives a warning
Schedule = Literal["geometric", "sigmoid"]
SCHEDULES: dict[Schedule, str] = {  # the spacing of β, for the protocol
    "geometric": "even in log(β + b), b = 1/(1 + median energy under the prior)",
    "sigmoid": f"a logistic curve over ±{SIGMOID_REACH:g}",
}
Generate = Callable[
    [Tensor], Tensor
]  # latents [n, *latent] -> samples [n, *shape], no example depends on another
Noise = Iterator[tuple[Tensor, Tensor]]  # standard normal [p·c, d] and uniform [2, p·c] numbers, step by step


def ais_log_likelihood(
    generate: Generate,
    test: Tensor,
    latent: Draw,
    *,
    sigma: float,
    chains: int = 16,
    steps: int = 1000,
    leapfrog: int = 10,
    schedule: Schedule = "geometric",
    simulated: int = 20,
    generator: Generator | None = None,
) -> Score:
    """Mean log-likelihood (nats) of `test` [n, *shape] under N(generate(z), sigma² I) with z drawn from `latent`, a
    stochastic lower bound, with its standard error over the test points. Wu et al. 2017, section 3.

    `generate` maps latents [B, *latent.shape] to samples [B, *shape]; it is differentiable, and no sample depends on
    another latent. Annealed importance sampling goes from p(z) to p(z) p(x|z) through `steps` distributions
    p(z) p(x|z)^β, with a Hamiltonian Monte Carlo move of `leapfrog` steps in each. The step sizes, for every point and
    β, are tuned so that 0.65 of the moves are accepted. The estimate of a point is the logarithm of the mean weight of
    its `chains`.

    Wu et al. use 16 chains, 10,000 steps, 10 leapfrog steps and the "sigmoid" `schedule` of β. The "geometric" one
    (`geometric`) spaces log β evenly where p(x|z)^β matters, and β itself below; it needs fewer steps where sigma is
    small. In both, every jump of β shrinks as 1/steps, and the spread of the estimate with it. Wu et al. adapt the step
    sizes during the run. That biases the mean weight a little, since a step then depends on its chain's past; here a
    shorter pilot run tunes them. Every point has random numbers of its own, so that no value depends on the other
    points, except by rounding.

    The gap: for `simulated` examples of the model itself (0: none) there is a stochastic upper bound as well (`bdmc`).
    The mean of upper - lower bounds the error on these examples, and indicates the error on real examples that the
    model explains equally well.

    Details: "sigma"; "acceptance", the share of accepted moves; "ess", the effective number of chains, (Σw)²/Σw², mean
    over points; "log_likelihoods" [n]; "bdmc_gap", "bdmc_gap_sem", "bdmc_lower" and "bdmc_upper" [simulated]. A
    `warning` says that the gap is above 1 nat.

    Raises SampleError for test points that are too few or not finite, for numbers that are not positive, and for a
    generator whose samples have another shape, are not finite or do not depend differentiably on z.
    """
    test = check_samples(test, "test", least=2)
    _check_arguments(generate, latent, test, sigma, chains=chains, steps=steps, leapfrog=leapfrog)
    if simulated < 0 or simulated == 1:
        raise SampleError(f"simulated: expected 0, or at least 2 for a standard error, got {simulated}")
    run = _Run(generate, latent, sigma, chains, steps, leapfrog, schedule)
    estimates = run.forward(test, generator)
    values = estimates.log_likelihoods
    if not torch.isfinite(values).all():
        raise SampleError("generate(z): NaN or infinity in every chain; has the generator diverged?")
    details: dict[str, Any] = {
        "sigma": sigma,
        "acceptance": estimates.acceptance.mean().item(),
        "ess": estimates.ess.mean().item(),
        "log_likelihoods": values,
    }
    gap, warning = _gap_details(run.bdmc(simulated, test, generator), steps) if simulated else ({}, None)
    return Score(values.mean().item(), standard_error(values), len(values), details | gap, warning=warning)


class Sandwich(NamedTuple):
    """Stochastic bounds of the log-likelihood of examples that the model generated, nats."""

    lower: Tensor  # [n], float64
    upper: Tensor  # [n]
    x: Tensor  # [n, *shape], the examples


def bdmc(
    generate: Generate,
    n: int,
    latent: Draw,
    like: Tensor,
    *,
    sigma: float,
    chains: int = 16,
    steps: int = 1000,
    leapfrog: int = 10,
    schedule: Schedule = "geometric",
    generator: Generator | None = None,
) -> Sandwich:
    """Bidirectional Monte Carlo: bounds from both sides for `n` examples x = generate(z) + sigma·noise, with the
    shape, device and dtype of examples `like` [m, *shape]. Grosse et al. 2015; Wu et al. 2017, section 3.2.

    The lower bound is AIS. For the upper one the chains run backwards from the z that generated x, an exact sample of
    the posterior: their mean weight is an unbiased estimate of 1/p(x). Raises SampleError as `ais_log_likelihood` does.
    """
    like = check_samples(like, "like")
    _check_arguments(generate, latent, like, sigma, chains=chains, steps=steps, leapfrog=leapfrog, n=n)
    return _Run(generate, latent, sigma, chains, steps, leapfrog, schedule).bdmc(n, like, generator)


class Sigma(NamedTuple):
    """The standard deviation of the observations that is best on the validation examples, and all that were tried."""

    best: float
    sigmas: list[float]  # descending
    curve: list[float]  # mean log-likelihood of the validation examples for each, nats


def choose_sigma(
    generate: Generate,
    valid: Tensor,
    latent: Draw,
    *,
    chains: int = 16,
    steps: int = 200,
    leapfrog: int = 10,
    generator: Generator | None = None,
) -> Sigma:
    """The `sigma` with the highest mean log-likelihood of `valid` [n, *shape], among `steps` values down to 1/256 of
    the data's standard deviation (root mean square over the dimensions).

    One run of AIS gives them all: p(x|z)^β under the smallest sigma is, up to a known factor, p(x|z) under sigma/√β, so
    that each β on the path gives the log-likelihood for a larger sigma. All are lower bounds and looser for smaller
    sigmas, so any bias of the choice is towards larger ones. Raises SampleError as `ais_log_likelihood` does, and for
    examples that are all equal.
    """
    valid = check_samples(valid, "valid", least=2)
    smallest = scale_grid(valid)[-1] / 4 / 256  # the grid ends at 4 standard deviations
    _check_arguments(generate, latent, valid, smallest, chains=chains, steps=steps, leapfrog=leapfrog)
    run = _Run(generate, latent, smallest, chains, steps, leapfrog, "geometric")
    betas, log_integrals = run.log_integrals_by_beta(valid, generator)
    sigmas = smallest / betas.sqrt()
    constants = valid[0].numel() * (math.sqrt(2 * math.pi) * sigmas).log()
    curve = (log_integrals.mean(1) - constants).nan_to_num(nan=-torch.inf)
    if not torch.isfinite(curve).any():
        raise SampleError("generate(z): NaN or infinity in every chain; has the generator diverged?")
    return Sigma(sigmas[int(curve.argmax())].item(), sigmas.tolist(), curve.tolist())


def sigmoid(steps: int) -> Tensor:
    """β_0 = 0 … β_steps = 1 [steps + 1], float64, slow at both ends. Wu et al. 2017, appendix."""
    betas = torch.linspace(-SIGMOID_REACH, SIGMOID_REACH, steps + 1, dtype=torch.float64).sigmoid()
    return (betas - betas[0]) / (betas[-1] - betas[0])


def geometric(steps: int, energy: Tensor) -> Tensor:
    """β_i = b ((1 + 1/b)^(i/steps) - 1) with b = 1/(1 + energy), for each energy [p]: [steps + 1, p], float64.

    log(β + b) is evenly spaced from β = 0 to 1. `energy` is the size of ‖x - G(z)‖²/2σ² under the prior, so that
    p(x|z)^β matters from about β = b on. Far above b the steps are even in log β: where observations are sharp, d
    latents under p(x|z)^β are nearly Gaussian and the variance of the energy is d/2β², so that these steps have equal
    length (Gelman & Meng 1998, section 4). Below b they are even in β, so that the first one shrinks as 1/steps too: if
    the first jump went to b at once, no number of steps would reduce the spread that it causes.
    """
    least = 1 / (1 + energy.double())
    powers = torch.linspace(0, 1, steps + 1, dtype=torch.float64, device=energy.device)[:, None]
    betas = least * torch.expm1(powers * torch.log1p(1 / least))
    betas[-1] = 1  # without rounding
    return betas


def _check_arguments(generate: Generate, latent: Draw, x: Tensor, sigma: float, **counts: int) -> None:
    """Raises SampleError for arguments that `ais_log_likelihood` cannot use."""
    if not (math.isfinite(sigma) and sigma > 0):
        raise SampleError(f"sigma: expected a positive number, got {sigma}")
    for name, count in counts.items():
        least = 2 if name == "steps" else 1
        if count < least:
            raise SampleError(f"{name}: expected at least {least}, got {count}")
    with torch.enable_grad():
        z = _latents(torch.zeros(2, math.prod(latent.shape), dtype=x.dtype, device=x.device), latent)
        images = generate(z.requires_grad_())
    check_samples(images, "generate(z)", like=x)
    if not images.requires_grad:
        raise SampleError(
            "generate(z): does not depend differentiably on z; Hamiltonian Monte Carlo needs its gradient"
        )


def _latents(u: Tensor, latent: Draw) -> Tensor:
    """Standard normal numbers [n, d] as latents [n, *latent.shape]; uniform latents by the normal distribution
    function."""
    z = u.view(len(u), *latent.shape)
    if latent.low is None or latent.high is None:
        return z
    return latent.low + (latent.high - latent.low) * torch.special.ndtr(z)


def _gap_details(bounds: Sandwich, steps: int) -> tuple[dict[str, Any], str | None]:
    """Details of the BDMC gap, and a warning where it is large."""
    gaps = bounds.upper - bounds.lower
    gap = gaps.mean().item()
    details: dict[str, Any] = {
        "bdmc_gap": gap,
        "bdmc_gap_sem": standard_error(gaps),
        "bdmc_lower": bounds.lower,
        "bdmc_upper": bounds.upper,
    }
    warning = None
    if not gap <= MAX_GAP:
        warning = (
            f"on examples of the model itself the bounds are {gap:.3g} nats apart (BDMC): the true log-likelihood may "
            f"be higher than the value by as much; use more than {steps} steps"
        )
    return details, warning


# ---------------------------------------------------------------------------------------------- annealing


class _Annealed(NamedTuple):
    """The result of one run of all chains of p points."""

    log_weights: Tensor  # [p, c], float64
    curve: Tensor  # [steps, p]: logarithm of the chains' mean weight so far
    step: Tensor  # [steps, p]: step sizes
    accepted: Tensor  # [steps, p]: mean probability that a move is accepted


class _Likelihood(NamedTuple):
    log_likelihoods: Tensor  # [p], float64
    ess: Tensor  # [p]
    acceptance: Tensor  # [p]


@dataclass(frozen=True)
class _Run:
    """Settings of a run; its methods run chains."""

    generate: Generate
    latent: Draw
    sigma: float
    chains: int
    steps: int
    leapfrog: int
    schedule: Schedule

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            raise SampleError(
                f"schedule: {self.schedule!r} is unknown{did_you_mean(self.schedule, get_args(Schedule))}"
            )

    def forward(self, x: Tensor, generator: Generator | None) -> _Likelihood:
        """Lower bounds for points [p, *shape]."""
        blocks = []
        for rows, noise in self._blocks(x, generator):
            betas, step = self._tune(x[rows], noise)
            run = self._anneal(x[rows], next(noise)[0], betas, step, noise)
            w = run.log_weights
            ess = (2 * w.logsumexp(1) - (2 * w).logsumexp(1)).exp()
            blocks.append(_Likelihood(_log_mean(w) + self._constant(x), ess, run.accepted.mean(0)))
        return _Likelihood(*(torch.cat(part) for part in zip(*blocks, strict=True)))

    def bdmc(self, n: int, like: Tensor, generator: Generator | None) -> Sandwich:
        """Bounds for n examples of the model. Both directions use the step sizes of one pilot run, which does not know
        the z that generated the example."""
        device, width = generator.device if generator else like.device, math.prod(self.latent.shape)
        drawn = torch.randn(n, width + like[0].numel(), generator=generator, device=device).to(like)
        u = drawn[:, :width]
        x = self._images(u) + self.sigma * drawn[:, width:].view(n, *like.shape[1:])
        lower, upper = [], []
        for rows, noise in self._blocks(x, generator):
            betas, step = self._tune(x[rows], noise)
            forward = self._anneal(x[rows], next(noise)[0], betas, step, noise)
            start = u[rows].repeat_interleave(self.chains, 0)
            backward = self._anneal(x[rows], start, betas.flip(0), step.flip(0), noise)
            lower.append(_log_mean(forward.log_weights) + self._constant(x))
            upper.append(self._constant(x) - _log_mean(backward.log_weights))
        return Sandwich(torch.cat(lower), torch.cat(upper), x)

    def log_integrals_by_beta(self, x: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """One geometric schedule of β for all points x [p, *shape], without its 0 [steps], and
        log ∫ p(z) exp(-β‖x - G(z)‖²/2σ²) dz [steps, p]. The step sizes are adapted during the run."""
        device, width = generator.device if generator else x.device, math.prod(self.latent.shape)
        u = torch.randn(len(x), width, generator=generator, device=device).to(x)
        betas = geometric(self.steps, self._energy(u, x.flatten(1))[0].median()[None])  # [steps + 1, 1]
        curves = [
            self._anneal(x[rows], next(noise)[0], betas.expand(-1, len(x[rows])), None, noise).curve
            for rows, noise in self._blocks(x, generator)
        ]
        return betas[1:, 0], torch.cat(curves, 1)

    def _blocks(self, x: Tensor, generator: Generator | None) -> Iterator[tuple[slice, Noise]]:
        """The points in blocks that run together, each with its random numbers."""
        device, per = generator.device if generator else x.device, max(1, MAX_CHAINS // self.chains)
        seeds = torch.randint(2**62, (len(x),), generator=generator, device=device).tolist()
        for start in range(0, len(x), per):
            rows = slice(start, start + per)
            yield rows, _noise(seeds[rows], self.chains, math.prod(self.latent.shape), x)

    def _tune(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """The schedule [steps + 1, p] and its step sizes [steps, p], from a shorter pilot run."""
        u, short = next(noise)[0], max(self.steps // PILOT_RATIO, MIN_PILOT_STEPS)
        energy = self._energy(u, self._repeat(x))[0].view(len(x), -1)
        energy = energy.median(1).values

        def betas(steps: int) -> Tensor:
            if self.schedule == "sigmoid":
                return sigmoid(steps).to(x.device)[:, None].expand(-1, len(x))
            return geometric(steps, energy)

        pilot = self._anneal(x, u, betas(short), None, noise)
        return betas(self.steps), pilot.step[torch.arange(self.steps, device=x.device) * short // self.steps]

    def _anneal(self, x: Tensor, u: Tensor, betas: Tensor, step: Tensor | None, noise: Noise) -> _Annealed:
        """Chains of points x [p, *shape] from u [p·c, d] along `betas` [steps + 1, p]: a move that leaves p(z) p(x|z)^β
        invariant, then the weight p(x|z)^(next β - β). Step sizes [steps, p]; None: adapted after every move."""
        shape, targets = (len(x), self.chains), self._repeat(x)

        def energy(u: Tensor) -> tuple[Tensor, Tensor]:
            return self._energy(u, targets)

        state = _State(u, *energy(u))
        log_weights = torch.zeros(shape, dtype=torch.float64, device=x.device)
        # Step sizes are rounded to a grid. Otherwise rounding errors of the chains, which depend on the batch that they
        # run in, would change the step sizes and through them the value of a point.
        log_step, curve, steps, rates = (
            torch.zeros(shape[0], dtype=torch.float64, device=x.device),
            [],
            [],
            [],
        )
        for i, (beta, following) in enumerate(pairwise(betas)):
            size = _round_step(log_step) if step is None else step[i]
            state, accepted = _move(energy, state, beta, size, next(noise), self.leapfrog)
            rate = accepted.view(shape).mean(1)
            log_step = log_step + ADAPTATION_RATE * (rate - TARGET_ACCEPTANCE)
            log_weights = log_weights - (following - beta)[:, None] * state.energy.double().view(shape)
            curve.append(_log_mean(log_weights))
            steps.append(_round_step(log_step))
            rates.append(rate)
        return _Annealed(log_weights, torch.stack(curve), torch.stack(steps), torch.stack(rates))

    def _repeat(self, x: Tensor) -> Tensor:
        """Points [p, *shape] repeated for each chain: [p·c, D]."""
        return x.flatten(1).repeat_interleave(self.chains, 0)

    def _energy(self, u: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """‖x - G(z(u))‖²/2σ² [n] for x = `targets` [n, D], and its gradient in u [n, d]; infinite instead of NaN."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            energy = (self._images(u).flatten(1) - targets).square().sum(1) / (2 * self.sigma**2)
            (gradient,) = torch.autograd.grad(energy.sum(), u)
        return energy.detach().nan_to_num(nan=torch.inf, posinf=torch.inf), gradient

    def _images(self, u: Tensor) -> Tensor:
        return self.generate(_latents(u, self.latent))

    def _constant(self, x: Tensor) -> float:
        """Logarithm of the density N(·; G(z), σ²I) at its centre."""
        return -x[0].numel() * math.log(math.sqrt(2 * math.pi) * self.sigma)


def _round_step(log_step: Tensor) -> Tensor:
    return ((log_step / LOG_STEP_GRID).round() * LOG_STEP_GRID).exp()


def _log_mean(log_weights: Tensor) -> Tensor:
    """[p, c] -> [p]."""
    return log_weights.logsumexp(1) - math.log(log_weights.shape[1])


def _noise(seeds: Sequence[int], chains: int, d: int, like: Tensor) -> Noise:
    """Endless random numbers. Those of a point depend on its seed alone, not on the points in its block. They are drawn
    on the CPU, so that they are the same on all devices."""
    own = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        normal = [torch.randn(NOISE_STEPS, chains, d, generator=g) for g in own]
        uniform = [torch.rand(NOISE_STEPS, 2, chains, generator=g) for g in own]
        yield from zip(
            torch.stack(normal, 1).flatten(1, 2).to(like),
            torch.stack(uniform, 2).flatten(2, 3).to(like),
            strict=True,
        )


# ---------------------------------------------------------------------------------------------- moves


class _State(NamedTuple):
    u: Tensor  # [n, d]
    energy: Tensor  # [n]: -log p(x|z), but for a constant
    gradient: Tensor  # [n, d]: of the energy


def _move(
    energy: Callable[[Tensor], tuple[Tensor, Tensor]],
    state: _State,
    beta: Tensor,
    step: Tensor,
    noise: tuple[Tensor, Tensor],
    leapfrog: int,
) -> tuple[_State, Tensor]:
    """One Hamiltonian Monte Carlo move for exp(-‖u‖²/2 - β·energy), with β and step sizes for each point [p]. Returns
    the new state and the acceptance probabilities [n]. Neal 2011, section 3.

    Every trajectory draws a step size near the given one: with a fixed one, trajectories in a Gaussian may return to
    their start every time (Neal 2011, section 3.2). The bound is tighter with it.
    """
    momentum, (jitter, chance) = noise
    chains = len(momentum) // len(step)
    beta, step = (one.to(momentum).repeat_interleave(chains)[:, None] for one in (beta, step))
    step = step * (1 + STEP_JITTER * (2 * jitter[:, None] - 1))

    def total(at: _State, momentum: Tensor) -> Tensor:
        return (at.u.square() + momentum.square()).sum(1) / 2 + beta[:, 0] * at.energy

    end, p = state, momentum
    for _ in range(leapfrog):
        p = p - step / 2 * (end.u + beta * end.gradient)
        u = end.u + step * p
        end = _State(u, *energy(u))
        p = p - step / 2 * (end.u + beta * end.gradient)
    log_ratio = (total(state, momentum) - total(end, p)).nan_to_num(nan=-torch.inf)
    accepted = (chance.log() < log_ratio)[:, None]
    # The energy is infinite where the generator is not finite; never move there.
    accepted &= torch.isfinite(end.energy)[:, None]
    new = _State(
        torch.where(accepted, end.u, state.u),
        torch.where(accepted[:, 0], end.energy, state.energy),
        torch.where(accepted, end.gradient, state.gradient),
    )
    return new, log_ratio.clamp(max=0).exp()


# ---------------------------------------------------------------------------------------------- the metric


@metric(Value("ais_ll", "nats", "higher"), name="ais_ll", needs=("generator",), version=2)
@dataclass(frozen=True)
class AisLL:
    """Log-likelihood of test examples under G(z) + N(0, σ²), by annealed importance sampling (Wu et al. 2017), nats.

    ± is the standard error over test points. Unlike `kde_ll` it uses the generator and not a few samples, so that it
    stays accurate in many dimensions; it needs thousands of generator calls for each test point. σ is chosen on
    validation examples. The value is a lower bound: "bdmc_gap" in the details bounds how much too low it is on examples
    of the model itself; where it is large, use more `steps` (Wu et al.: 10,000). No noise is added to pixels.

    Checked against linear generators in closed form (0.25 nats and 2 standard errors), SciPy's quadrature over
    one latent number, the bounds from both sides, which hold the truth; the spread falls with the steps.
    """

    n: int = 50  # test examples
    n_valid: int = 20  # validation examples, on which sigma is chosen
    n_simulated: int = 10  # examples of the model itself, for the gap
    sigma: float | None = None  # std of the observations; null: chosen on the validation examples
    chains: int = 16  # for each example
    steps: int = 500  # intermediate distributions; Wu et al.: 10,000
    leapfrog: int = 10  # gradients of each move
    schedule: Schedule = "geometric"  # of the intermediate distributions; Wu et al.: "sigmoid"

    def __call__(self, model: Model, data: Data) -> Score:
        if model.latent is None:
            raise SampleError("ais_ll needs a generator, but only samples are available")
        generator, like = model.generator("ais_ll"), model.samples(1)
        sigma, chosen, warning = self._sigma(
            model, model.latent, data.floats(random_subset(data.valid, self.n_valid)).to(like), generator
        )
        score = ais_log_likelihood(
            model.generate,
            data.floats(random_subset(data.test, self.n)).to(like),
            model.latent,
            sigma=sigma,
            chains=self.chains,
            steps=self.steps,
            leapfrog=self.leapfrog,
            schedule=self.schedule,
            simulated=self.n_simulated,
            generator=generator,
        )
        return replace(score, details={**chosen, **score.details}, warning=score.warning or warning)

    def _sigma(
        self, model: Model, latent: Draw, valid: Tensor, generator: Generator
    ) -> tuple[float, dict[str, Any], str | None]:
        """The standard deviation, the details of its choice, and a warning if it is the smallest of the grid."""
        if self.sigma is not None:
            return self.sigma, {}, None
        choice = choose_sigma(
            model.generate, valid, latent, chains=self.chains, leapfrog=self.leapfrog, generator=generator
        )
        warning = f"the best sigma, {choice.best:.3g}, is the smallest that was tried"
        details = {"sigmas": choice.sigmas, "valid_curve": choice.curve}
        return choice.best, details, warning if choice.best == min(choice.sigmas) else None

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        rule = (
            f"standard deviation {self.sigma:g}" if self.sigma else "the standard deviation that is best on "
        )
        rule += "" if self.sigma else f"{min(self.n_valid, len(data.valid))} random validation examples"
        return (
            f"log-likelihood of {min(self.n, len(data.test))} random test examples under G(z) + normal noise of "
            f"{rule}; annealed importance sampling, {self.chains} chains, {self.steps} steps of a {self.schedule} "
            f"schedule ({SCHEDULES[self.schedule]}), Hamiltonian moves of {self.leapfrog} leapfrog steps tuned to "
            f"accept {TARGET_ACCEPTANCE}; a lower bound, its gap by {self.n_simulated} examples of the model"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        valid = {} if self.sigma else {"valid": min(self.n_valid, len(data.valid))}
        reach = {"reach": SIGMOID_REACH} if self.schedule == "sigmoid" else {}
        return {"test": min(self.n, len(data.test)), **valid, "acceptance": TARGET_ACCEPTANCE, **reach}
