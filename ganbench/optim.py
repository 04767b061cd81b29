"""Optimisers as pure functions of parameter tensors, elementwise over `[..., P]`.

The engine keeps the parameters of a player as one contiguous tensor [S, P], so that an update is a handful of kernels
for all seeds and layers, and a trick can differentiate through `step` (unrolling does). `Adam.update` is PyTorch's
fused kernel, which gives wrong results for gradients whose strides differ from their parameters'; with one contiguous
tensor, strides are always the same. The tests compare all optimisers with torch.optim in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.optim.adam import adam

State = tuple[Tensor, ...]


@runtime_checkable
class InPlace(Protocol):
    """An optimiser that can also take its step in place, if nothing differentiates through the step."""

    def update(self, params: Tensor, grad: Tensor, state: State) -> tuple[Tensor, State]: ...

    def freeze(self, grad: Tensor, state: State, dead: Tensor) -> Tensor:
        """Change the state so that the next `update`, with the returned gradient, does not move rows that are `dead`
        [..., 1]."""
        ...


def _update_count(params: Tensor) -> Tensor:
    """The initial number of updates, 0, for each replica [..., 1]."""
    return params.new_zeros((*params.shape[:-1], 1))


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba 2015, Algorithm 1, with bias correction. `betas` default to DCGAN's (0.5, 0.999)."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    eps: float = 1e-8

    def init(self, params: Tensor) -> State:
        """(updates so far, first moment, second moment)."""
        return _update_count(params), torch.zeros_like(params), torch.zeros_like(params)

    def step(self, params: Tensor, grad: Tensor, state: State) -> tuple[Tensor, State]:
        """One update: the new parameters and state."""
        time, mean, square = state
        b1, b2 = self.betas
        time = time + 1
        mean = torch.lerp(mean, grad, 1 - b1)
        square = torch.addcmul(square * b2, grad, grad, value=1 - b2)
        # The square root has an infinite slope at zero, and unrolling differentiates here; 1e-32 is far below eps².
        scale = torch.sqrt((square + 1e-32) / (1 - b2**time)) + self.eps
        new = params - (self.lr / (1 - b1**time)) * (mean / scale)
        return new, (time, mean, square)

    def update(self, params: Tensor, grad: Tensor, state: State) -> tuple[Tensor, State]:
        """The same update up to rounding, in place, in one pass over the parameters [..., P] instead of ten."""
        time, mean, square = state
        (b1, b2), grad = self.betas, grad.contiguous()
        # One count for all rows: all live replicas have made the same number of updates. The kernel needs float32.
        clock = time.amax().float()
        adam(
            [params], [grad], [mean], [square], [], [clock], fused=True, amsgrad=False, maximize=False,
            lr=self.lr, beta1=b1, beta2=b2, eps=self.eps, weight_decay=0.0,
        )  # fmt: skip
        return params, (time.add_(1), mean, square)

    def freeze(self, grad: Tensor, state: State, dead: Tensor) -> Tensor:
        """Without a first moment and a gradient, the step of a row is 0."""
        state[1].masked_fill_(dead, 0.0)
        return grad.masked_fill(dead, 0.0)


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum (Goodfellow et al. 2014, section 5): v <- mv - lr g; x <- x + v.

    `decay` divides the learning rate after every update, down to `floor`; the momentum grows linearly from
    `momentum` to `momentum_end` over `ramp` updates.
    """

    lr: float = 1e-2
    momentum: float = 0.0
    momentum_end: float | None = None
    ramp: int = 1
    decay: float = 1.0
    floor: float = 0.0

    def init(self, params: Tensor) -> State:
        """(updates so far, velocity)."""
        return _update_count(params), torch.zeros_like(params)

    def step(self, params: Tensor, grad: Tensor, state: State) -> tuple[Tensor, State]:
        """One update: the new parameters and state."""
        time, velocity = state
        end = self.momentum if self.momentum_end is None else self.momentum_end
        momentum = self.momentum + (end - self.momentum) * (time / self.ramp).clamp(max=1.0)
        lr = (self.lr * self.decay ** (-time)).clamp(min=self.floor)
        velocity = momentum * velocity - lr * grad
        return params + velocity, (time + 1, velocity)


@dataclass(frozen=True)
class RMSprop:
    """Hinton's RMSprop, as WGAN uses it (Arjovsky et al. 2017, Algorithm 1)."""

    lr: float = 5e-5
    alpha: float = 0.99
    eps: float = 1e-8

    def init(self, params: Tensor) -> State:
        """(mean square,)."""
        return (torch.zeros_like(params),)

    def step(self, params: Tensor, grad: Tensor, state: State) -> tuple[Tensor, State]:
        """One update: the new parameters and state."""
        (square,) = state
        square = torch.addcmul(square * self.alpha, grad, grad, value=1 - self.alpha)
        return params - self.lr * grad / (torch.sqrt(square + 1e-32) + self.eps), (square,)
