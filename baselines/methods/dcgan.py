"""The deep convolutional GAN."""

from dataclasses import dataclass

from torch import nn

from ganbench import (
    Adam,
    BatchNorm,
    Draw,
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


@method(provides=("discriminator",))
@dataclass(frozen=True)
class DCGAN:
    """Radford et al. 2016, section 3: convolutions of stride 2, BatchNorm, ReLU in G, leaky ReLU in D.

    Losses are those of a non-saturating GAN. All kernels are 5×5, all weights start from N(0, 0.02²), no layer
    has a bias beside BatchNorm's, which G's output and D's input go without. The number of channels doubles
    from `width` at the fine end to the coarsest map: 4×4×1024 at 64 px (width 128; figure 1), 4×4×512 at 32 px,
    7×7×128 at 28 px (width 64), where as in the authors' code for MNIST both nets have one more fully
    connected layer of 16 · width units. D sees real and generated examples in minibatches of their own, so
    that BatchNorm takes statistics of each apart; the paper has minibatches of 128.

    Searched: the rate from a quarter of the paper's to ten times it, β1 also at 0.9 (Adam's own, which the paper found
    unstable) and 0.
    """

    width: int = 64  # channels at the fine end; the paper: 64 at 28 px, else 128
    z_dim: int = 100  # latent numbers, uniform in [-1, 1)
    lr: float = tunable(2e-4, log=(5e-5, 2e-3))  # Adam's learning rate of both players
    beta1: float = tunable(0.5, among=(0.0, 0.5, 0.9))  # of Adam

    def game(self, data):
        sides, dense = _sides(data.shape), 16 * self.width if data.shape[-1] == 28 else None
        return Game(
            nets={"G": self._generator(data, sides, dense), "D": self._discriminator(data, sides, dense)},
            players={
                "D": Player("D", self.d_loss, Adam(self.lr, (self.beta1, 0.999))),
                "G": Player("G", self.g_loss, Adam(self.lr, (self.beta1, 0.999))),
            },
            draws={"z": Draw.uniform(self.z_dim, low=-1.0)},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        return bce_real(nets.D(b.x)) + bce_fake(nets.D(nets.G(b.z)))

    def g_loss(self, nets, b):
        return bce_real(nets.D(nets.G(b.z)))

    def _generator(self, data, sides, dense):
        """z [B, z_dim] -> [B, *shape]."""
        wide, first = self.width * 2 ** (len(sides) - 1), sides[0]
        layers, size = [], self.z_dim
        if dense:
            layers, size = [nn.Linear(size, dense, bias=False), BatchNorm(dense), nn.ReLU()], dense
        flat, start = wide * first * first, nn.Unflatten(1, (wide, first, first))
        layers += [nn.Linear(size, flat, bias=False), BatchNorm(flat), nn.ReLU(), start]
        for _ in sides[1:]:
            layers += [_up(wide, wide // 2), BatchNorm(wide // 2), nn.ReLU()]
            wide //= 2
        net = Sequential(*layers, _up(wide, data.shape[0]), nn.Tanh(), Rescale((-1.0, 1.0), data.scale))
        return net.apply(_init)

    def _discriminator(self, data, sides, dense):
        """Examples [B, *shape] -> logits [B, 1]."""
        wide = self.width
        layers = [Rescale(data.scale, (-1.0, 1.0)), _down(data.shape[0], wide), nn.LeakyReLU(0.2)]
        for _ in sides[1:]:
            layers += [_down(wide, 2 * wide), BatchNorm(2 * wide), nn.LeakyReLU(0.2)]
            wide *= 2
        layers, size = [*layers, nn.Flatten()], wide * sides[0] ** 2
        if dense:
            layers += [nn.Linear(size, dense, bias=False), BatchNorm(dense), nn.LeakyReLU(0.2)]
            size = dense
        return Sequential(*layers, nn.Linear(size, 1, bias=False)).apply(_init)


def _sides(shape):
    """Sides of the feature maps, coarse to fine: 28 -> [7, 14], 64 -> [4, 8, 16, 32]."""
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] % 2 or shape[1] < 8:
        raise PluginError(
            "dcgan: the data are no square images of an even side of at least 8 pixels; "
            f"one example has the shape {list(shape)}"
        )
    sides = [shape[1] // 2]
    while sides[0] % 2 == 0 and sides[0] > 4:
        sides.insert(0, sides[0] // 2)
    return sides


def _up(before, after):
    return nn.ConvTranspose2d(before, after, 5, stride=2, padding=2, output_padding=1, bias=False)


def _down(before, after):
    return nn.Conv2d(before, after, 5, stride=2, padding=2, bias=False)


def _init(module):
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
