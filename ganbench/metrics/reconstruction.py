"""Reconstruction error: how near to a given image can the generator come? Metz et al. 2017, section 3.3."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..contracts import Data, Draw, Model, Score, Value, metric
from ..errors import SampleError
from .distances import check_samples
from .latent import draw_latents

PANEL = 10  # targets in the picture
PROBLEMS = 512  # searches that run together
MEMORY = 10  # pairs that L-BFGS remembers
Generate = Callable[[Tensor], Tensor]


def reconstruction_error(
    generate: Generate,
    targets: Tensor,
    latent: Draw,
    *,
    starts: int = 3,
    steps: int = 200,
    generator: Generator | None = None,
) -> Score:
    """Least mean squared error per pixel between `targets` [n, *shape] and `generate(z)`, mean over targets ±
    its standard error. Metz et al. 2017, section 3.3.

    `generate` takes latents [B, *latent.shape] to [B, *shape], differentiably and each by itself. For every
    target, z is sought by L-BFGS from `starts` random draws of `latent`, with at most `steps` calls of the
    generator each, and the best end counts. As in the paper z is free: it may leave the region where
    `latent` has its mass. Details: "errors", "targets" and "reconstructions" of the first 10; "all_errors"
    [n]; "latents" [n, *latent.shape], where the searches ended.

    Raises SampleError for targets that are empty or not finite, and for a generator whose images have
    another shape or are not finite at every start.
    """
    targets = check_samples(targets, "targets", least=2)
    n = len(targets)
    first = draw_latents(latent, n * starts, targets, generator).view(n, starts, *latent.shape)
    with torch.no_grad():
        check_samples(generate(first[:1, 0]), "generate(z)", like=targets)
    per = max(1, PROBLEMS // starts)
    parts = [
        _search(generate, t, z, steps) for t, z in zip(targets.split(per), first.split(per), strict=True)
    ]
    errors, latents = (torch.cat(part) for part in zip(*parts, strict=True))
    if not torch.isfinite(errors).all():
        raise SampleError("generate(z): NaN or infinity from every start; has the generator diverged?")
    with torch.no_grad():
        images = generate(latents[:PANEL])
    details = {
        "targets": targets[:PANEL],
        "reconstructions": images,
        "errors": errors[:PANEL],
        "all_errors": errors,
        "latents": latents,
    }
    return Score(errors.mean().item(), errors.std().item() / math.sqrt(n), n, details)


def _search(generate: Generate, targets: Tensor, first: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """For `targets` [n, *shape] and starts [n, starts, *latent] the least errors [n] and their latents."""
    n, starts = first.shape[:2]
    wanted = targets.repeat_interleave(starts, dim=0).flatten(1)

    def evaluate(z: Tensor, problems: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            images = generate(z.view(-1, *first.shape[2:])).flatten(1)
            errors = (images - wanted[problems]).square().mean(1)
            (gradient,) = torch.autograd.grad(errors.sum(), z)
        return errors.detach(), gradient

    latents, errors = lbfgs(evaluate, first.reshape(n * starts, -1), steps)
    errors = errors.nan_to_num(nan=torch.inf).view(n, starts)
    best = errors.argmin(1) + torch.arange(n, device=errors.device) * starts
    return errors.min(1).values, latents[best].view(n, *first.shape[2:])


# ---------------------------------------------------------------------------------------------- L-BFGS


def lbfgs(
    evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], x: Tensor, calls: int
) -> tuple[Tensor, Tensor]:
    """Minimise P functions at once, each by its own L-BFGS, from `x` [P, d]: the points [P, d] and values [P].

    `evaluate(x, problems)` gives values [p] and gradients [p, d] at the points [p, d] of those problems [p];
    it is called `calls` times at most, with the problems that still move. Steps satisfy the weak Wolfe
    conditions, found by bracketing (Lewis & Overton 2013, algorithm 2.6), which also serves functions with
    kinks, such as a ReLU net's. Two-loop recursion: Nocedal & Wright 2006, algorithm 7.4.
    """
    everyone = torch.arange(len(x), device=x.device)
    x, (value, gradient) = x.clone(), evaluate(x, everyone)
    pairs, direction = _Pairs(x), torch.empty_like(x)
    step, low, high = torch.empty_like(value), torch.empty_like(value), torch.empty_like(value)

    def aim(problems: Tensor) -> None:
        direction[problems] = -pairs.product(problems, gradient[problems])
        fresh = 1 / gradient[problems].norm(dim=1).clamp(min=1.0)  # a first step no longer than 1
        step[problems] = torch.where(pairs.rho[0, problems] > 0, torch.ones_like(fresh), fresh)
        low[problems], high[problems] = 0.0, torch.inf

    aim(everyone)
    for _ in range(calls - 1):
        closed = (high - low <= 1e-6 * low) | (high <= 1e-9)  # no step along the direction serves any more
        active = everyone[_moves(value, gradient) & ~closed]
        if len(active) == 0:
            break
        t, d = step[active], direction[active]
        trial = x[active] + t[:, None] * d
        new, slope = evaluate(trial, active)
        along = (gradient[active] * d).sum(1)
        # Not-a-number compares as false, so that such a step counts as too long.
        decreased = new <= value[active] + 1e-4 * t * along
        accepted = decreased & ((slope * d).sum(1) >= 0.9 * along)
        short, long = active[decreased & ~accepted], active[~decreased]
        low[short], high[long] = step[short], step[long]
        step[active] = torch.where(high[active] < torch.inf, (low[active] + high[active]) / 2, 2 * t)
        done = active[accepted]
        pairs.add(done, trial[accepted] - x[done], slope[accepted] - gradient[done])
        x[done], value[done], gradient[done] = trial[accepted], new[accepted], slope[accepted]
        aim(done)
    return x, value


def _moves(value: Tensor, gradient: Tensor) -> Tensor:
    """Where there is something left to descend."""
    return torch.isfinite(value) & (gradient.abs().amax(1) > 1e-9) & (value > 1e-12)


class _Pairs:
    """The last steps and changes of the gradient of each problem, newest first."""

    def __init__(self, x: Tensor) -> None:
        self.s = x.new_zeros(MEMORY, *x.shape)
        self.y = x.new_zeros(MEMORY, *x.shape)
        self.rho = x.new_zeros(MEMORY, len(x))  # 1 / sᵀy; 0 where there is no pair yet

    def add(self, problems: Tensor, s: Tensor, y: Tensor) -> None:
        """Remember one pair [p, d] of each of these problems."""
        curvature = (s * y).sum(1)
        good = curvature > 1e-30
        problems, s, y, rho = problems[good], s[good], y[good], 1 / curvature[good]
        for memory, new in ((self.s, s), (self.y, y), (self.rho, rho)):
            memory[1:, problems] = memory[:-1, problems]
            memory[0, problems] = new

    def product(self, problems: Tensor, gradient: Tensor) -> Tensor:
        """The inverse Hessian of these problems times their gradients [p, d]."""
        s, y, rho = self.s[:, problems], self.y[:, problems], self.rho[:, problems, None]
        q, alphas = gradient, []
        for i in range(MEMORY):
            alphas.append(rho[i] * (s[i] * q).sum(1, keepdim=True))
            q = q - alphas[i] * y[i]
        scale = 1 / (rho[0] * y[0].square().sum(1, keepdim=True))
        q = q * torch.where(rho[0] > 0, scale, torch.ones_like(scale))
        for i in reversed(range(MEMORY)):
            beta = rho[i] * (y[i] * q).sum(1, keepdim=True)
            q = q + s[i] * (alphas[i] - beta)
        return q


# ---------------------------------------------------------------------------------------------- the metric


@metric(Value("recon_mse", "mse", "lower"), name="reconstruction", needs=("generator",))
@dataclass(frozen=True)
class Reconstruction:
    """Mean squared error per pixel after the best z for each training image was sought (Metz et al. 2017).

    The targets are the same for all methods and seeds. In the details "control_mse" is the same search for
    images that the generator itself made, whose true error is 0: where it is not small, the search and not
    the generator is the limit.
    """

    n: int = 64  # training images; Metz et al.: 1280
    starts: int = 3  # random starts for each
    steps: int = 200  # calls of the generator from each start
    n_control: int = 10  # images of the generator itself

    def __call__(self, model: Model, data: Data, reference: Tensor | None = None) -> Score:
        if model.latent is None:
            raise SampleError("reconstruction needs a generator; these are samples alone")
        generator = model.generator("reconstruction")
        own = model.samples(self.n_control)
        targets = (self.reference(data) if reference is None else reference).to(own)

        def error(images: Tensor) -> Score:
            return reconstruction_error(
                model.generate,
                images,
                model.latent or Draw(()),
                starts=self.starts,
                steps=self.steps,
                generator=generator,
            )

        score, control = error(targets), error(own)
        return Score(score.value, score.sem, score.n, {**score.details, "control_mse": control.value})

    def reference(self, data: Data) -> Tensor:
        """The targets: training examples in an order that is fixed for the dataset."""
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
        return data.floats(data.train[order[: self.n].to(data.train.device)])

    def protocol(self, data: Data) -> str:
        """What defines the number."""
        return (
            f"{min(self.n, len(data.train))} random training examples; z by L-BFGS (memory {MEMORY}, weak Wolfe "
            f"steps, z unconstrained), best of {self.starts} starts, {self.steps} generator calls each; mean "
            "squared error per number"
        )
