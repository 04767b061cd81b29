"""The Wasserstein GAN with a gradient penalty."""

from dataclasses import dataclass
from typing import Literal

from ganbench import Adam, Draw, Game, Player, adversaries, gradient_norm, method, tunable


@method("wgan_gp", provides=("discriminator",))
@dataclass(frozen=True)
class WGANGP:
    """Gulrajani et al. 2017, Algorithm 1: a critic whose gradient is pulled towards norm 1.

    The critic D descends E D(G(z)) - E D(x) + λ E(‖∇D(x̂)‖ - 1)² (eq. 3), x̂ uniform on the line between a real and
    a generated example; G descends -E D(G(z)). D has no BatchNorm, since the penalty is on each example alone.
    The defaults are those of the paper and its code for images: λ 10, five updates of the critic in a round, Adam
    1e-4 with betas (0.5, 0.9). For toy data the code has λ 0.1, three layers of 512 and minibatches of 256.

    Searched: λ around the authors' two (0.1 on toys, 10 on images), the rate, 1 or 5 updates of the critic.
    """

    penalty: float = tunable(10.0, log=(0.05, 50))  # λ
    net: Literal["mlp", "conv"] = "mlp"  # fully connected, or DCGAN's convolutional nets (images only)
    z_dim: int = 64  # latent numbers, N(0, 1)
    width: int = 128  # units of a hidden layer, or channels at the fine end of a conv net
    depth: int = 2  # hidden layers of a fully connected net
    lr: float = tunable(1e-4, log=(1e-4, 1e-2))  # Adam's learning rate of both players
    betas: tuple[float, float] = (0.5, 0.9)  # of Adam
    d_steps: int = tunable(5, among=(1, 5))  # updates of the critic in each round

    def game(self, data):
        size = {"z_dim": self.z_dim, "width": self.width, "depth": self.depth}
        return Game(
            nets=adversaries(data, net=self.net, norm=False, **size),
            players={
                "D": Player("D", self.d_loss, Adam(self.lr, self.betas), steps=self.d_steps),
                "G": Player("G", self.g_loss, Adam(self.lr, self.betas)),
            },
            draws={"z": (self.z_dim,), "between": Draw.uniform(*[1] * len(data.shape))},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        fake = nets.G(b.z)
        slope = gradient_norm(nets.D, b.x + b.between * (fake - b.x))
        return nets.D(fake).mean() - nets.D(b.x).mean() + self.penalty * (slope - 1).square().mean()

    def g_loss(self, nets, b):
        return -nets.D(nets.G(b.z)).mean()
