"""f-divergences and their variational bounds (Nowozin et al. 2016, section 2; tables 1, 2, 5 and 6).

For a convex f with f(1) = 0 and u = p/q,

    D_f(P‖Q) = E_Q[f(u)] ≥ E_P[T] − E_Q[f*(T)],    f*(t) = sup_u (t u − f(u)),

with equality at T* = f'(u). A net puts out v of any sign; the output activation g_f, which increases, takes it
to T = g_f(v) in the domain of f*. Losses use f*(g_f(v)) as one expression, `composed`, that neither overflows
nor cancels. The formulas were checked against numerical suprema; several printed tables have errors in them.
All functions are elementwise, in any floating-point type, and can be vectorised and differentiated twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .contracts import divergence
from .errors import PluginError

FAR = 30.0  # log softplus(-v) is -v to within 1e-13 beyond


class Divergence:
    """What a divergence is made of; a new one gives `f`, `conjugate` and `activation`, and has the rest.

    f: convex on u > 0 with f(1) = `minimum`, nats
    conjugate: f*(t), convex on its domain
    activation: g_f(v), increasing, from all of R into the domain of f*
    """

    minimum: ClassVar[float] = 0.0  # D_f(P‖P) = f(1)

    def f(self, u: Tensor) -> Tensor:
        """f(u) for density ratios u > 0."""
        raise NotImplementedError(f"{type(self).__name__} must define f(u)")

    def conjugate(self, t: Tensor) -> Tensor:
        """f*(t) = sup over u > 0 of t u − f(u)."""
        raise NotImplementedError(f"{type(self).__name__} must define conjugate(t)")

    def activation(self, v: Tensor) -> Tensor:
        """g_f(v): the output v of a net as a T in the domain of f*."""
        raise NotImplementedError(f"{type(self).__name__} must define activation(v)")

    def composed(self, v: Tensor) -> Tensor:
        """f*(g_f(v)); override it where the two one after the other overflow or cancel."""
        return self.conjugate(self.activation(v))

    def slope(self, u: Tensor) -> Tensor:
        """T* = f'(u), where the bound is tight; by automatic differentiation unless given."""
        return torch.func.grad(lambda u: self.f(u).sum())(u)


@divergence("kl")
@dataclass(frozen=True)
class KL(Divergence):
    """Kullback–Leibler divergence KL(P‖Q) = ∫ p log(p/q); covers the modes of P.

    f = u log u, T* = 1 + log u, f* = exp(t − 1), g_f = v.
    """

    def f(self, u: Tensor) -> Tensor:
        return torch.xlogy(u, u)

    def slope(self, u: Tensor) -> Tensor:
        return 1 + torch.log(u)

    def conjugate(self, t: Tensor) -> Tensor:
        return torch.exp(t - 1)

    def activation(self, v: Tensor) -> Tensor:
        return v


@divergence("reverse-kl")
@dataclass(frozen=True)
class ReverseKL(Divergence):
    """Reverse Kullback–Leibler divergence KL(Q‖P) = ∫ q log(q/p); seeks a mode of P.

    f = −log u, T* = −1/u, f* = −1 − log(−t) for t < 0, g_f = −exp(−v), f*(g_f(v)) = v − 1.
    """

    def f(self, u: Tensor) -> Tensor:
        return -torch.log(u)

    def slope(self, u: Tensor) -> Tensor:
        return -1 / u

    def conjugate(self, t: Tensor) -> Tensor:
        return -1 - torch.log(-t)

    def activation(self, v: Tensor) -> Tensor:
        return -torch.exp(-v)

    def composed(self, v: Tensor) -> Tensor:
        return v - 1


@divergence("pearson")
@dataclass(frozen=True)
class Pearson(Divergence):
    """Pearson's χ², ∫ (p − q)²/q.

    f = (u − 1)², T* = 2(u − 1), f* = t²/4 + t, g_f = v. The supremum over u ≥ 0 alone would be −1 for t < −2,
    which no T* reaches; the parabola, as the paper has it, pushes such outputs back.
    """

    def f(self, u: Tensor) -> Tensor:
        return (u - 1).square()

    def slope(self, u: Tensor) -> Tensor:
        return 2 * (u - 1)

    def conjugate(self, t: Tensor) -> Tensor:
        return t.square() / 4 + t

    def activation(self, v: Tensor) -> Tensor:
        return v


