"""A DCGAN whose architectural rules can be left out one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
)

UNITS = {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.2), "tanh": nn.Tanh}
Unit = Literal["relu", "leaky_relu", "tanh"]


@method(provides=("discriminator",))
@dataclass(frozen=True)
class DCGANRules:
    """Radford et al. 2016, section 3: the five rules, each of which a field leaves out.

    Two convolutions of 5×5 in each net, `width` channels at the fine end and twice as many at the coarse one, which has
    a quarter of the image's side. Without strides D averages 2×2 pixels and G repeats them, beside convolutions of
    stride 1. The paper's nets have no dense hidden layer; `dense` puts one of 16 · width units into both, as its
    authors' code for 28 pixels has. Weights start from N(0, 0.02²) (section 4), or with `he` from N(0, 2/inputs), since
    without BatchNorm the scale of the first matters. Layers without BatchNorm have biases.
    """

    width: int = 8  # channels at the fine end; the paper: 64 and more
    z_dim: int = 32  # latent numbers, uniform in [-1, 1); the paper: 100
    lr: float = 2e-3  # Adam's learning rate of both players; the paper: 2e-4
    strides: bool = True  # strided convolutions in the place of pooling and of repeated pixels
    norm: bool = True  # BatchNorm in both nets, but at G's output and D's input
    dense: bool = False  # a dense hidden layer in both nets
    g_unit: Unit = "relu"  # activation of G
    d_unit: Unit = "leaky_relu"  # activation of D
    he: bool = False  # initial weights by their number of inputs

    def game(self, data):
        if len(data.shape) != 3 or data.shape[1] != data.shape[2] or data.shape[1] % 4:
            raise PluginError(
                "dcgan_rules: the data are no square images whose side is a multiple of 4; "
                f"one example has the shape {list(data.shape)}"
            )
        return Game(
            nets={"G": self._generator(data), "D": self._discriminator(data)},
            players={
                "D": Player("D", self.d_loss, Adam(self.lr, (0.5, 0.999))),
                "G": Player("G", self.g_loss, Adam(self.lr, (0.5, 0.999))),
            },
            draws={"z": Draw.uniform(self.z_dim, low=-1.0)},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        return bce_real(nets.D(b.x)) + bce_fake(nets.D(nets.G(b.z)))

    def g_loss(self, nets, b):
        return bce_real(nets.D(nets.G(b.z)))

    def _generator(self, data):
        """z [B, z_dim] -> [B, *shape]."""
        side, unit, layers, size = data.shape[1] // 4, UNITS[self.g_unit], [], self.z_dim
        if self.dense:
            layers, size = [*self._block(nn.Linear, size, 16 * self.width), unit()], 16 * self.width
        layers += [*self._block(nn.Linear, size, 2 * self.width * side * side), unit()]
        layers += [nn.Unflatten(1, (2 * self.width, side, side))]
        layers += [*self._block(self._up, 2 * self.width, self.width), unit()]
        layers += [*self._up(self.width, data.shape[0]), nn.Tanh(), Rescale((-1.0, 1.0), data.scale)]
        return Sequential(*layers).apply(self._init)

    def _discriminator(self, data):
        """Examples [B, *shape] -> logits [B, 1]."""
        unit, size = UNITS[self.d_unit], 2 * self.width * (data.shape[1] // 4) ** 2
        layers = [Rescale(data.scale, (-1.0, 1.0)), *self._down(data.shape[0], self.width), unit()]
        layers += [*self._block(self._down, self.width, 2 * self.width), unit(), nn.Flatten()]
        if self.dense:
            layers, size = [*layers, *self._block(nn.Linear, size, 16 * self.width), unit()], 16 * self.width
        return Sequential(*layers, nn.Linear(size, 1)).apply(self._init)

    def _block(self, make, before, after):
        """A layer with BatchNorm, which takes the place of its biases, or one with biases."""
        layers = make(before, after, bias=not self.norm)
        layers = layers if isinstance(layers, list) else [layers]
        return [*layers, BatchNorm(after)] if self.norm else layers

    def _up(self, before, after, bias=True):
        """Twice the side."""
        if self.strides:
            return [nn.ConvTranspose2d(before, after, 5, stride=2, padding=2, output_padding=1, bias=bias)]
        return [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 5, padding=2, bias=bias)]

    def _down(self, before, after, bias=True):
        """Half the side."""
        if self.strides:
            return [nn.Conv2d(before, after, 5, stride=2, padding=2, bias=bias)]
        return [nn.Conv2d(before, after, 5, padding=2, bias=bias), nn.AvgPool2d(2)]

    def _init(self, module):
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            return
        inputs = module.weight[0].numel()
        if isinstance(module, nn.ConvTranspose2d):
            inputs = module.in_channels * 25 / 4  # kernel over stride
        nn.init.normal_(module.weight, 0.0, (2 / inputs) ** 0.5 if self.he else 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
