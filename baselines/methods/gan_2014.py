"""The first GAN, with its own nets and optimiser."""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from torch import nn

from ganbench import (
    SGD,
    Draw,
    Dropout,
    Game,
    Maxout,
    Player,
    Sequential,
    bce_fake,
    bce_real,
    method,
    mlp,
    tunable,
)


@method("gan_2014", provides=("discriminator",))
@dataclass(frozen=True)
class GAN2014:
    """Goodfellow et al. 2014, section 5: rectifiers against maxout with dropout, as in the authors' code for MNIST.

    G: two layers of 5 · width ReLU units, weights U(±0.05), output biases that give the mean of the data. D: two
    layers of `width` maxout units, weights U(±`d_init`), its input dropped with probability 0.2 and its hidden
    units with 0.5, also while G learns. D descends ½ (-log D(x) - log(1 - D(G(z)))). Both move from the same
    point, by SGD whose rate falls by 1.000004 with every update, down to 1e-6, and whose momentum grows from 0.5 to 0.7
    in 250 epochs; an epoch is len(train) / 100 updates, for the paper's minibatches of 100. The bound on the norm
    of D's columns, which the code has (from memory), is left out.

    Searched: the rate, from a tenth of the authors' to five times it.
    """

    loss: Literal["non-saturating", "minimax"] = "non-saturating"  # of the generator
    width: int = 240  # maxout units of a hidden layer of D; G has five times as many ReLU units
    pieces: int = 5  # linear maps of which a maxout unit takes the largest
    z_dim: int = 100  # latent numbers, uniform in [-√3, √3), so that their variance is 1
    d_init: float = 0.005  # bound of D's first weights
    lr: float = tunable(0.1, log=(1e-2, 0.5))  # learning rate at the start, of both players

    def game(self, data):
        nets = {"G": self._generator(data), "D": self._discriminator(data)}
        ramp = max(1, 250 * len(data.train) // 100)
        sgd = SGD(self.lr, momentum=0.5, momentum_end=0.7, ramp=ramp, decay=1.000004, floor=1e-6)
        drops = Draw.uniform(nets["D"].drawn)
        return Game(
            nets=nets,
            players={"D": Player("D", self.d_loss, sgd), "G": Player("G", self.g_loss, sgd)},
            draws={
                "z": Draw.uniform(self.z_dim, low=-sqrt(3), high=sqrt(3)),
                "drop_real": drops,
                "drop_fake": drops,
            },
            sample=lambda nets, z: nets.G(z),
            order="simultaneous",
        )

    def d_loss(self, nets, b):
        real, fake = nets.D(b.x, u=b.drop_real), nets.D(nets.G(b.z), u=b.drop_fake)
        return 0.5 * (bce_real(real) + bce_fake(fake))

    def g_loss(self, nets, b):
        logits = nets.D(nets.G(b.z), u=b.drop_fake)
        return bce_real(logits) if self.loss == "non-saturating" else -bce_fake(logits)

    def _generator(self, data):
        """z [B, z_dim] -> [B, *shape]."""
        sizes = [self.z_dim, *[5 * self.width] * 2, data.shape]
        net = mlp(*sizes, squash=data.scale, init=lambda layer: _uniform(layer, 0.05))
        mean = data.floats(data.train).mean(0).flatten()
        if data.scale:
            low, high = data.scale
            # The bound leaves a slope to pixels that are never inked.
            mean = torch.logit((mean - low) / (high - low), eps=1e-3)
        with torch.no_grad():
            net[net.reads[-1]].bias.copy_(mean)
        return net

    def _discriminator(self, data):
        """Examples [B, *shape] -> logits [B, 1]."""
        size, width = torch.Size(data.shape).numel(), self.width
        net = Sequential(
            *[nn.Flatten(), Dropout(0.2, size)],
            *[Maxout(size, width, self.pieces), Dropout(0.5, width)],
            *[Maxout(width, width, self.pieces), Dropout(0.5, width)],
            nn.Linear(width, 1),
        )
        return net.apply(lambda layer: _uniform(layer, self.d_init))


def _uniform(layer, bound):
    if isinstance(layer, nn.Linear):
        nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.zeros_(layer.bias)
