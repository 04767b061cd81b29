"""The Wasserstein GAN with clipped weights."""

from dataclasses import dataclass
from typing import Literal

from ganbench import Game, Player, RMSprop, adversaries, method, tunable


@method(provides=("discriminator",))
@dataclass(frozen=True)
class WGAN:
    """Arjovsky et al. 2017, Algorithm 1: a critic with clipped weights estimates the earth mover's distance.

    The critic D ascends E D(x) - E D(G(z)) (eq. 3), which is K times the distance if D ranges over the K-Lipschitz
    functions; after each update its weights are clipped to [-clip, clip]. G descends -E D(G(z)). As in the paper:
    RMSprop, five updates of the critic in a round (it has minibatches of 64).

    The paper's rate 5e-5 and clip 0.01 are for deep conv nets and long trainings. The small nets here learn next to
    nothing with them; 5e-4 and 0.1, the defaults, are better on the ring and on digits (kde_ll of one seed after
    1,500 rounds with ema: -8 and 7 nats).

    Searched as in Lucic et al. 2018: the clip from 1e-3 to 1, the rate from 1e-5 to 1e-2, 1 or 5 updates of the critic.
    """

    clip: float = tunable(
        0.1, log=(1e-3, 1.0)
    )  # greatest absolute value of a weight of the critic; the paper: 0.01
    net: Literal["mlp", "conv"] = "mlp"  # fully connected, or DCGAN's convolutional nets (images only)
    z_dim: int = 64  # latent numbers, N(0, 1)
    width: int = 128  # units of a hidden layer, or channels at the fine end of a conv net
    depth: int = 2  # hidden layers of a fully connected net
    lr: float = tunable(5e-4, log=(1e-5, 1e-2))  # RMSprop's learning rate of both players; the paper: 5e-5
    d_steps: int = tunable(5, among=(1, 5))  # updates of the critic in each round

    def game(self, data):
        return Game(
            nets=adversaries(data, net=self.net, z_dim=self.z_dim, width=self.width, depth=self.depth),
            players={
                "D": Player("D", self.d_loss, RMSprop(self.lr), steps=self.d_steps, project=self.clipped),
                "G": Player("G", self.g_loss, RMSprop(self.lr)),
            },
            draws={"z": (self.z_dim,)},
            sample=lambda nets, z: nets.G(z),
        )

    def clipped(self, parameters):
        return parameters.clamp(-self.clip, self.clip)

    def d_loss(self, nets, b):
        return nets.D(nets.G(b.z)).mean() - nets.D(b.x).mean()

    def g_loss(self, nets, b):
        return -nets.D(nets.G(b.z)).mean()
