"""f-divergences: every formula of the table on its own, and that wrong ones are found out."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.special import wrightomega
from scipy.stats import norm
from shipped_divergences import (
    GAN,
    KL,
    Alpha,
    Jeffrey,
    JensenShannon,
    Neyman,
    Pearson,
    ReverseKL,
    SquaredHellinger,
    WeightedJensenShannon,
    log_omega,
)

from ganbench import Divergence, PluginError, find_divergence, registry
from ganbench.conformance.divergences import RULES, examine

ALL = [
    *(KL(), ReverseKL(), Pearson(), Neyman(), SquaredHellinger(), Jeffrey(), JensenShannon(), GAN()),
    *(WeightedJensenShannon(0.5), WeightedJensenShannon(0.2), WeightedJensenShannon(0.9)),
    *(Alpha(2.0), Alpha(0.5), Alpha(-1.0), Alpha(3.0)),
]
every = pytest.mark.parametrize("d", ALL, ids=str)

P, Q = norm(0, 1), norm(0.7, 1.3)


def kl(p, q):
    """KL(N(a, s²) ‖ N(b, t²)) in closed form."""
    return math.log(q.std() / p.std()) + (p.var() + (p.mean() - q.mean()) ** 2) / (2 * q.var()) - 0.5


def js(weight):
    def mixture(x):
        return weight * P.pdf(x) + (1 - weight) * Q.pdf(x)

    def integrand(x):
        p, q, m = P.pdf(x), Q.pdf(x), mixture(x)
        return weight * p * np.log(p / m) + (1 - weight) * q * np.log(q / m)

    return quad(integrand, -12, 12)[0]


def power(a, b):
    """∫ p^a q^b for a + b = 1, in closed form: a Gaussian integral."""
    s = a / P.var() + b / Q.var()
    shift = (b * Q.mean() / Q.var()) ** 2 / s - b * Q.mean() ** 2 / Q.var()
    return (
        math.exp(shift / 2) * math.sqrt(2 * math.pi / s) / (2 * math.pi) ** 0.5 / P.std() ** a / Q.std() ** b
    )


EXACT = {  # D_f(P‖Q) from definitions that know nothing of f
    "KL()": lambda: kl(P, Q),
    "ReverseKL()": lambda: kl(Q, P),
    "Pearson()": lambda: power(2, -1) - 1,
    "Neyman()": lambda: power(-1, 2) - 1,
    "SquaredHellinger()": lambda: 2 - 2 * power(0.5, 0.5),
    "Jeffrey()": lambda: kl(P, Q) + kl(Q, P),
    "JensenShannon()": lambda: 2 * js(0.5),
    "GAN()": lambda: 2 * js(0.5) - math.log(4),
    **{f"WeightedJensenShannon(pi={w})": lambda w=w: js(w) for w in (0.5, 0.2, 0.9)},
    **{f"Alpha(alpha={a})": lambda a=a: (power(a, 1 - a) - 1) / (a * (a - 1)) for a in (2.0, 0.5, -1.0, 3.0)},
}


def grid(low=-3.0, high=3.0, n=121):
    return torch.logspace(low, high, n, dtype=torch.float64)


# ---------------------------------------------------------------------------------------------- the table


@every
def test_value_and_bound_by_quadrature(d):
    x = np.linspace(-20, 25, 100_001)  # ∫ q²/p is wide, and lies to the right
    p, q = P.pdf(x), Q.pdf(x)
    u = torch.from_numpy(p / q)
    t = d.slope(u)
    exact = EXACT[str(d)]()
    assert np.trapezoid(q * d.f(u).numpy(), x) == pytest.approx(exact, abs=1e-6)
    assert np.trapezoid(p * t.numpy() - q * d.conjugate(t).numpy(), x) == pytest.approx(exact, abs=1e-6)


@every
def test_slope_by_finite_differences(d):
    u, h = grid(-1, 1, 41), 1e-5
    assert torch.allclose((d.f(u + h) - d.f(u - h)) / (2 * h), d.slope(u), rtol=1e-6, atol=1e-7)


@every
def test_slope_by_automatic_differentiation(d):
    u = grid(-2, 2)
    assert torch.allclose(Divergence.slope(d, u), d.slope(u), rtol=1e-9, atol=1e-9)


@every
def test_conjugate_is_the_supremum(d):
    for u in (0.1, 0.5, 1.0, 2.0, 7.0):
        t = float(d.slope(torch.tensor(u, dtype=torch.float64)))
        found = minimize_scalar(
            lambda log, t=t: float(d.f(torch.tensor(math.exp(log), dtype=torch.float64))) - t * math.exp(log),
            bounds=(-12, 12),
            method="bounded",
            options={"xatol": 1e-10},
        )
        assert float(d.conjugate(torch.tensor(t, dtype=torch.float64))) == pytest.approx(-found.fun, abs=1e-9)
        assert math.exp(found.x) == pytest.approx(u, rel=1e-4)


@every
def test_equality_of_fenchel(d):
    u = grid(-2, 2)
    t = d.slope(u)
    assert torch.allclose(d.conjugate(t), u * t - d.f(u), rtol=1e-9, atol=1e-9)


@every
def test_slope_of_the_conjugate_is_the_ratio(d):
    u = grid(-1, 1, 21)
    t = d.slope(u)
    slope = torch.vmap(torch.func.grad(d.conjugate))(t)
    assert torch.allclose(slope, u, rtol=1e-8)
    twice = torch.vmap(torch.func.grad(torch.func.grad(d.conjugate)))(t)  # 1 / f''(u)
    bend = torch.vmap(torch.func.grad(torch.func.grad(d.f)))(u)
    assert torch.allclose(twice, 1 / bend, rtol=1e-7)


@every
def test_composed_is_conjugate_after_activation(d):
    v = torch.linspace(-6, 6, 121, dtype=torch.float64)
    assert torch.allclose(d.composed(v), d.conjugate(d.activation(v)), rtol=1e-9, atol=1e-9)


@every
def test_least_value(d):
    assert float(d.f(torch.ones((), dtype=torch.float64))) == pytest.approx(d.minimum, abs=1e-12)
    assert d.minimum == (-math.log(4) if isinstance(d, GAN) else 0)


@every
def test_float32_is_as_good_as_it_can_be(d):
    v = torch.tensor([-80.0, -40, -20, -3, 0, 3, 20, 29.9, 30.1, 40])
    single, double = d.composed(v), d.composed(v.double())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), double, rtol=1e-5, atol=1e-6)
    slopes = torch.vmap(torch.func.grad(d.composed))(v)
    assert torch.allclose(
        slopes.double(), torch.vmap(torch.func.grad(d.composed))(v.double()), rtol=1e-4, atol=1e-6
    )
    assert d.activation(v[3:7]).dtype == torch.float32


@every
def test_vectorised_twice_differentiated(d):
    """As a gradient penalty or an unrolled step meets it: a gradient inside vmap, and one through it."""
    v = torch.linspace(-1.9, 2, 5, dtype=torch.float64).requires_grad_()
    (once,) = torch.autograd.grad(d.composed(v).sum(), v, create_graph=True)
    (twice,) = torch.autograd.grad(once.sum(), v) if once.requires_grad else (torch.zeros_like(v),)
    assert torch.allclose(torch.vmap(torch.func.grad(d.composed))(v.detach()), once, rtol=1e-12)
    second = torch.vmap(torch.func.grad(torch.func.grad(d.composed)))(v.detach())
    assert torch.allclose(second, twice, rtol=1e-12, atol=1e-14)
    h = 1e-5
    steps = (d.composed(v + h) - d.composed(v - h)) / (2 * h)
    assert torch.allclose(once, steps, rtol=1e-6, atol=1e-8)


def test_known_relations():
    u, t = grid(), torch.linspace(-2, 0.3, 31, dtype=torch.float64)
    assert torch.allclose(Alpha(2.0).f(u), Pearson().f(u) / 2, rtol=1e-9, atol=1e-9)
    assert torch.allclose(Alpha(0.5).f(u), 2 * SquaredHellinger().f(u), rtol=1e-9, atol=1e-9)
    assert torch.allclose(Alpha(-1.0).f(u), Neyman().f(u) / 2, rtol=1e-9, atol=1e-9)
    assert torch.allclose(WeightedJensenShannon(0.5).f(u), JensenShannon().f(u) / 2, rtol=1e-9, atol=1e-9)
    assert torch.allclose(WeightedJensenShannon(0.5).conjugate(t), JensenShannon().conjugate(2 * t) / 2)
    assert torch.allclose(Jeffrey().f(u), KL().f(u) + ReverseKL().f(u), rtol=1e-9, atol=1e-9)
    assert torch.allclose(GAN().f(u), JensenShannon().f(u) - (u + 1) * math.log(2), rtol=1e-9, atol=1e-9)
    near = Alpha(1 + 1e-6).f(grid(-1, 1)) - (KL().f(grid(-1, 1)) - grid(-1, 1) + 1)
    assert float(near.abs().max()) < 1e-4


def test_pearsons_conjugate_is_the_papers_parabola():
    """The supremum over u ≥ 0 is -1 for t < -2, where the parabola rises again."""
    assert Pearson().conjugate(torch.tensor([-2.0, -4.0])).tolist() == [-1.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logarithm_of_the_omega_function(dtype):
    z = torch.linspace(-30, 300, 3301, dtype=torch.float64).to(dtype)
    expected = torch.from_numpy(np.log(wrightomega(z.double().numpy())))
    tolerance = 1e-14 if dtype == torch.float64 else 1e-6
    assert torch.allclose(log_omega(z).double(), expected, rtol=tolerance, atol=tolerance)
    far = torch.tensor([-1e6, 1e6, 1e30], dtype=dtype)
    assert torch.allclose(log_omega(far), torch.tensor([-1e6, 13.81549637, 69.07755279], dtype=dtype))


def test_derivatives_of_the_omega_function():
    z = torch.linspace(-20, 20, 81, dtype=torch.float64)
    omega = torch.from_numpy(wrightomega(z.numpy()))
    once, twice = torch.func.grad(log_omega), torch.func.grad(torch.func.grad(log_omega))
    assert torch.allclose(torch.vmap(once)(z), 1 / (1 + omega), rtol=1e-13)
    assert torch.allclose(torch.vmap(twice)(z), -omega / (1 + omega) ** 3, rtol=1e-12)
    thrice = torch.vmap(torch.func.grad(twice))(z)
    assert torch.allclose(thrice, omega * (2 * omega - 1) / (1 + omega) ** 5, rtol=1e-11, atol=1e-15)


def test_jeffrey_where_lamberts_function_overflows():
    t = torch.tensor([-1000.0, -100.0], dtype=torch.float64)
    omega = torch.from_numpy(wrightomega(1 - t.numpy()))
    assert torch.allclose(Jeffrey().conjugate(t), omega + 1 / omega + t - 2, rtol=1e-12)


# ---------------------------------------------------------------------------------------------- by name


def test_every_divergence_has_its_name_and_is_explained():
    known = registry.catalog()["divergence"]
    assert list(known) == [
        *("alpha", "gan", "jeffrey", "jensen-shannon", "js-weighted", "kl"),
        *("neyman", "pearson", "reverse-kl", "squared-hellinger"),
    ]
    for name, plugin in known.items():
        made = find_divergence(name)
        assert made.__ganbench__.name == name
        assert isinstance(made, Divergence)
        assert [param.name for param in plugin.params] == [field.name for field in fields(made)]
        assert all(param.doc for param in plugin.params)


def test_find_divergence(tmp_path, monkeypatch):
    assert find_divergence({"alpha": {"alpha": 0.5}}) == Alpha(0.5)
    assert find_divergence({"kl": None}) == KL()
    assert find_divergence(Alpha(3.0)) == Alpha(3.0)
    (tmp_path / "mine.py").write_text(
        "from ganbench import Divergence, divergence\n\n\n@divergence\nclass Mine(Divergence):\n"
        "    def f(self, u):\n        return u - 1\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    assert float(find_divergence("./mine.py").f(torch.tensor(3.0))) == 2
    with pytest.raises(NotImplementedError, match=r"Mine must define conjugate\(t\)"):
        find_divergence("./mine.py").conjugate(torch.ones(1))
    with pytest.raises(PluginError, match="no divergence 'pearsson'; did you mean 'pearson'"):
        find_divergence("pearsson")
    with pytest.raises(PluginError, match="expected one name with its parameters, got 2"):
        find_divergence({"kl": {}, "gan": {}})


@pytest.mark.parametrize("pi", [0, 1, -0.5, 2])
def test_impossible_weights(pi):
    with pytest.raises(PluginError, match=f"pi must lie between 0 and 1, got {pi}"):
        WeightedJensenShannon(pi)


@pytest.mark.parametrize(("alpha", "limit"), [(0, "reverse-kl"), (1, "kl")])
def test_impossible_alphas(alpha, limit):
    with pytest.raises(PluginError, match=f"neither 0 nor 1, got {alpha}; use '{limit}', its limit"):
        Alpha(alpha)


# ---------------------------------------------------------------------------------------------- conformance


@every
def test_shipped_divergences_have_no_faults(d):
    assert list(examine(d)) == [(name, None) for name in RULES]


@dataclass(frozen=True)
class Decreasing(ReverseKL):
    """As some notebooks print it."""

    def activation(self, v):
        return -torch.exp(v)


@dataclass(frozen=True)
class DecreasingHellinger(SquaredHellinger):
    """As some notebooks print it."""

    def activation(self, v):
        return 1 - torch.exp(v)


@dataclass(frozen=True)
class HalfJensenShannon(JensenShannon):
    """The lecture's table has the ½ in one place and not in the other."""

    def f(self, u):
        return super().f(u) / 2

    def slope(self, u):
        return super().slope(u) / 2


