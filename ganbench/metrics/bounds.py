"""What a discriminator makes of a divergence, against the exact value by quadrature; the fit of a Gaussian.

Both need the density of the data, and that of the samples, which is known where the generator is an affine map
of normal latents. Integrals are sums over a regular grid in float64, which converge faster than any power of its
spacing for densities as smooth as these; data have one or two dimensions.
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

POINTS = {1: 8001, 2: 1001}  # of the grid along each axis, by the dimensions of the data
BLOCK = 100_000  # points given to a net at a time
FAR = 700.0  # nats; exp overflows float64 beyond 709
LARGEST = 1e100  # nats; more is infinite for all that it says, and no number to average
SHOWN = 400  # points of a curve that is kept for the plots
EVALUATED = ("kl", "reverse-kl", "jensen-shannon", "jeffrey", "pearson")  # divergences of a fitted Gaussian


@dataclass(frozen=True)
class Gaussian:
    """The density N(mean, factor factorᵀ) of a generator's samples."""

    mean: Tensor  # [d], float64
    factor: Tensor  # [d, k]

    @classmethod
    def of(cls, model: Model) -> Gaussian:
        """The density of the samples of a generator that is an affine map of normal latents.

        Raises SampleError where it is not, or where its samples fill less than all dimensions.
        """
        latent = model.latent
        if latent is None or latent.low is not None or len(latent.shape) != 1:
            raise SampleError(
                "the density of the samples is known for vectors of normal latents alone; "
                "give G normal latents and no hidden layer (for `fgan`: z normal, g_depth 0)"
            )
        k = latent.shape[0]
        probes = torch.cat([torch.zeros(1, k), torch.eye(k), torch.tensor([[3.0], [-2.0]]).expand(2, k)])
        with torch.no_grad():
            points = model.generate(probes).cpu().double().flatten(1)
        mean, factor = points[0], (points[1 : k + 1] - points[0]).T
        expected = mean + probes[k + 1 :].double() @ factor.T
        if not torch.allclose(points[k + 1 :], expected, rtol=1e-4, atol=1e-4 * float(factor.abs().max())):
            raise SampleError(
                "the generator is no affine map, so the density of its samples is not known; "
                "give G no hidden layer (for `fgan`: g_depth 0)"
            )
        found = cls(mean, factor)
        if float(found.covariance.det()) <= 1e-18:
            raise SampleError(f"the samples fill less than {len(mean)} dimension(s): they have no density")
        return found

    @property
    def covariance(self) -> Tensor:  # [d, d]
        return self.factor @ self.factor.T

    def log_density(self, x: Tensor) -> Tensor:
        """[n, d] -> [n], nats."""
        normal = torch.distributions.MultivariateNormal(self.mean, self.covariance, validate_args=False)
        return normal.log_prob(x)