@divergence("neyman")
@dataclass(frozen=True)
class Neyman(Divergence):
    """Neyman's χ², ∫ (p − q)²/p.

    f = (1 − u)²/u, T* = 1 − 1/u², f* = 2 − 2√(1 − t) for t < 1, g_f = 1 − exp(−v),
    f*(g_f(v)) = 2 − 2 exp(−v/2).
    """

    def f(self, u: Tensor) -> Tensor:
        return (1 - u).square() / u

    def slope(self, u: Tensor) -> Tensor:
        return 1 - u**-2

    def conjugate(self, t: Tensor) -> Tensor:
        return 2 - 2 * torch.sqrt(1 - t)

    def activation(self, v: Tensor) -> Tensor:
        return -torch.expm1(-v)

    def composed(self, v: Tensor) -> Tensor:
        return -2 * torch.expm1(-v / 2)


@divergence("squared-hellinger")
@dataclass(frozen=True)
class SquaredHellinger(Divergence):
    """Squared Hellinger distance ∫ (√p − √q)².

    f = (√u − 1)², T* = 1 − 1/√u, f* = t/(1 − t) for t < 1, g_f = 1 − exp(−v), f*(g_f(v)) = exp(v) − 1.
    """

    def f(self, u: Tensor) -> Tensor:
        return (torch.sqrt(u) - 1).square()

    def slope(self, u: Tensor) -> Tensor:
        return 1 - torch.rsqrt(u)

    def conjugate(self, t: Tensor) -> Tensor:
        return t / (1 - t)

    def activation(self, v: Tensor) -> Tensor:
        return -torch.expm1(-v)

    def composed(self, v: Tensor) -> Tensor:
        return torch.expm1(v)


@divergence("jeffrey")
@dataclass(frozen=True)
class Jeffrey(Divergence):
    """Jeffrey's divergence KL(P‖Q) + KL(Q‖P) = ∫ (p − q) log(p/q).

    f = (u − 1) log u, T* = 1 + log u − 1/u, g_f = v, and f* = ω + 1/ω + t − 2 with ω = W(exp(1 − t)), Lambert's
    function, whose argument overflows. With y = log ω, which solves y + exp(y) = 1 − t, the same is
    f* = exp(−y) − 1 − y.
    """

    def f(self, u: Tensor) -> Tensor:
        return (u - 1) * torch.log(u)

    def slope(self, u: Tensor) -> Tensor:
        return 1 + torch.log(u) - 1 / u

    def conjugate(self, t: Tensor) -> Tensor:
        y = log_omega(1 - t)
        return torch.expm1(-y) - y

    def activation(self, v: Tensor) -> Tensor:
        return v


@divergence("jensen-shannon")
@dataclass(frozen=True)
class JensenShannon(Divergence):
    """Twice the Jensen–Shannon divergence: KL(P‖M) + KL(Q‖M) with M = (P + Q)/2; at most 2 log 2.

    f = u log u − (u + 1) log((1 + u)/2), T* = log(2u/(1 + u)), f* = −log(2 − exp t) for t < log 2,
    g_f = log 2 − softplus(−v), f*(g_f(v)) = softplus(v) − log 2.
    """

    def f(self, u: Tensor) -> Tensor:
        return torch.xlogy(u, u) - (u + 1) * torch.log((1 + u) / 2)

    def slope(self, u: Tensor) -> Tensor:
        return torch.log(2 * u / (1 + u))

    def conjugate(self, t: Tensor) -> Tensor:
        return -torch.log(2 - torch.exp(t))

    def activation(self, v: Tensor) -> Tensor:
        return math.log(2) - softplus(-v)

    def composed(self, v: Tensor) -> Tensor:
        return softplus(v) - math.log(2)


@divergence
@dataclass(frozen=True)
class GAN(Divergence):
    """Goodfellow's value function: twice the Jensen–Shannon divergence, minus log 4.

    f = u log u − (u + 1) log(u + 1), which is −log 4 and not 0 at u = 1 as in the paper; T* = log(u/(1 + u)),
    f* = −log(1 − exp t) for t < 0, g_f = −softplus(−v), f*(g_f(v)) = softplus(v): v is the logit of D.
    """

    minimum = -math.log(4)

    def f(self, u: Tensor) -> Tensor:
        return torch.xlogy(u, u) - (u + 1) * torch.log1p(u)

    def slope(self, u: Tensor) -> Tensor:
        return torch.log(u / (1 + u))

    def conjugate(self, t: Tensor) -> Tensor:
        return -torch.log(-torch.expm1(t))

    def activation(self, v: Tensor) -> Tensor:
        return -softplus(-v)

    def composed(self, v: Tensor) -> Tensor:
        return softplus(v)