@dataclass(frozen=True)
class WrongSign(GAN):
    """The lecture's `E log D − E log(1 − D)`."""

    def composed(self, v):
        return -super().composed(v)


@dataclass(frozen=True)
class WrongSignThroughout(WrongSign):
    def conjugate(self, t):
        return -super().conjugate(t)


@dataclass(frozen=True)
class Offset(GAN):
    """Not 0 at u = 1, and not said."""

    minimum = 0.0


@dataclass(frozen=True)
class NotPearson(Neyman):
    """Neyman's integral taken for that of f = (u − 1)²."""

    def f(self, u):
        return (u - 1) ** 2

    slope = Divergence.slope


@dataclass(frozen=True)
class Concave(KL):
    def f(self, u):
        return -super().f(u)

    slope = Divergence.slope


@dataclass(frozen=True)
class Straight(KL):
    def f(self, u):
        return u - 1

    slope = Divergence.slope


@dataclass(frozen=True)
class WrongSlope(KL):
    def slope(self, u):
        return torch.log(u)


@dataclass(frozen=True)
class Bare(ReverseKL):
    """The output of the net as it is, where t must be negative."""

    def activation(self, v):
        return v


@dataclass(frozen=True)
class WrongConjugate(KL):
    def conjugate(self, t):
        return torch.exp(t)


