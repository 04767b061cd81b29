"""The spectrally normalised GAN."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from ganbench import Adam, Game, Player, adversaries, method, tunable


@method(provides=("discriminator",))
@dataclass(frozen=True)
class SNGAN:
    """Miyato et al. 2018, eq. 8 and 16-17: hinge losses, and weights of D divided by their largest singular value.

    D descends E relu(1 - D(x)) + E relu(1 + D(G(z))), G descends -E D(G(z)); D has no BatchNorm. The paper keeps a
    vector for each layer and improves it by one power iteration in each update; here nothing is kept, and
    2^squarings of them start afresh each time from every unit vector, by squaring the Gram matrix, and the best end
    is taken: of 50 random 128 × 128 matrices 64 iterations find the largest singular value to 2e-5, relative. A
    matrix of zeros stays one. Gradients take the singular vectors for constants, as the
    paper's do. The defaults are those of its hinge experiments: Adam 2e-4 with betas (0, 0.9), five updates of D in
    a round.

    Searched: the rate, 1 or 5 updates of D and the betas: the paper compares six such settings (table 1).
    """

    squarings: int = 6  # of the Gram matrix of each weight: 2^6 power iterations
    net: Literal["mlp", "conv"] = "mlp"  # fully connected, or DCGAN's convolutional nets (images only)
    z_dim: int = 64  # latent numbers, N(0, 1)
    width: int = 128  # units of a hidden layer, or channels at the fine end of a conv net
    depth: int = 2  # hidden layers of a fully connected net
    lr: float = tunable(2e-4, log=(1e-4, 1e-2))  # Adam's learning rate of both players
    betas: tuple[float, float] = tunable((0.0, 0.9), among=((0.0, 0.9), (0.5, 0.9), (0.5, 0.999)))  # of Adam
    d_steps: int = tunable(5, among=(1, 5))  # discriminator updates in each round

    def game(self, data):
        size = {"z_dim": self.z_dim, "width": self.width, "depth": self.depth}
        nets = adversaries(data, net=self.net, norm=False, **size)
        for layer in nets["D"]:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                register_parametrization(layer, "weight", SpectralNorm(self.squarings))
        return Game(
            nets=nets,
            players={
                "D": Player("D", self.d_loss, Adam(self.lr, self.betas), steps=self.d_steps),
                "G": Player("G", self.g_loss, Adam(self.lr, self.betas)),
            },
            draws={"z": (self.z_dim,)},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        return torch.relu(1 - nets.D(b.x)).mean() + torch.relu(1 + nets.D(nets.G(b.z))).mean()

    def g_loss(self, nets, b):
        return -nets.D(nets.G(b.z)).mean()


class SpectralNorm(nn.Module):
    """A weight [out, ...] divided by the largest singular value of the matrix [out, rest] that it makes."""

    def __init__(self, squarings):
        super().__init__()
        self.squarings = squarings

    def forward(self, weight):
        matrix = weight.flatten(1)
        fixed = matrix.detach()
        fixed = fixed / _nonzero(fixed.abs().amax())  # so that its squares neither vanish nor overflow
        wide = fixed.shape[0] < fixed.shape[1]
        gram = fixed @ fixed.T if wide else fixed.T @ fixed
        power = gram
        for _ in range(self.squarings):
            power = power / _nonzero(power.norm())
            power = power @ power
        # Column j is where the iterations take the j-th unit vector. One start alone may be orthogonal to the first
        # singular vector, not all of a basis: the column of the largest Rayleigh quotient is taken.
        square = _nonzero(power.square().sum(0))
        best = ((power * (gram @ power)).sum(0) / square).argmax()
        column = power.gather(1, best.expand(len(power), 1)).squeeze(1)
        first = nn.functional.normalize(column, dim=0)  # the singular vector of the shorter side
        second = nn.functional.normalize(first @ fixed if wide else fixed @ first, dim=0)
        left, right = (first, second) if wide else (second, first)
        return weight / _nonzero(left @ matrix @ right)


def _nonzero(x):
    """`x` with 1 in the place of 0, by which a matrix of zeros stays one."""
    return torch.where(x == 0, torch.ones_like(x), x)
