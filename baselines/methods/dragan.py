"""The GAN with a gradient penalty around real data."""

from dataclasses import dataclass
from typing import Literal

from ganbench import (
    Adam,
    Draw,
    Game,
    Player,
    adversaries,
    bce_fake,
    bce_real,
    gradient_norm,
    method,
    tunable,
)


@method(provides=("discriminator",))
@dataclass(frozen=True)
class DRAGAN:
    """Kodali et al. 2017, Algorithm 1: a non-saturating GAN whose D has gradients of norm 1 around real examples.

    D descends its cross-entropies + λ E(‖∇D(x̂)‖ - 1)² with D as logits and x̂ = x + α · noise · std · U: std is
    that of all numbers of the minibatch, U uniform in [0, 1) for each number, α for each example. So has the authors'
    code, with its noise 0.5 and betas (0.5, 0.9); the paper writes x + δ. D has no BatchNorm.

    The authors' λ 10 and Adam 1e-4, for conv nets on images, find no mode of the ring and stay below a Gaussian on
    digits: the penalty keeps D from ever being flat. The defaults λ 0.1 and 1e-3 learn on ring and grid.

    Searched: λ from 0.05 to 50 (Lucic et al. 2018 searched 0.1 to 100), the rate over two decades up from the
    authors', the usual betas of GANs.
    """

    penalty: float = tunable(0.1, log=(0.05, 50))  # λ; Kodali et al.: 10
    noise: float = 0.5  # greatest perturbation, in standard deviations of the minibatch
    net: Literal["mlp", "conv"] = "mlp"  # fully connected, or DCGAN's convolutional nets (images only)
    z_dim: int = 64  # latent numbers, N(0, 1)
    width: int = 128  # units of a hidden layer, or channels at the fine end of a conv net
    depth: int = 2  # hidden layers of a fully connected net
    lr: float = tunable(1e-3, log=(1e-4, 1e-2))  # Adam's learning rate of both players; Kodali et al.: 1e-4
    betas: tuple[float, float] = tunable((0.5, 0.9), among=((0.0, 0.9), (0.5, 0.9), (0.5, 0.999)))  # of Adam

    def game(self, data):
        size = {"z_dim": self.z_dim, "width": self.width, "depth": self.depth}
        along = Draw.uniform(*[1] * len(data.shape))
        return Game(
            nets=adversaries(data, net=self.net, norm=False, **size),
            players={
                "D": Player("D", self.d_loss, Adam(self.lr, self.betas)),
                "G": Player("G", self.g_loss, Adam(self.lr, self.betas)),
            },
            draws={"z": (self.z_dim,), "away": Draw.uniform(*data.shape), "along": along},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        perturbed = b.x + b.along * self.noise * b.x.std(correction=0) * b.away
        penalty = (gradient_norm(nets.D, perturbed) - 1).square().mean()
        return bce_real(nets.D(b.x)) + bce_fake(nets.D(nets.G(b.z))) + self.penalty * penalty

    def g_loss(self, nets, b):
        return bce_real(nets.D(nets.G(b.z)))
