"""The divergence that a discriminator attains, against the exact value by quadrature; the fit of a Gaussian.

Both need the density of the data and that of the samples, which is known if the generator is an affine map of normal
latents. Integrals are sums over a regular grid in float64. For smooth densities these converge faster than any power
of the spacing. Data have one or two dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..contracts import Data, Divergence, Model, Score, Value, metric
from ..errors import SampleError
from ..registry import find_divergence

GRID_POINTS = {1: 8001, 2: 1001}  # of the grid along each axis, by the dimensions of the data
BLOCK = 100_000  # points given to a net at a time
MAX_LOG_RATIO = 700.0  # nats, of a density ratio; exp overflows float64 beyond 709
MAX_DIVERGENCE = (
    1e100  # nats; larger and infinite divergences are given as this number, which can be averaged
)
CURVE_POINTS = 400  # points of a curve that is stored for the plots
FIT_DIVERGENCES = (
    "kl",
    "reverse-kl",
    "jensen-shannon",
    "jeffrey",
    "pearson",
)  # divergences of a fitted Gaussian


@dataclass(frozen=True)
class Gaussian:
    """The density N(mean, factor factorᵀ) of a generator's samples."""

    mean: Tensor  # [d], float64
    factor: Tensor  # [d, k]

    @classmethod
    def of(cls, model: Model) -> Gaussian:
        """The density of the samples of a generator that is an affine map of normal latents.

        Raises SampleError if it is not, or if its samples do not fill all dimensions.
        """
        latent = model.latent
        if latent is None or latent.low is not None or len(latent.shape) != 1:
            raise SampleError(
                "the density of the samples is known only for vectors of normal latents; "
                "give G normal latents and no hidden layer (for `fgan`: z normal, g_depth 0)"
            )
        k = latent.shape[0]
        # Images of 0 and the unit vectors give the map; two more points test that it is affine.
        probes = torch.cat([torch.zeros(1, k), torch.eye(k), torch.tensor([[3.0], [-2.0]]).expand(2, k)])
        with torch.no_grad():
            points = model.generate(probes).cpu().double().flatten(1)
        mean, factor = points[0], (points[1 : k + 1] - points[0]).T
        expected = mean + probes[k + 1 :].double() @ factor.T
        if not torch.allclose(points[k + 1 :], expected, rtol=1e-4, atol=1e-4 * float(factor.abs().max())):
            raise SampleError(
                "the generator is not an affine map, so the density of its samples is not known; "
                "give G no hidden layer (for `fgan`: g_depth 0)"
            )
        gaussian = cls(mean, factor)
        if float(gaussian.covariance.det()) <= 1e-18:
            raise SampleError(f"the samples fill less than {len(mean)} dimension(s): they have no density")
        return gaussian

    @property
    def covariance(self) -> Tensor:  # [d, d]
        return self.factor @ self.factor.T

    def log_density(self, x: Tensor) -> Tensor:
        """[n, d] -> [n], nats."""
        normal = torch.distributions.MultivariateNormal(self.mean, self.covariance, validate_args=False)
        return normal.log_prob(x)


@dataclass(frozen=True)
class Quadrature:
    """The densities of data and samples on a regular grid."""

    points: Tensor  # [n, *shape], float64
    log_p: Tensor  # [n], of the data
    log_q: Tensor  # [n], of the samples
    cell: float  # volume that belongs to a point

    @classmethod
    def of(cls, data: Data, q: Gaussian) -> Quadrature:
        """A grid that covers both densities: twice the range of the test points, and eight standard deviations of the
        samples. Raises SampleError for more than two dimensions, and if the grid is too coarse."""
        d = len(q.mean)
        if data.log_density is None or d not in GRID_POINTS:
            raise SampleError(f"{data.name}: quadrature needs a density in one or two dimensions, got {d}")
        test = data.test.double().flatten(1)
        low, high, reach = test.amin(0), test.amax(0), 8 * q.covariance.diagonal().sqrt()
        margin = (high - low) / 2
        starts = torch.minimum(low - margin, q.mean - reach)
        ends = torch.maximum(high + margin, q.mean + reach)
        axes = [
            torch.linspace(float(a), float(b), GRID_POINTS[d], dtype=torch.float64)
            for a, b in zip(starts, ends, strict=True)
        ]
        flat = torch.cartesian_prod(*axes).reshape(-1, d)
        points = flat.reshape(-1, *data.shape)
        cell = float(torch.stack([axis[-1] - axis[0] for axis in axes]).prod()) / (GRID_POINTS[d] - 1) ** d
        grid = cls(points, data.log_density(points), q.log_density(flat), cell)
        for name, log in (("data", grid.log_p), ("samples", grid.log_q)):
            mass = grid.integral(log.exp())
            if abs(mass - 1) > 1e-3:
                raise SampleError(
                    f"{data.name}: the density of the {name} adds up to {mass:.4g} on a grid of "
                    f"{GRID_POINTS[d]} points along each axis; it is too narrow for quadrature"
                )
        return grid

    def integral(self, values: Tensor) -> float:
        """The integral of a function with these values [n] at the points."""
        return float(values.sum()) * self.cell

    def divergence(self, f: Divergence) -> float:
        """D_f(data ‖ samples) = ∫ q f(p/q), nats."""
        u = (self.log_p - self.log_q).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
        return self.integral(self.log_q.exp() * f.f(u))

    def bound(self, f: Divergence, v: Tensor) -> float:
        """∫ p g_f(v) − ∫ q f*(g_f(v)) of outputs v [n]."""
        return self.integral(self.log_p.exp() * f.activation(v) - self.log_q.exp() * f.composed(v))


