"""A generator that stops, and a discriminator that starts then."""

from dataclasses import dataclass

import torch
from torch.nn.functional import softplus

from ganbench import Adam, Game, Player, adversaries, bce_fake, bce_real, find_divergence, method, tunable


@method(provides=("bound",))
@dataclass(frozen=True)
class FrozenGenerator:
    """Arjovsky & Bottou 2017, section 2, figures 1-3: G plays for a while, then D is trained from scratch against it.

    For `warmup` rounds G plays a non-saturating GAN against a discriminator of its own, `first`; then both
    stay as they are, and D starts. Kept through D's training: its accuracy on minibatches, the norm of the gradient
    that G would have from log(1 - D) and from -log D, and the standard deviation of each over minibatches, from
    the difference of the gradients of two halves.

    Searched: the rate, over two decades around the usual 1e-3.
    """

    warmup: int = 1000  # rounds after which G is frozen and D starts
    z_dim: int = 8  # latent numbers, N(0, 1)
    width: int = 64  # units of a hidden layer
    depth: int = 2  # hidden layers
    lr: float = tunable(1e-3, log=(1e-4, 1e-2))  # Adam's learning rate of all three

    def game(self, data):
        nets = adversaries(data, z_dim=self.z_dim, width=self.width, depth=self.depth)
        first = adversaries(data, z_dim=self.z_dim, width=self.width, depth=self.depth)["D"]
        early, late = Between(Adam(self.lr), end=self.warmup), Between(Adam(self.lr), start=self.warmup)
        players = {
            "first": Player("first", lambda nets, b: self.d_loss(nets, b, nets.first), early),
            "G": Player("G", lambda nets, b: bce_real(nets.first(nets.G(b.z))), early),
            "D": Player("D", lambda nets, b: self.d_loss(nets, b, nets.D), late),
        }
        return Game(
            nets={**nets, "first": first},
            players=players,
            draws={"z": (self.z_dim,)},
            sample=lambda nets, z: nets.G(z),
            bound=("D", find_divergence("gan")),
            probes={
                "accuracy of D": self._late(self.accuracy),
                "gradient of log(1 - D)": self._late(lambda nets, b: self.gradient(nets, b, minimax)),
                "gradient of -log D": self._late(lambda nets, b: self.gradient(nets, b, non_saturating)),
                "deviation of log(1 - D)": self._late(lambda nets, b: self.deviation(nets, b, minimax)),
                "deviation of -log D": self._late(lambda nets, b: self.deviation(nets, b, non_saturating)),
            },
        )

    def d_loss(self, nets, b, d):
        return bce_real(d(b.x)) + bce_fake(d(nets.G(b.z)))

    def accuracy(self, nets, b):
        """Fraction of real and generated examples that D tells apart."""
        real, fake = nets.D(b.x) > 0, nets.D(nets.G(b.z)) < 0
        return (real.to(b.z).mean() + fake.to(b.z).mean()) / 2

    def gradient(self, nets, b, loss, signs=1.0):
        """Norm of the gradient, in the parameters of G, of the mean of the losses [B] of its samples."""

        def mean(flat):
            nets_there = nets.with_flat("G", flat)
            return (signs * loss(nets_there.D(nets_there.G(b.z)).flatten())).mean()

        return torch.func.grad(mean)(nets.flat("G")).norm()

    def deviation(self, nets, b, loss):
        """Half the distance of the gradients of two halves, whose mean the minibatch's is."""
        signs = torch.ones_like(b.z[:, 0])
        signs[::2] = -1
        return self.gradient(nets, b, loss, signs)

    def _late(self, probe):
        """Nothing before D has started."""
        return lambda nets, b: torch.where(b.step > self.warmup, probe(nets, b), torch.nan)


def minimax(logits):
    """log(1 - D)."""
    return -softplus(logits)


def non_saturating(logits):
    """-log D."""
    return softplus(-logits)


@dataclass(frozen=True)
class Between:
    """An optimiser that moves nothing before update `start` and from update `end` on."""

    inner: Adam
    start: float = 0
    end: float = float("inf")

    def init(self, params):
        """(updates so far, state of the inner optimiser)."""
        return params.new_zeros((*params.shape[:-1], 1)), *self.inner.init(params)

    def step(self, params, grad, state):
        """One update, or none: the new parameters and state."""
        time, *old = state
        new, inner = self.inner.step(params, grad, tuple(old))
        active = (time >= self.start) & (time < self.end)
        kept = tuple(torch.where(active, n, o) for n, o in zip(inner, old, strict=True))
        return torch.where(active, new, params), (time + 1, *kept)
