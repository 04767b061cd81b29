"""The small convolutional nets with which unrolled GANs were measured on images."""

from dataclasses import dataclass

from torch import nn

from ganbench import (
    Adam,
    BatchNorm,
    Game,
    Player,
    PluginError,
    Rescale,
    Sequential,
    bce_fake,
    bce_real,
    method,
    tunable,
)


@method("metz_2017", provides=("discriminator",))
@dataclass(frozen=True)
class Metz2017:
    """Metz et al. 2017, appendix C (stacked MNIST): a discriminator whose size is a fraction of its generator's.

    G: a linear layer to 4×4×64, then 3×3 transposed convolutions of stride 2 to 32, 16 and 8 channels with
    BatchNorm and ReLU, and a convolution to tanh. D: 3×3 convolutions of stride 2 to `d_width`, 2 · d_width and
    4 · d_width channels with BatchNorm and leaky ReLU 0.3, and a linear layer: `d_width` 8 mirrors G, 4 and 2 are
    the paper's D of ½ and ¼. The layers are those that a replica has; that D's first layer has BatchNorm too, and
    the weights' start (PyTorch's), are not confirmed. Images of 28 or 32 pixels. Losses are those of a
    non-saturating GAN; the paper has 500,000 steps of minibatches of 128.

    Searched: both rates, from a fifth of the paper's to ten times them.
    """

    d_width: int = 4  # channels of D's first layer
    z_dim: int = 256  # latent numbers, N(0, 1)
    g_lr: float = tunable(1e-4, log=(2e-5, 2e-3))  # Adam's learning rate of the generator
    d_lr: float = tunable(2e-4, log=(2e-5, 2e-3))  # Adam's learning rate of the discriminator
    betas: tuple[float, float] = (0.5, 0.99)  # of Adam

    def game(self, data):
        if len(data.shape) != 3 or data.shape[1:] not in ((28, 28), (32, 32)):
            raise PluginError(
                "metz_2017: the data are no images of 28 × 28 or 32 × 32 pixels; "
                f"one example has the shape {list(data.shape)}"
            )
        return Game(
            nets={"G": self._generator(data), "D": self._discriminator(data)},
            players={
                "D": Player("D", self.d_loss, Adam(self.d_lr, self.betas)),
                "G": Player("G", self.g_loss, Adam(self.g_lr, self.betas)),
            },
            draws={"z": (self.z_dim,)},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        return bce_real(nets.D(b.x)) + bce_fake(nets.D(nets.G(b.z)))

    def g_loss(self, nets, b):
        return bce_real(nets.D(nets.G(b.z)))

    def _generator(self, data):
        """z [B, z_dim] -> [B, *shape]."""
        layers = [nn.Linear(self.z_dim, 64 * 16), nn.Unflatten(1, (64, 4, 4)), BatchNorm(64), nn.ReLU()]
        wide, odd = 64, data.shape[-1] == 28  # 4, 7, 14, 28 or 4, 8, 16, 32
        for after in (32, 16, 8):
            up = nn.ConvTranspose2d(wide, after, 3, stride=2, padding=1, output_padding=0 if odd else 1)
            layers += [up, BatchNorm(after), nn.ReLU()]
            wide, odd = after, False
        last = nn.Conv2d(wide, data.shape[0], 3, padding=1)
        return Sequential(*layers, last, nn.Tanh(), Rescale((-1.0, 1.0), data.scale))

    def _discriminator(self, data):
        """Examples [B, *shape] -> logits [B, 1]."""
        layers, before = [Rescale(data.scale, (-1.0, 1.0))], data.shape[0]
        for wide in (self.d_width, 2 * self.d_width, 4 * self.d_width):
            conv = nn.Conv2d(before, wide, 3, stride=2, padding=1)
            layers += [conv, BatchNorm(wide), nn.LeakyReLU(0.3)]
            before = wide
        return Sequential(*layers, nn.Flatten(), nn.Linear(before * 16, 1))