@divergence("js-weighted")
@dataclass(frozen=True)
class WeightedJensenShannon(Divergence):
    """Weighted Jensen–Shannon divergence: π KL(P‖M) + (1 − π) KL(Q‖M) with M = πP + (1 − π)Q.

    f = πu log u − (1 − π + πu) log(1 − π + πu), T* = π log(u/(1 − π + πu)),
    f* = (1 − π) log((1 − π)/(1 − π exp(t/π))) for t < −π log π, g_f = −π log π − softplus(−v).
    """

    pi: float = 0.5  # weight of P, between 0 and 1

    def __post_init__(self) -> None:
        if not 0 < self.pi < 1:
            raise PluginError(f"js-weighted: pi must lie between 0 and 1, got {self.pi}")

    def f(self, u: Tensor) -> Tensor:
        mixed = 1 - self.pi + self.pi * u
        return self.pi * torch.xlogy(u, u) - mixed * torch.log(mixed)

    def slope(self, u: Tensor) -> Tensor:
        return self.pi * torch.log(u / (1 - self.pi + self.pi * u))

    def conjugate(self, t: Tensor) -> Tensor:
        rest = 1 - self.pi
        return rest * (math.log(rest) - torch.log(-torch.expm1(t / self.pi + math.log(self.pi))))

    def activation(self, v: Tensor) -> Tensor:
        return -self.pi * math.log(self.pi) - softplus(-v)

    def composed(self, v: Tensor) -> Tensor:
        near = torch.log(-torch.expm1(-softplus(-v.clamp(max=FAR)) / self.pi))
        far = -v - math.log(self.pi)
        return (1 - self.pi) * (math.log1p(-self.pi) - torch.where(v > FAR, far, near))


@divergence("alpha")
@dataclass(frozen=True)
class Alpha(Divergence):
    """α-divergence (∫ p^α q^(1−α) − 1)/(α(α − 1)): KL(P‖Q) as α → 1, KL(Q‖P) as α → 0.

    f = (u^α − 1 − α(u − 1))/(α(α − 1)), T* = (u^(α−1) − 1)/(α − 1),
    f* = ((1 + t(α − 1))₊^(α/(α−1)) − 1)/α, for t < 1/(1 − α) where α < 1;
    g_f = v where α > 1, else 1/(1 − α) − softplus(−v).
    """

    alpha: float = 2.0  # neither 0 nor 1; 2 is half of Pearson's χ², 1/2 twice the squared Hellinger distance

    def __post_init__(self) -> None:
        if self.alpha in (0, 1):
            limit = "reverse-kl" if self.alpha == 0 else "kl"
            raise PluginError(
                f"alpha: alpha must be neither 0 nor 1, got {self.alpha}; use {limit!r}, its limit"
            )

    def f(self, u: Tensor) -> Tensor:
        a = self.alpha
        return (u**a - 1 - a * (u - 1)) / (a * (a - 1))

    def slope(self, u: Tensor) -> Tensor:
        return (u ** (self.alpha - 1) - 1) / (self.alpha - 1)

    def conjugate(self, t: Tensor) -> Tensor:
        a = self.alpha
        return ((1 + t * (a - 1)).clamp(min=0) ** (a / (a - 1)) - 1) / a

    def activation(self, v: Tensor) -> Tensor:
        return v if self.alpha > 1 else 1 / (1 - self.alpha) - softplus(-v)

    def composed(self, v: Tensor) -> Tensor:
        a = self.alpha
        if a > 1:
            return self.conjugate(v)
        near = torch.log(softplus(-v.clamp(max=FAR)))
        log_base = math.log(1 - a) + torch.where(v > FAR, -v, near)  # of 1 + g_f(v)(α − 1)
        return torch.expm1(a / (a - 1) * log_base) / a


def log_omega(z: Tensor) -> Tensor:
    """The y that solves y + exp(y) = z: the logarithm of the Wright omega function, log W(exp(z)).

    Newton's method on a convex increasing function, from a start at which nothing overflows. The last steps
    are recorded: from a converged start, n of them make derivatives up to the order 2^n − 1 exact.
    """
    y = torch.where(z > 1, torch.log(z.clamp(min=1)), z).detach()
    fixed = z.detach()
    for _ in range(6):
        y = _newton(y, fixed)
    for _ in range(2):
        y = _newton(y, z)
    return y


def _newton(y: Tensor, z: Tensor) -> Tensor:
    return y - (y + torch.exp(y) - z) / (1 + torch.exp(y))
