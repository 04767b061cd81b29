"""The GAN whose discriminator judges several examples at once."""

from dataclasses import dataclass
from typing import Literal

from ganbench import (
    Adam,
    Game,
    Player,
    adversaries,
    bce_fake,
    bce_real,
    conv_discriminator,
    method,
    mlp,
    tunable,
)


@method("pacgan")
@dataclass(frozen=True)
class PacGAN:
    """Lin et al. 2018, section 2: D judges `pack` examples together, all real or all generated.

    A minibatch [B, C, ...] goes to D as [B/pack, pack · C, ...]; examples that fill no pack are left out. Losses
    are those of a non-saturating GAN. For the ring and grid the paper has packs of 2 to 4, z_dim 2, G of four
    layers of 400 with BatchNorm, D of three layers of maxout (200 × 5), Adam 1e-4 with betas (0.8, 0.999) and
    minibatches of 100; as in the paper only D's first layer grows with `pack`.

    Searched: two to four examples, as in the paper; the rate over two decades, the usual betas of GANs.
    """

    pack: int = tunable(2, among=(2, 3, 4))  # examples that D sees together; 1 is the plain GAN
    net: Literal["mlp", "conv"] = "mlp"  # fully connected, or DCGAN's convolutional nets (images only)
    z_dim: int = 64  # latent numbers, N(0, 1)
    width: int = 128  # units of a hidden layer, or channels at the fine end of a conv net
    depth: int = 2  # hidden layers of a fully connected net
    lr: float = tunable(1e-3, log=(1e-4, 1e-2))  # Adam's learning rate of both players
    betas: tuple[float, float] = tunable(
        (0.5, 0.999), among=((0.0, 0.99), (0.5, 0.999), (0.9, 0.999))
    )  # of Adam

    def game(self, data):
        nets = adversaries(data, net=self.net, z_dim=self.z_dim, width=self.width, depth=self.depth)
        packed = (self.pack * data.shape[0], *data.shape[1:])
        hidden = [self.width] * self.depth
        conv = self.net == "conv"
        nets["D"] = conv_discriminator(packed, self.width) if conv else mlp(packed, *hidden, 1)
        return Game(
            nets=nets,
            players={
                "D": Player("D", self.d_loss, Adam(self.lr, self.betas)),
                "G": Player("G", self.g_loss, Adam(self.lr, self.betas)),
            },
            draws={"z": (self.z_dim,)},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        return bce_real(nets.D(self.packs(b.x))) + bce_fake(nets.D(self.packs(nets.G(b.z))))

    def g_loss(self, nets, b):
        return bce_real(nets.D(self.packs(nets.G(b.z))))

    def packs(self, x):
        """[B, C, ...] -> [B // pack, pack · C, ...]"""
        whole = x[: len(x) - len(x) % self.pack]
        return whole.unflatten(0, (-1, self.pack)).flatten(1, 2)
