"""The smallest GAN, in which gradient descent need not arrive."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ganbench import SGD, Game, Player, PluginError, method, tunable


@method
@dataclass(frozen=True)
class DiracGAN:
    """Mescheder et al. 2018, definition 2.1: a generator of one point θ against a linear discriminator ψ·x.

    With the loss ψ·E[x] − ψ·θ (their f(t) = t) the game is bilinear and its equilibrium is θ = E[x], ψ = 0. Gradient
    descent in turn orbits it, and simultaneous gradient descent spirals away; what makes it arrive can be seen
    here. Vectors [B, d]; every latent gives the same point.

    Searched: the rate over two decades; the game has nothing else.
    """

    lr: float = tunable(0.1, log=(1e-2, 1.0))  # of plain gradient descent, both players
    order: Literal["alternating", "simultaneous"] = "alternating"  # of the moves

    def game(self, data):
        if len(data.shape) != 1:
            raise PluginError(
                f"dirac_gan: learns a point among vectors; one example has the shape {data.shape}"
            )
        (d,) = data.shape
        return Game(
            nets={"G": Point(d), "D": nn.Linear(d, 1, bias=False)},
            players={
                "D": Player("D", lambda nets, b: -self.value(nets, b), SGD(self.lr)),
                "G": Player("G", lambda nets, b: self.value(nets, b), SGD(self.lr)),
            },
            draws={"z": (1,)},
            sample=lambda nets, z: nets.G(z),
            order=self.order,
        )

    def value(self, nets, b):
        """ψ·E[x] − ψ·θ."""
        return nets.D(b.x).mean() - nets.D(nets.G(b.z)).mean()


class Point(nn.Module):
    """A point that is learned: [B, ...] -> [B, d], all rows alike; it starts at distance 1 from the origin."""

    def __init__(self, d):
        super().__init__()
        start = torch.randn(d)
        self.theta = nn.Parameter(start / start.norm())

    def forward(self, z):
        return self.theta.expand(len(z), -1)
