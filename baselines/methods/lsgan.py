"""The least squares GAN."""

from dataclasses import dataclass
from typing import Literal

from ganbench import Adam, Game, Player, adversaries, method, tunable

CODES = {"0-1": (0.0, 1.0, 1.0), "pearson": (-1.0, 1.0, 0.0)}


@method(provides=("discriminator",))
@dataclass(frozen=True)
class LSGAN:
    """Mao et al. 2017, eq. 2: least squares instead of cross-entropy.

    D descends ½ E(D(x) - b)² + ½ E(D(G(z)) - a)², G descends ½ E(D(G(z)) - c)², with a, b, c = 0, 1, 1 (eq. 9) or
    -1, 1, 0 (eq. 8), for which G descends Pearson's χ² of an optimal D. D's output is no logit: it is bare.
    The paper trains DCGAN-like nets by Adam with betas (0.5, 0.999) and learning rates of 1e-3 (scenes) and
    2e-4 (characters).

    Searched: the rate, over two decades around Adam's default.
    """

    code: Literal["0-1", "pearson"] = "0-1"  # what D should say of generated and real examples, and G aims at
    net: Literal["mlp", "conv"] = "mlp"  # fully connected, or DCGAN's convolutional nets (images only)
    z_dim: int = 64  # latent numbers, N(0, 1)
    width: int = 128  # units of a hidden layer, or channels at the fine end of a conv net
    depth: int = 2  # hidden layers of a fully connected net
    lr: float = tunable(1e-3, log=(1e-4, 1e-2))  # Adam's learning rate of both players

    def game(self, data):
        return Game(
            nets=adversaries(data, net=self.net, z_dim=self.z_dim, width=self.width, depth=self.depth),
            players={
                "D": Player("D", self.d_loss, Adam(self.lr)),
                "G": Player("G", self.g_loss, Adam(self.lr)),
            },
            draws={"z": (self.z_dim,)},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        fake, real, _ = CODES[self.code]
        return _squares(nets.D(b.x), real) + _squares(nets.D(nets.G(b.z)), fake)

    def g_loss(self, nets, b):
        return _squares(nets.D(nets.G(b.z)), CODES[self.code][2])


def _squares(output, target):
    return 0.5 * (output - target).square().mean()
