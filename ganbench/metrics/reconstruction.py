"""Reconstruction error: how near to a given image can the generator come? Metz et al. 2017, section 3.4."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from ..contracts import Data, Draw, Model, Score, Value, metric
from ..errors import SampleError
from ..optim import Adam
from .distances import check_samples
from .latent import draw_latents
from .statistics import standard_error
from .subset import random_subset

PICTURE_TARGETS = 10  # targets in the picture
MAX_SEARCHES = 512  # searches that run together
LBFGS_PAIRS = 10  # pairs that L-BFGS remembers
ADAM_RATE = 0.3  # Adam's learning rate at the beginning
MAX_SEARCH_SHARE = 0.5  # of a score that the search's own error may be
ROUNDING_SHARE = 1e-6  # of the targets' variance: an error that small is that of float32
Generate = Callable[[Tensor], Tensor]
Optimiser = Literal["lbfgs", "adam"]
Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # points, which problems -> values, gradients
Search = Callable[[Evaluate, Tensor, int], tuple[Tensor, Tensor]]


def reconstruction_error(
    generate: Generate,
    targets: Tensor,
    latent: Draw,
    *,
    starts: int = 3,
    steps: int = 200,
    optimiser: Optimiser = "lbfgs",
    generator: Generator | None = None,
) -> Score:
    """Least mean squared error per pixel between `targets` [n, *shape] and `generate(z)`, mean over targets ±
    its standard error. Metz et al. 2017, section 3.4.

    `generate` takes latents [B, *latent.shape] to [B, *shape], differentiably and each by itself. For every
    target, z is sought by L-BFGS (or Adam) from `starts` random draws of `latent`, with at most `steps` calls
    of the generator each, and the best end counts. z is free: it may leave the region where `latent` has its
    mass, also the range of uniform numbers. Details: "errors", "targets" and "reconstructions" of the first
    10; "all_errors" [n]; "latents" [n, *latent.shape], where the searches ended.

    Raises SampleError for targets that are empty or not finite, for a generator whose images have another
    shape or are not finite at every start, and where `starts`, `steps` or `optimiser` mean nothing.
    """
    if min(starts, steps) < 1 or optimiser not in SEARCHES:
        raise SampleError(
            f"starts = {starts}, steps = {steps}, optimiser = {optimiser!r}: expected at least 1, at least 1 "
            f"and one of {', '.join(SEARCHES)}"
        )
    targets = check_samples(targets, "targets", least=2)
    n = len(targets)
    first = draw_latents(latent, n * starts, targets, generator).view(n, starts, *latent.shape)
    with torch.no_grad():
        check_samples(generate(first[:1, 0]), "generate(z)", like=targets)
    per = max(1, MAX_SEARCHES // starts)
    parts = [
        _search(generate, t, z, steps, SEARCHES[optimiser])
        for t, z in zip(targets.split(per), first.split(per), strict=True)
    ]
    errors, latents = (torch.cat(part) for part in zip(*parts, strict=True))
    if not torch.isfinite(errors).all():
        raise SampleError("generate(z): NaN or infinity from every start; has the generator diverged?")
    with torch.no_grad():
        images = generate(latents[:PICTURE_TARGETS])
    details = {
        "targets": targets[:PICTURE_TARGETS],
        "reconstructions": images,
        "errors": errors[:PICTURE_TARGETS],
        "all_errors": errors,
        "latents": latents,
    }
    return Score(errors.mean().item(), standard_error(errors), n, details)


def _search(
    generate: Generate, targets: Tensor, first: Tensor, steps: int, search: Search
) -> tuple[Tensor, Tensor]:
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

    latents, errors = search(evaluate, first.reshape(n * starts, -1), steps)
    errors = errors.nan_to_num(nan=torch.inf).view(n, starts)
    best = errors.argmin(1) + torch.arange(n, device=errors.device) * starts
    return errors.min(1).values, latents[best].view(n, *first.shape[2:])


# ---------------------------------------------------------------------------------------------- Adam


def adam(evaluate: Evaluate, x: Tensor, calls: int) -> tuple[Tensor, Tensor]:
    """Minimise P functions at once by Adam (Kingma & Ba 2015, Algorithm 1), from `x` [P, d]: the best points seen
    [P, d] and their values [P].

    `evaluate` as in `lbfgs`, called `calls` times. The learning rate falls from 0.3 to 0 along half a cosine.
    """
    everyone = torch.arange(len(x), device=x.device)
    best, least = x.clone(), torch.full_like(x[:, 0], torch.inf)
    state = Adam(ADAM_RATE).init(x)
    for call in range(calls):
        value, gradient = evaluate(x, everyone)
        better = value < least  # not-a-number is not
        best, least = torch.where(better[:, None], x, best), torch.where(better, value, least)
        now = ADAM_RATE * (1 + math.cos(math.pi * call / calls)) / 2
        x, state = Adam(now).step(x, gradient, state)
    return best, least


# ---------------------------------------------------------------------------------------------- L-BFGS


def lbfgs(evaluate: Evaluate, x: Tensor, calls: int) -> tuple[Tensor, Tensor]:
    """Minimise P functions at once, each by its own L-BFGS, from `x` [P, d]: the points [P, d] and values [P].

    `evaluate(x, problems)` gives values [p] and gradients [p, d] at the points [p, d] of those problems [p]; it
    is called `calls` times at most. The first step has length 1; steps satisfy the weak Wolfe conditions, found
    by bracketing (Lewis & Overton 2013, algorithm 2.6), which also serves functions with kinks, such as a ReLU
    net's. Problems that ended stay in the batch, unmoved, until they are a tenth of it.
    """
    points, values = x.clone(), torch.empty_like(x[:, 0])
    problems = torch.arange(len(x), device=x.device)
    lines = _Lines.begin(x, *evaluate(x, problems))
    for _ in range(calls - 1):
        moves = lines.moves()
        if not moves.any():
            break
        if moves.sum() < 0.9 * len(moves):
            points[problems], values[problems] = lines.x, lines.value
            problems, lines, moves = problems[moves], lines.kept(moves), moves[moves]
        trial = lines.x + lines.step[:, None] * lines.direction
        lines.advance(trial, *evaluate(trial, problems), moves)
    points[problems], values[problems] = lines.x, lines.value
    return points, values


@dataclass
class _Lines:
    """Where P problems stand, and how far along its direction each looks."""

    x: Tensor  # [P, d], and so are the gradient and the direction
    value: Tensor  # [P], and so are the steps
    gradient: Tensor
    direction: Tensor
    step: Tensor  # to be tried
    low: Tensor  # the longest that was too short
    high: Tensor  # the shortest that was too long
    pairs: _Pairs

    @classmethod
    def begin(cls, x: Tensor, value: Tensor, gradient: Tensor) -> _Lines:
        low, high = torch.zeros_like(value), torch.full_like(value, torch.inf)
        return cls(x, value, gradient, -gradient, 1 / gradient.norm(dim=1), low, high, _Pairs.none(x))

    def kept(self, which: Tensor) -> _Lines:
        """These problems [P] (boolean) alone."""
        return _Lines(*(getattr(self, field.name)[which] for field in fields(self)))

    def moves(self) -> Tensor:
        """Where there is something left to descend and a step along the direction that may serve [P]."""
        descends = (self.gradient.abs().amax(1) > 1e-9) & (self.value > 1e-12) & torch.isfinite(self.value)
        return descends & (self.high - self.low > 1e-6 * self.low) & (self.high > 1e-9)

    def advance(self, trial: Tensor, value: Tensor, gradient: Tensor, moves: Tensor) -> None:
        """Take the trial steps that serve, of those that move; narrow the bracket of the others."""
        along = (self.gradient * self.direction).sum(1)
        # Not-a-number compares as false, so that such a step counts as too long.
        decreased = value <= self.value + 1e-4 * self.step * along
        accepted = moves & decreased & ((gradient * self.direction).sum(1) >= 0.9 * along)
        low, high = torch.where(decreased, self.step, self.low), torch.where(decreased, self.high, self.step)
        halved = torch.where(low == 0, self._parabola(value, along), (low + high) / 2)
        narrower = torch.where(high < torch.inf, halved, 4 * self.step)
        self.step = torch.where(accepted, 1.0, narrower)
        self.low, self.high = torch.where(accepted, 0.0, low), torch.where(accepted, torch.inf, high)
        taken = accepted[:, None]
        self.pairs.add(trial - self.x, gradient - self.gradient, accepted)
        self.x, self.gradient = torch.where(taken, trial, self.x), torch.where(taken, gradient, self.gradient)
        self.value = torch.where(accepted, value, self.value)
        self.direction = torch.where(taken, -self.pairs.product(self.gradient), self.direction)

    def _parabola(self, value: Tensor, along: Tensor) -> Tensor:
        """Steps [P] to the least point of the parabola through the value and slope `along` where each stands and the
        value at the step it tried, which was too long; between a tenth and a half of that (Nocedal & Wright
        2006, section 3.5)."""
        fraction = -along * self.step / (2 * (value - self.value - along * self.step))
        return self.step * fraction.nan_to_num(nan=0.5).clamp(0.1, 0.5)


@dataclass
class _Pairs:
    """The last m steps s and changes of the gradient y of each problem, oldest first; zero where there is none."""

    s: Tensor  # [P, m, d]
    y: Tensor  # [P, m, d]
    sy: Tensor  # products of steps with later changes [P, m, m], upper triangular; 1 on the diagonal for none
    scale: Tensor  # sᵀy / yᵀy of the newest pair [P]

    @classmethod
    def none(cls, x: Tensor) -> _Pairs:
        zeros = x.new_zeros(len(x), LBFGS_PAIRS, x.shape[1])
        ones = torch.eye(LBFGS_PAIRS, device=x.device, dtype=x.dtype).expand(len(x), -1, -1)
        return cls(zeros, zeros, ones, x.new_ones(len(x)))

    def __getitem__(self, which: Tensor) -> _Pairs:
        return _Pairs(self.s[which], self.y[which], self.sy[which], self.scale[which])

    def add(self, s: Tensor, y: Tensor, where: Tensor) -> None:
        """Remember one pair [P, d], [P, d] of the problems where [P] it is true; the oldest is forgotten."""
        curvature = (s * y).sum(1)
        where = where & (curvature > 1e-30)
        later = torch.cat([self.s[:, 1:], s[:, None]], 1)
        column = (later * y[:, None]).sum(2)[:, :, None]
        upper = F.pad(self.sy[:, 1:, 1:], (0, 0, 0, 1))
        wide = where[:, None, None]
        self.s = torch.where(wide, later, self.s)
        self.y = torch.where(wide, torch.cat([self.y[:, 1:], y[:, None]], 1), self.y)
        self.sy = torch.where(wide, torch.cat([upper, column], 2), self.sy)
        self.scale = torch.where(where, curvature / y.square().sum(1), self.scale)

    def product(self, gradient: Tensor) -> Tensor:
        """The approximate inverse Hessians times the gradients [P, d].

        The two-loop recursion (Nocedal & Wright 2006, algorithm 7.4) with each loop as a triangular system: the
        first has R α = Sᵀg, the second Rᵀ δ = D α − Yᵀr, where r = γ (g − Y α), R is the upper triangle of SᵀY
        and D its diagonal; the product is r + S δ.
        """
        scale = self.scale[:, None]
        alpha = torch.linalg.solve_triangular(self.sy, _dots(self.s, gradient), upper=True)
        r = scale * (gradient - (alpha.mT @ self.y)[:, 0])
        right = self.sy.diagonal(dim1=1, dim2=2)[:, :, None] * alpha - _dots(self.y, r)
        delta = torch.linalg.solve_triangular(self.sy.mT, right, upper=False)
        return r + (delta.mT @ self.s)[:, 0]


def _dots(rows: Tensor, x: Tensor) -> Tensor:
    """Products of rows [P, m, d] with x [P, d]: [P, m, 1]. PyTorch's batched matrix product takes four times as
    long on the CPU for such small ones."""
    return (rows * x[:, None]).sum(2, keepdim=True)


SEARCHES: dict[Optimiser, Search] = {"lbfgs": lbfgs, "adam": adam}

# ---------------------------------------------------------------------------------------------- the metric


def flat_patch_error(targets: Tensor) -> float:
    """Mean squared error per number of the best flat patches for images [n, C, H, W]: each has its image's mean
    colour, one number for each channel."""
    return targets.double().var((2, 3), correction=0).mean().item()


def failed_search(score: float, own: float, targets: Tensor) -> str | None:
    """What is wrong with a reconstruction error where the search for the generator's own images ended at the mean
    error `own`; None where nothing is.

    An image of the generator has error 0, so `own` is the error of the search alone, and above half the score it may
    be the larger part of it. Half is far from both cases, so that a few images suffice: the mean of 10 has a relative
    standard error of .1 to .6, and searches that work end below a seventh of the score (measured on convolutional
    generators of 8 × 8 digits, also with 15 calls in place of 200). Errors below a millionth of the variance of the
    targets [n, *shape] are rounding, whatever their ratio.
    """
    variance = (targets.double() - targets.double().mean(0)).square().mean().item()
    if own <= MAX_SEARCH_SHARE * score or own <= ROUNDING_SHARE * variance:
        return None
    return (
        f"The search did not converge: for images of the generator itself, whose error is 0, it ends at {own:.3g}, "
        f"more than half the score of {score:.3g}. Raise `steps` or `starts`."
    )


@metric(Value("recon_mse", "mse", "lower"), name="reconstruction", needs=("generator",), version=2)
@dataclass(frozen=True)
class Reconstruction:
    """Mean squared error per pixel after the best z for each training image was sought (Metz et al. 2017).

    The targets are the same for all methods and seeds. The control "own_samples" is the same search for images
    that the generator itself made, whose true error is 0. Where it is more than half the score, the search
    and not the generator is the limit: `invalid` says so, and the score is not to be ranked. "floor_flat" is, for
    images, the error of a flat patch of each target's mean colour: a generator that is no better has learned no image.

    Checked against least squares for a linear generator (1e-6, relative), SciPy's L-BFGS-B one image at a time
    (no worse by more than 5 %), images of the generator itself, which come back.
    """

    n: int = 64  # training images; Metz et al.: 1280
    starts: int = 3  # random starts for each
    steps: int = 200  # calls of the generator from each start
    optimiser: Optimiser = "lbfgs"  # that of Metz et al.; or adam, which needs more steps
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
                optimiser=self.optimiser,
                generator=generator,
            )

        score, control = error(targets), error(own)
        controls = {"own_samples": control.value}
        if targets.ndim == 4:
            controls["floor_flat"] = flat_patch_error(targets)
        invalid = failed_search(score.value, control.value, targets)
        return replace(score, controls=controls, invalid=invalid)

    def reference(self, data: Data) -> Tensor:
        """The targets: training examples in an order that is fixed for the dataset."""
        return data.floats(random_subset(data.train, self.n))

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        how = {
            "lbfgs": f"L-BFGS (memory {LBFGS_PAIRS}, first step of length 1, weak Wolfe steps)",
            "adam": f"Adam (learning rate {ADAM_RATE}, to 0 along half a cosine; the best z on the way)",
        }[self.optimiser]
        return (
            f"{min(self.n, len(data.train))} random training examples; z by {how}, unconstrained also where the "
            f"latent is uniform, best of {self.starts} starts drawn as the latent is, {self.steps} generator calls "
            f"each; mean squared error per number; invalid where that of {self.n_control} of the generator's own "
            f"images is above {MAX_SEARCH_SHARE:g} of it"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        search = {"lbfgs": {"memory": LBFGS_PAIRS}, "adam": {"rate": ADAM_RATE}}[self.optimiser]
        return {"train": min(self.n, len(data.train)), **search, "largest_part": MAX_SEARCH_SHARE}