@dataclass(frozen=True)
class Quadrature:
    """Two densities on a regular grid."""

    points: Tensor  # [n, *shape], float64
    log_p: Tensor  # [n], of the data
    log_q: Tensor  # [n], of the samples
    cell: float  # volume that belongs to a point

    @classmethod
    def of(cls, data: Data, q: Gaussian) -> Quadrature:
        """A grid that both densities lie in: twice the range of the test points, and eight standard deviations
        of the samples. Raises SampleError for more than two dimensions, and where the grid is too coarse."""
        d = len(q.mean)
        if data.log_density is None or d not in POINTS:
            raise SampleError(f"{data.name}: quadrature needs a density in one or two dimensions, got {d}")
        test = data.test.double().flatten(1)
        low, high, reach = test.amin(0), test.amax(0), 8 * q.covariance.diagonal().sqrt()
        margin = (high - low) / 2
        starts = torch.minimum(low - margin, q.mean - reach)
        ends = torch.maximum(high + margin, q.mean + reach)
        axes = [
            torch.linspace(float(a), float(b), POINTS[d], dtype=torch.float64)
            for a, b in zip(starts, ends, strict=True)
        ]
        flat = torch.cartesian_prod(*axes).reshape(-1, d)
        points = flat.reshape(-1, *data.shape)
        cell = float(torch.stack([axis[-1] - axis[0] for axis in axes]).prod()) / (POINTS[d] - 1) ** d
        found = cls(points, data.log_density(points), q.log_density(flat), cell)
        for name, log in (("data", found.log_p), ("samples", found.log_q)):
            mass = found.integral(log.exp())
            if abs(mass - 1) > 1e-3:
                raise SampleError(
                    f"{data.name}: the density of the {name} adds up to {mass:.4g} on a grid of "
                    f"{POINTS[d]} points along each axis; it is too narrow for quadrature"
                )
        return found

    def integral(self, values: Tensor) -> float:
        """Of a function given at the points [n]."""
        return float(values.sum()) * self.cell

    def divergence(self, f: Divergence) -> float:
        """D_f(data ‖ samples) = ∫ q f(p/q), nats."""
        u = (self.log_p - self.log_q).clamp(-FAR, FAR).exp()
        return self.integral(self.log_q.exp() * f.f(u))

    def bound(self, f: Divergence, v: Tensor) -> float:
        """∫ p g_f(v) − ∫ q f*(g_f(v)) of outputs v [n]."""
        return self.integral(self.log_p.exp() * f.activation(v) - self.log_q.exp() * f.composed(v))


def implied_probability(f: Divergence, v: Tensor) -> Tensor:
    """The p/(p + q) that outputs v stand for, elementwise: an optimal T is f'(u), so that u = f*'(T), here
    (f*∘g_f)'(v) / g_f'(v); under `gan` it is the logistic function of v."""
    rise = torch.func.grad(lambda v: f.composed(v).sum())(v)
    ratio = (rise / torch.func.grad(lambda v: f.activation(v).sum())(v)).clamp(min=0)
    # Far out both slopes may be 0 or both infinite; the ratio increases with v.
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

    The exact divergence of data and samples in the method's own f, the bound that the discriminator attains,
    the difference, never below zero, and the mean of |D - p/(p + q)| over ½(p + q), where D is the probability
    that the discriminator's output stands for. All by quadrature: nothing is estimated from samples. Needs
    data in one or two dimensions and a generator that is an affine map of normal latents. Details, in one
    dimension: "places", "density_data", "density_samples", "discriminator" and "optimal_discriminator", each [400].

    Checked against divergences of Gaussians in closed form (1e-7 nats), the optimal discriminator, at which
    the bound is tight (1e-9 nats).
    """

    def __call__(self, model: Model, data: Data) -> tuple[Score, Score, Score, Score]:
        net, f = _bound(model)
        on = Quadrature.of(data, Gaussian.of(model))
        v = _outputs(model, net, on.points)
        exact, bound = on.divergence(f), on.bound(f, v)
        optimal, found = torch.sigmoid(on.log_p - on.log_q), implied_probability(f, v)
        error = on.integral((on.log_p.exp() + on.log_q.exp()) / 2 * (found - optimal).abs())
        details = _curves(on, data, found, optimal) if math.prod(data.shape) == 1 else {}
        return Score(exact), Score(bound), Score(exact - bound), Score(error, details=details)

    def protocol(self, data: Data) -> str:
        """What defines the numbers."""
        d = math.prod(data.shape)
        return (
            f"quadrature in float64 over {POINTS.get(d, 0)} points along each axis, from the exact density of the "
            "data and that of the affine generator; the discriminator without noise or other views of tricks"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from these data and from the constants of this file."""
        return {"points": POINTS.get(math.prod(data.shape), 0)}


def _bound(model: Model) -> tuple[str, Divergence]:
    if model.game is None or model.game.bound is None:
        raise SampleError("the game has no net whose output bounds a divergence (`Game.bound`)")
    return model.game.bound