def implied_probability(f: Divergence, v: Tensor) -> Tensor:
    """The probability p/(p + q) that outputs `v` of the net imply, elementwise: an optimal T is f'(u), so that
    u = f*'(T) = (f*∘g_f)'(v) / g_f'(v). Under `gan` it is the logistic function of v."""
    slope = torch.func.grad(lambda v: f.composed(v).sum())(v)
    ratio = (slope / torch.func.grad(lambda v: f.activation(v).sum())(v)).clamp(min=0)
    # At large |v| both slopes may be 0, or both infinite; the ratio increases with v.
    ratio = torch.where(ratio.isnan(), torch.where(v > 0, torch.inf, 0.0), ratio)
    return 1 / (1 + 1 / ratio)


@metric(
    Value("divergence", "nats", "neither"),
    Value("bound", "nats", "neither"),
    Value("bound_gap", "nats", "lower"),
    Value("discriminator_error", "probability", "lower"),
    name="variational_bound",
    needs=("log_density", "generator", "bound"),
)
@dataclass(frozen=True)
class VariationalBound:
    """A trained discriminator against the optimal one (Goodfellow et al. 2014, proposition 1; f-GAN, eq. 4).

    The exact divergence of data and samples for the method's own f; the bound that the discriminator attains; their
    difference, which is never negative; and the mean of |D - p/(p + q)| over ½(p + q), where D is the probability that
    the discriminator's output implies. All by quadrature: nothing is estimated from samples. Needs data in one or two
    dimensions and a generator that is an affine map of normal latents. Details, in one dimension: "places",
    "density_data", "density_samples", "discriminator" and "optimal_discriminator", each [400].

    Checked against divergences of Gaussians in closed form (1e-7 nats), the optimal discriminator, at which
    the bound is tight (1e-9 nats).
    """

    def __call__(self, model: Model, data: Data) -> tuple[Score, Score, Score, Score]:
        net, f = _game_bound(model)
        grid = Quadrature.of(data, Gaussian.of(model))
        v = _outputs(model, net, grid.points)
        exact, bound = grid.divergence(f), grid.bound(f, v)
        optimal, learned = torch.sigmoid(grid.log_p - grid.log_q), implied_probability(f, v)
        error = grid.integral((grid.log_p.exp() + grid.log_q.exp()) / 2 * (learned - optimal).abs())
        details = _curves(grid, data, learned, optimal) if math.prod(data.shape) == 1 else {}
        return Score(exact), Score(bound), Score(exact - bound), Score(error, details=details)

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        d = math.prod(data.shape)
        return (
            f"quadrature in float64 over {GRID_POINTS.get(d, 0)} points along each axis, from the exact density of the "
            "data and that of the affine generator; the discriminator without noise or other views of tricks"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {"points": GRID_POINTS.get(math.prod(data.shape), 0)}


def _game_bound(model: Model) -> tuple[str, Divergence]:
    if model.game is None or model.game.bound is None:
        raise SampleError("the game has no net whose output bounds a divergence (`Game.bound`)")
    return model.game.bound


def _outputs(model: Model, net: str, points: Tensor) -> Tensor:
    """Outputs [n] of the net at `points` [n, *shape], in float64."""
    # The state is stored on the CPU; the nets are where the samples are.
    place = model.samples(1).device
    dtype = next((t.dtype for t in model.state.values() if t.is_floating_point()), points.dtype)
    with torch.no_grad():
        parts = [getattr(model.nets, net)(part.to(place, dtype)) for part in points.split(BLOCK)]
    return torch.cat(parts).reshape(-1).cpu().double()


def _curves(grid: Quadrature, data: Data, learned: Tensor, optimal: Tensor) -> dict[str, Tensor]:
    """Densities and discriminators from the least to the greatest test point, for the plot."""
    x = grid.points.reshape(-1)
    inside = ((x >= float(data.test.min())) & (x <= float(data.test.max()))).nonzero().reshape(-1)
    chosen = inside[torch.linspace(0, len(inside) - 1, CURVE_POINTS).long()]
    curves = {
        "places": x,
        "density_data": grid.log_p.exp(),
        "density_samples": grid.log_q.exp(),
        "discriminator": learned,
        "optimal_discriminator": optimal,
    }
    return {name: curve[chosen].float() for name, curve in curves.items()}


@metric(
    Value("mu", "x", "neither"),
    Value("mu_error", "x", "neither"),
    Value("sigma", "x", "neither"),
    Value("sigma_error", "x", "neither"),
    Value("fit_kl", "nats", "lower"),
    Value("fit_reverse_kl", "nats", "lower"),
    Value("fit_jensen_shannon", "nats", "lower"),
    Value("fit_jeffrey", "nats", "lower"),
    Value("fit_pearson", "nats", "lower"),
    name="gaussian_fit",
    needs=("log_density", "generator", "bound"),
)
@dataclass(frozen=True)
class GaussianFit:
    """The Gaussian that a generator of one-dimensional data has learned, and its distance from the best one (Nowozin et
    al. 2016, section 4.1, univariate example).

    μ and σ of its samples; their differences from the μ and σ that minimise the method's own divergence; and the
    divergences of the data from this Gaussian, one row of the paper's matrix of training against evaluation. All by
    quadrature. The χ² of a Gaussian that is much narrower than the data is infinite, and counts as 1e100. Needs data of
    one dimension and a generator that is an affine map of normal latents.

    Checked against the optima that f-GAN prints (5e-4), KL of two Gaussians in closed form (1e-6 nats).
    """

    def __call__(self, model: Model, data: Data) -> tuple[Score, ...]:
        _, f = _game_bound(model)
        q = Gaussian.of(model)
        grid = Quadrature.of(data, q)
        mu, sigma = float(q.mean), float(q.covariance.sqrt())
        best_mu, best_sigma = best_gaussian(data, f)
        fit = (Score(mu), Score(mu - best_mu), Score(sigma), Score(sigma - best_sigma))
        row = [grid.divergence(find_divergence(name)) for name in FIT_DIVERGENCES]
        # Where only the data have mass, floating point may give infinity, or NaN from 0 times infinity.
        return (*fit, *(Score(value if value < MAX_DIVERGENCE else MAX_DIVERGENCE) for value in row))

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"quadrature in float64 over {GRID_POINTS[1]} points; the best Gaussian of a divergence is the minimum "
            "that descent reaches from the mean and standard deviation of the data; divergences above "
            f"{MAX_DIVERGENCE:g} count as {MAX_DIVERGENCE:g}"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {"points": GRID_POINTS[1], "largest": MAX_DIVERGENCE}


def best_gaussian(data: Data, f: Divergence) -> tuple[float, float]:
    """μ and σ of the N(μ, σ²) with the least D_f(data ‖ N), by L-BFGS from the moments of the data.

    Raises SampleError for data of more than one dimension.
    """
    if data.log_density is None or math.prod(data.shape) != 1:
        raise SampleError(f"{data.name}: the best Gaussian needs data of one dimension with a known density")
    start = Gaussian(data.test.double().mean().reshape(1), data.test.double().std().reshape(1, 1))
    grid = Quadrature.of(data, start)
    x, p = grid.points.reshape(-1), grid.log_p
    place = torch.stack([start.mean[0], start.factor[0, 0].log()]).requires_grad_()
    descent = torch.optim.LBFGS(
        [place], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        descent.zero_grad()
        q = -((x - place[0]) / place[1].exp()).square() / 2 - place[1] - math.log(2 * math.pi) / 2
        value = (q.exp() * f.f((p - q).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp())).sum() * grid.cell
        value.backward()
        return value

    descent.step(loss)
    mu, log_sigma = place.detach().tolist()
    return mu, math.exp(log_sigma)
