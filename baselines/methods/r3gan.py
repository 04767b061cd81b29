"""The relativistic GAN with penalties on real and generated examples."""

from dataclasses import dataclass
from typing import Literal

from ganbench import Adam, Game, Player, adversaries, bce_real, gradient_norm, method, tunable


@method("r3gan", provides=("discriminator",))
@dataclass(frozen=True)
class R3GAN:
    """Huang et al. 2024, eq. 2-4: a relativistic pairing loss, with zero-centred gradient penalties on both sides.

    D descends E softplus(-(D(x) - D(G(z)))) + γ/2 E‖∇D(x)‖² (R1) + γ/2 E‖∇D(G(z))‖² (R2), G descends
    E softplus(-(D(G(z)) - D(x))): each generated example is judged against a real one, so no mode can be left alone.
    The paper's nets are residual, without normalisation, and its Adam has β1 0, learning rates falling from 2e-4 to
    5e-5 and γ chosen for the data set; here the nets are plain, the rates constant, D without BatchNorm.

    Searched: γ from 0.05 to 50, since the authors chose it for each data set over more than two decades; the rate.
    """

    gamma: float = tunable(1.0, log=(0.05, 50))  # γ, strength of both penalties
    net: Literal["mlp", "conv"] = "mlp"  # fully connected, or DCGAN's convolutional nets (images only)
    z_dim: int = 64  # latent numbers, N(0, 1)
    width: int = 128  # units of a hidden layer, or channels at the fine end of a conv net
    depth: int = 2  # hidden layers of a fully connected net
    lr: float = tunable(2e-4, log=(1e-4, 1e-2))  # Adam's learning rate of both players
    betas: tuple[float, float] = (0.0, 0.99)  # of Adam

    def game(self, data):
        size = {"z_dim": self.z_dim, "width": self.width, "depth": self.depth}
        return Game(
            nets=adversaries(data, net=self.net, norm=False, **size),
            players={
                "D": Player("D", self.d_loss, Adam(self.lr, self.betas)),
                "G": Player("G", self.g_loss, Adam(self.lr, self.betas)),
            },
            draws={"z": (self.z_dim,)},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        fake = nets.G(b.z)
        slopes = gradient_norm(nets.D, b.x).square() + gradient_norm(nets.D, fake).square()
        return bce_real(nets.D(b.x) - nets.D(fake)) + 0.5 * self.gamma * slopes.mean()

    def g_loss(self, nets, b):
        return bce_real(nets.D(nets.G(b.z)) - nets.D(b.x))