def _outputs(model: Model, net: str, points: Tensor) -> Tensor:
    """Of the net at points [n, *shape], [n] in float64."""
    # The state is stored on the CPU; the nets are where the samples are.
    place = model.samples(1).device
    dtype = next((t.dtype for t in model.state.values() if t.is_floating_point()), points.dtype)
    with torch.no_grad():
        parts = [getattr(model.nets, net)(part.to(place, dtype)) for part in points.split(BLOCK)]
    return torch.cat(parts).reshape(-1).cpu().double()


def _curves(on: Quadrature, data: Data, found: Tensor, optimal: Tensor) -> dict[str, Tensor]:
    """The curves over the line, from the least to the greatest test point."""
    x = on.points.reshape(-1)
    inside = ((x >= float(data.test.min())) & (x <= float(data.test.max()))).nonzero().reshape(-1)
    chosen = inside[torch.linspace(0, len(inside) - 1, SHOWN).long()]
    curves = {
        "places": x,
        "density_data": on.log_p.exp(),
        "density_samples": on.log_q.exp(),
        "discriminator": found,
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
    """The Gaussian that a generator on the line has become, and how far it is from the best one (Nowozin et al.
    2016, section 4.1, univariate example).

    μ and σ of its samples; their differences from the μ and σ that minimise the method's own divergence exactly;
    and the divergences of the data from this Gaussian, the row of a matrix of training against evaluation.
    All by quadrature; the χ² of a Gaussian that is much narrower than the data is infinite, and counts as 1e100. Needs
    data of one dimension and a generator that is an affine map of normal latents.

    Checked against the optima that f-GAN prints (5e-4), KL of two Gaussians in closed form (1e-6 nats).
    """

    def __call__(self, model: Model, data: Data) -> tuple[Score, ...]:
        _, f = _bound(model)
        q = Gaussian.of(model)
        on = Quadrature.of(data, q)
        mu, sigma = float(q.mean), float(q.covariance.sqrt())
        best_mu, best_sigma = best_gaussian(data, f)
        fit = (Score(mu), Score(mu - best_mu), Score(sigma), Score(sigma - best_sigma))
        row = [on.divergence(find_divergence(name)) for name in EVALUATED]
        # Where the Gaussian has no mass and the data have, floating point may say infinity or 0 times infinity.
        return (*fit, *(Score(value if value < LARGEST else LARGEST) for value in row))

    def protocol(self, data: Data) -> str:
        """What defines the numbers."""
        return (
            f"quadrature in float64 over {POINTS[1]} points; the best Gaussian of a divergence is the minimum that "
            f"descent reaches from the mean and standard deviation of the data; above {LARGEST:g} counts as {LARGEST:g}"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from these data and from the constants of this file."""
        return {"points": POINTS[1], "largest": LARGEST}


def best_gaussian(data: Data, f: Divergence) -> tuple[float, float]:
    """μ and σ of the N(μ, σ²) with the least D_f(data ‖ N), by L-BFGS from the moments of the data.

    Raises SampleError for data of more than one dimension.
    """
    if data.log_density is None or math.prod(data.shape) != 1:
        raise SampleError(
            f"{data.name}: only data of one dimension with a known density have a best Gaussian"
        )
    start = Gaussian(data.test.double().mean().reshape(1), data.test.double().std().reshape(1, 1))
    on = Quadrature.of(data, start)
    x, p = on.points.reshape(-1), on.log_p
    place = torch.stack([start.mean[0], start.factor[0, 0].log()]).requires_grad_()
    descent = torch.optim.LBFGS(
        [place], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        descent.zero_grad()
        q = -((x - place[0]) / place[1].exp()).square() / 2 - place[1] - math.log(2 * math.pi) / 2
        value = (q.exp() * f.f((p - q).clamp(-FAR, FAR).exp())).sum() * on.cell
        value.backward()
        return value

    descent.step(loss)
    mu, log_sigma = place.detach().tolist()
    return mu, math.exp(log_sigma)
