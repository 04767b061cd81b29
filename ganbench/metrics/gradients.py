"""What a discriminator leaves of the generator's gradient (Arjovsky & Bottou 2017, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .subset import random_subset


@metric(
    Value("accuracy_pct", "%", "neither"),
    Value("gradient_minimax", "nats", "neither"),
    Value("gradient_non_saturating", "nats", "neither"),
    name="generator_gradient",
    needs=("generator", "bound"),
    version=2,
)
@dataclass(frozen=True)
class GeneratorGradient:
    """How well D tells samples from data at the end, and what it leaves of the generator's gradient (Arjovsky &
    Bottou 2017, figures 1-3).

    Percentage of test points and samples on the right side of D = 1/2; root mean square over samples of the
    gradient, in the sample, of E log(1 - D), which vanishes as D becomes certain, and of -E log D, which does not.
    Needs a game whose D puts out the logit of a probability (the `gan` or `jensen-shannon` divergence).

    Checked against the gradients of a linear discriminator in closed form (1e-5, relative).
    """

    n: int = 1000  # test points, and samples

    def __call__(self, model: Model, data: Data) -> tuple[Score, Score, Score]:
        if model.game is None or model.game.bound is None or model.nets is None:
            raise SampleError("the game has no net whose output bounds a divergence (`Game.bound`)")
        net, f = model.game.bound
        if abs(float(torch.func.grad(f.composed)(torch.tensor(1.0))) - 0.7310586) > 1e-6:  # of softplus at 1
            raise SampleError("D is no logit under this divergence; `gan` and `jensen-shannon` have one")
        fake = model.samples(self.n)
        # The state is stored on the CPU; the nets are where the samples are.
        fake = fake.to(next((t.dtype for t in model.state.values() if t.is_floating_point()), fake.dtype))
        real = data.floats(random_subset(data.test, self.n)).to(fake)
        d = getattr(model.nets, net)
        with torch.no_grad():
            right = torch.cat([(d(real) > 0).flatten(), (d(fake) < 0).flatten()]).double()
        slopes = (
            _slope(lambda x: -softplus(d(x)), fake),
            _slope(lambda x: -softplus(-d(x)), fake),
        )
        sem = 100 * float((right.var() / len(right)).sqrt())
        return (
            Score(100 * float(right.mean()), sem, len(right)),
            Score(slopes[0], n=self.n),
            Score(slopes[1], n=self.n),
        )

    def protocol(self, data: Data) -> str:
        """What defines the numbers."""
        return (
            f"{min(self.n, len(data.test))} random test points and {self.n} samples; gradient of log(1 - D) and of "
            "log D in the sample, root mean square over samples of its Euclidean norm; D without noise or other views "
            "of tricks"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from these data and from the constants of this file."""
        return {"test": min(self.n, len(data.test))}


def _slope(value: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Root mean square over examples [n, ...] of the gradient of `value`, [n, ...] -> [n, 1], in each."""
    gradient = torch.func.grad(lambda x: value(x).sum())(x)
    return float(gradient.flatten(1).double().square().sum(1).mean().sqrt())