@dataclass(frozen=True)
class Narrow(KL):
    """An activation that stays above the T* of most ratios."""

    def activation(self, v):
        return torch.nn.functional.softplus(v)


@dataclass(frozen=True)
class Unstable(GAN):
    def composed(self, v):
        return (
            torch.log(1 + torch.exp(5 * v)) / 5
            - torch.log(1 + torch.exp(5 * v)) / 5
            + self.conjugate(self.activation(v))
        )


@dataclass(frozen=True)
class Doubles(KL):
    def activation(self, v):
        return v.double()


@pytest.mark.parametrize(
    ("wrong", "name", "problem"),
    [
        (Decreasing(), "activation increases", "activation(v) does not increase at v = 5.95"),
        (DecreasingHellinger(), "activation increases", "activation(v) does not increase at v = 5.95"),
        (
            HalfJensenShannon(),
            "conjugate is nowhere less than t u - f(u)",
            "the variational bound would not hold",
        ),
        (WrongSign(), "composed is conjugate after activation", "composed(v) = -6.00248 at v = 6"),
        (
            WrongSignThroughout(),
            "conjugate is nowhere less than t u - f(u)",
            "the variational bound would not hold",
        ),
        (Offset(), "f(1) = 0", "f(1) = -1.38629, expected 0; P = Q must give that"),
        (NotPearson(), "conjugate is nowhere less than t u - f(u)", "the variational bound would not hold"),
        (Concave(), "f is convex", "f bends downwards at u = "),
        (Straight(), "f is convex", "f is a straight line"),
        (WrongSlope(), "slope is the slope of f", "but f'(u) = "),
        (
            Bare(),
            "activation stays in the domain of conjugate",
            "lies outside the domain of the conjugate, which is",
        ),
        (WrongConjugate(), "conjugate is the supremum of t u - f(u)", "but the supremum is"),
        (Narrow(), "the bound is tight at f'(p/q), and lower elsewhere", "its range is too small"),
        (
            Doubles(),
            "losses can be vectorised and differentiated in float32",
            "turns float32 into torch.float64",
        ),
        (
            Unstable(),
            "losses can be vectorised and differentiated in float32",
            "NaN or infinite in float32 at v = 1",
        ),
        (object(), "it extends Divergence", "it has no f and no conjugate and no activation and no composed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Divergence) else None,
)
def test_wrong_ones_are_found_out(wrong, name, problem):
    *fine, (found, text) = examine(wrong)
    assert all(one[1] is None for one in fine)
    assert found == name
    assert problem in text
