"""The checks of an f-divergence: its formulas are compared with numerical suprema, quadrature and each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..contracts import Divergence
from ..suite.spec import PluginSpec
from .checks import Check, Target, as_plugin, run_checks

RTOL = 1e-6  # between numbers in float64 that should be equal
Finding = tuple[str, str | None]  # the name of a rule, and its problem, if any


def check_divergence(target: Target, **params: Any) -> list[Check]:
    """Check an f-divergence with these parameters. Raises PluginError if there is no such divergence."""
    part = PluginSpec(as_plugin("divergence", target), params)
    return run_checks(part, lambda: (Check(*finding) for finding in examine(part.build())))


def examine(divergence: Any) -> Iterator[Finding]:
    """Each rule's name and problem. Stops at the first problem, since later rules depend on earlier ones."""
    # From the formulas alone to what they must satisfy together.
    for name, rule in RULES.items():
        problem = rule(divergence)
        yield name, problem
        if problem:
            return


def _ratios(low: float = 1e-3, n: int = 601) -> Tensor:
    return torch.logspace(math.log10(low), -math.log10(low), n, dtype=torch.float64)


def _outputs(far: float = 6.0) -> Tensor:
    return torch.linspace(-far, far, 241, dtype=torch.float64)


def _slope(d: Divergence, u: Tensor) -> Tensor:
    """f'(u) by automatic differentiation, independent of the divergence's own `slope`."""
    return Divergence.slope(d, u)


def _differ(found: Tensor, expected: Tensor) -> int | None:
    """The index where two tensors differ most; None if they agree. NaN differs from everything."""
    gap = (found - expected).abs() / (1 + expected.abs())
    worst = int(torch.where(gap.isnan(), torch.inf, gap).argmax())
    return None if gap[worst] <= RTOL else worst


def _interface(d: Any) -> str | None:
    missing = [name for name in ("f", "conjugate", "activation", "composed", "slope") if not hasattr(d, name)]
    return f"it has no {' and no '.join(missing)}; extend ganbench.Divergence" if missing else None


def _minimum(d: Divergence) -> str | None:
    found = float(d.f(torch.ones(1, dtype=torch.float64))[0])
    if abs(found - d.minimum) <= 1e-9:
        return None
    return f"f(1) = {found:.6g}, expected {d.minimum:.6g}; P = Q must give that (`minimum`, unless it is 0)"


def _convex(d: Divergence) -> str | None:
    u = _ratios()
    f = d.f(u)
    if not bool(f.isfinite().all()):
        return f"f(u) = {float(f[~f.isfinite()][0])} at u = {float(u[~f.isfinite()][0]):.3g}"
    # Slopes of chords that never decrease, from values alone: second derivatives would miss a kink.
    chords = f.diff() / u.diff()
    bends = chords.diff() / (1 + chords[1:].abs())
    if float(bends.min()) < -RTOL:
        where = float(u[int(bends.argmin()) + 1])
        return f"f bends downwards at u = {where:.3g}; check its formula and signs"
    return (
        None if float(chords[-1] - chords[0]) > RTOL else "f is a straight line: its divergence is always 0"
    )


def _given_slope(d: Divergence) -> str | None:
    u = _ratios()
    given, expected = d.slope(u), _slope(d, u)
    at = _differ(given, expected)
    return (
        at if at is None else f"slope(u) = {given[at]:.6g} at u = {u[at]:.3g}, but f'(u) = {expected[at]:.6g}"
    )


def _monotone(d: Divergence) -> str | None:
    v = _outputs()
    steps = d.activation(v).diff()
    at = int(torch.where(steps.isnan(), -torch.inf, steps).argmin())
    return None if steps[at] > 0 else f"activation(v) does not increase at v = {v[at]:.3g}; flip its sign"


def _activation_range(d: Divergence) -> str | None:
    v = _outputs()
    t = d.activation(v)
    # Outside its domain the conjugate is infinite or, by its formula, NaN.
    bad = ~d.conjugate(t).isfinite()
    if not bool(bad.any()):
        return None
    where = f"activation(v) = {t[bad][0]:.6g} at v = {v[bad][0]:.3g}"
    return f"{where} lies outside the domain of the conjugate, which is {d.conjugate(t)[bad][0]} there"


def _upper_bound(d: Divergence) -> str | None:
    """Compares conjugate(t) with the supremum over a grid of ratios, for all t in the range of the activation. It may
    be greater, if t is not a slope of f."""
    u, t = _ratios(1e-20, 4001), d.activation(_outputs())
    most, where = torch.nan_to_num(t[:, None] * u - d.f(u), nan=-torch.inf).max(1)
    found = d.conjugate(t)
    less = ~(found >= most - RTOL * (1 + found.abs()))
    if not bool(less.any()):
        return None
    return (
        f"conjugate(t) = {found[less][0]:.6g} at t = {t[less][0]:.6g}, but the supremum is {most[less][0]:.6g} or "
        f"more, as at u = {u[where][less][0]:.3g}: the variational bound would not hold"
    )


