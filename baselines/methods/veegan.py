"""The GAN with a net that reconstructs the noise."""

from dataclasses import dataclass

import torch

from ganbench import Adam, Game, Player, bce_fake, bce_real, method, mlp, tunable


@method
@dataclass(frozen=True)
class VEEGAN:
    """Srivastava et al. 2017, Algorithm 1: a reconstructor F takes examples back to noise, and D judges pairs.

    D tells pairs (z, G(z)) from pairs (z', x) with z' ~ p(z|x) = N(F(x), I): its logit estimates log q(x|z)p(z) /
    p(z|x)p(x). G and F together descend the mean of D(z, G(z)) - log p(z|G(z)) (eq. 3), that is D(z, G(z)) +
    ½‖z - F(G(z))‖² and a constant; where G drops a mode, F maps its examples to no plausible noise, and D sees it.
    The defaults for depth, width and optimiser are those of the authors' code for the ring and grid (z_dim 2 there).

    Searched: the rate over two decades, the usual betas of GANs.
    """

    z_dim: int = 64  # latent numbers, N(0, 1)
    width: int = 128  # units of a hidden layer of each of the three nets
    depth: int = 2  # hidden layers of each of them
    lr: float = tunable(1e-3, log=(1e-4, 1e-2))  # Adam's learning rate of both players
    betas: tuple[float, float] = tunable(
        (0.5, 0.999), among=((0.0, 0.99), (0.5, 0.999), (0.9, 0.999))
    )  # of Adam

    def game(self, data):
        hidden, size = [self.width] * self.depth, torch.Size(data.shape).numel()
        return Game(
            nets={
                "G": mlp(self.z_dim, *hidden, data.shape, squash=data.scale),
                "F": mlp(data.shape, *hidden, self.z_dim),
                "D": mlp(self.z_dim + size, *hidden, 1),
            },
            players={
                "D": Player("D", self.d_loss, Adam(self.lr, self.betas)),
                "G": Player(("G", "F"), self.g_loss, Adam(self.lr, self.betas)),
            },
            draws={"z": (self.z_dim,), "noise": (self.z_dim,)},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        generated = _pairs(b.z, nets.G(b.z))
        real = _pairs(nets.F(b.x) + b.noise, b.x)
        return bce_real(nets.D(generated)) + bce_fake(nets.D(real))

    def g_loss(self, nets, b):
        x = nets.G(b.z)
        reconstruction = 0.5 * (b.z - nets.F(x)).square().sum(1).mean()
        return nets.D(_pairs(b.z, x)).mean() + reconstruction


def _pairs(z, x):
    """[B, z_dim], [B, *shape] -> [B, z_dim + numbers of an example]"""
    return torch.cat([z, x.flatten(1)], dim=1)
