"""The gradient that a trained discriminator gives the generator (Arjovsky & Bottou 2017, section 2)."""

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
    """Accuracy of the trained discriminator, and the size of the generator's gradient under both losses (Arjovsky &
    Bottou 2017, figures 1-3).

    Accuracy: the percentage of test points and samples on the right side of D = 1/2. Gradients: the root mean square
    over samples of the gradient with respect to the sample, of log(1 - D), which vanishes as D becomes certain, and of
    -log D, which does not. Needs a game whose D returns the logit of a probability (the `gan` or `jensen-shannon`
    divergence).

    Checked against the gradients of a linear discriminator in closed form (1e-5, relative).
    """

    n: int = 1000  # samples, and test points at most

    def __call__(self, model: Model, data: Data) -> tuple[Score, Score, Score]:
        if model.game is None or model.game.bound is None or model.nets is None:
            raise SampleError("the game has no net whose output bounds a divergence (`Game.bound`)")
        net, f = model.game.bound
        # D is a logit where f*∘g is softplus up to a constant: compare the slopes at 1, where softplus has sigmoid(1).
        if abs(float(torch.func.grad(f.composed)(torch.tensor(1.0))) - 0.7310586) > 1e-6:
            raise SampleError("D returns no logit under this divergence; use `gan` or `jensen-shannon`")
        fake = model.samples(self.n)
        # The state is stored on the CPU; the nets are where the samples are.
        fake = fake.to(next((t.dtype for t in model.state.values() if t.is_floating_point()), fake.dtype))
        real = data.floats(random_subset(data.test, self.n)).to(fake)
        d = getattr(model.nets, net)
        with torch.no_grad():
            right = torch.cat([(d(real) > 0).flatten(), (d(fake) < 0).flatten()]).double()
        minimax = _gradient_norm(lambda x: -softplus(d(x)), fake)  # log(1 - D)
        non_saturating = _gradient_norm(lambda x: -softplus(-d(x)), fake)  # log D
        sem = 100 * float((right.var() / len(right)).sqrt())
        return (
            Score(100 * float(right.mean()), sem, len(right)),
            Score(minimax, n=self.n),
            Score(non_saturating, n=self.n),
        )

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"{min(self.n, len(data.test))} random test points and {self.n} samples; gradient of log(1 - D) and of "
            "log D in the sample, root mean square over samples of its Euclidean norm; D without noise or other views "
            "of tricks"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {"test": min(self.n, len(data.test))}


def _gradient_norm(value: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Root mean square over the examples `x` [n, ...] of the gradient of `value`, [n, ...] -> [n, 1]."""
    gradient = torch.func.grad(lambda x: value(x).sum())(x)
    return float(gradient.flatten(1).double().square().sum(1).mean().sqrt())