def _supremum(d: Divergence) -> str | None:
    """Compares conjugate(t) with the supremum at slopes of f, where it is attained; else the bound is never tight."""
    u = _ratios(0.02, 41)
    t = _slope(d, u)
    low, high = torch.full_like(t, -25.0), torch.full_like(t, 25.0)  # log u
    for _ in range(120):  # ternary search for the top of a concave function
        a, b = low + (high - low) / 3, high - (high - low) / 3
        left = t * a.exp() - d.f(a.exp()) < t * b.exp() - d.f(b.exp())
        low, high = torch.where(left, a, low), torch.where(left, high, b)
    top = ((low + high) / 2).exp()
    found, expected = d.conjugate(t), t * top - d.f(top)
    at = _differ(found, expected)
    if at is None:
        return None
    return (
        f"conjugate(t) = {found[at]:.6g} at t = {t[at]:.6g}, but the supremum is {expected[at]:.6g}, "
        f"at u = {top[at]:.3g}"
    )


def _composed(d: Divergence) -> str | None:
    v = _outputs()
    found, expected = d.composed(v), d.conjugate(d.activation(v))
    at = _differ(found, expected)
    return (
        at
        if at is None
        else f"composed(v) = {found[at]:.6g} at v = {v[at]:.3g}, but conjugate(activation(v)) = {expected[at]:.6g}"
    )


def _float32(d: Divergence) -> str | None:
    """Checks dtype, values and derivatives in float32, for outputs of moderate size."""
    v = _outputs(20.0).float()
    for name in ("activation", "composed"):
        function = getattr(d, name)
        if function(v).dtype != torch.float32:
            return f"{name} turns float32 into {function(v).dtype}; use torch.full_like, or plain floats, for constants"
        slope = torch.vmap(torch.func.grad(function))(v)
        bad = ~(slope.isfinite() & function(v).isfinite())
        if bool(bad.any()):
            return f"{name} or its slope is NaN or infinite in float32 at v = {v[bad][0]:.3g}; use a stabler formula"
    return None


def _variational_bound(d: Divergence) -> str | None:
    """Checks the bound for P = N(0, 1) and Q = N(0.7, 1.3²), by the trapezoidal rule: tight at the optimum, and lower
    after steps in v."""
    x = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    p, q = _normal(x, 0.0, 1.0), _normal(x, 0.7, 1.3)
    best = _slope(d, p / q)
    exact = float(torch.trapezoid(q * d.f(p / q), x))
    found = float(torch.trapezoid(p * best - q * d.conjugate(best), x))
    if not abs(found - exact) <= RTOL * (1 + abs(exact)):
        return f"the bound is {found:.6g} at the optimum, but the divergence is {exact:.6g}"
    # The output that gives the optimal critic; its neighbours must all be worse.
    v = _inverse(d, best)
    if (at := _differ(d.activation(v), best)) is not None:
        return f"activation(v) never reaches f'({float((p / q)[at]):.3g}) = {best[at]:.6g}; its range is too small"
    for step in (0.3, -0.3, 0.3 * torch.sin(3 * x)):
        off = float(torch.trapezoid(p * d.activation(v + step) - q * d.composed(v + step), x))
        if not off < exact:
            return f"the bound is {off:.6g} off the optimum, above the divergence, {exact:.6g}"
    return None


def _normal(x: Tensor, mean: float, std: float) -> Tensor:
    return torch.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))


def _inverse(d: Divergence, t: Tensor) -> Tensor:
    """The v with activation(v) = t, by bisection."""
    low, high = torch.full_like(t, -1e7), torch.full_like(t, 1e7)
    for _ in range(100):
        middle = (low + high) / 2
        below = d.activation(middle) < t
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


RULES = {
    "it extends Divergence": _interface,
    "f(1) = 0": _minimum,
    "f is convex": _convex,
    "slope is the slope of f": _given_slope,
    "activation increases": _monotone,
    "activation stays in the domain of conjugate": _activation_range,
    "conjugate is nowhere less than t u - f(u)": _upper_bound,
    "conjugate is the supremum of t u - f(u)": _supremum,
    "composed is conjugate after activation": _composed,
    "losses can be vectorised and differentiated in float32": _float32,
    "the bound is tight at f'(p/q), and lower elsewhere": _variational_bound,
}
