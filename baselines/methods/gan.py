"""The generative adversarial network."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from ganbench import (
    Adam,
    Game,
    Player,
    bce_fake,
    bce_real,
    conv_discriminator,
    conv_generator,
    method,
    mlp,
    orthogonal,
    tunable,
)


@method(provides=("discriminator",))
@dataclass(frozen=True)
class GAN:
    """Goodfellow et al. 2014, Algorithm 1: a generator against a discriminator.

    D ascends E log D(x) + E log(1 - D(G(z))) (eq. 1). G descends -E log D(G(z)) (non-saturating,
    section 3), or E log(1 - D(G(z))) (minimax, eq. 1). Losses in nats; G(z) lies in the data's scale.

    Searched: both rates over two decades around 1e-3 (the papers' 1e-4 and 2e-4 are in them), and D's updates,
    of which Goodfellow et al. took 1 and Lucic et al. 2018 also 5.
    """

    loss: Literal["non-saturating", "minimax"] = "non-saturating"  # of the generator
    net: Literal["mlp", "conv"] = "mlp"  # fully connected, or small convolutional nets (images only)
    z_dim: int = 64  # latent numbers, N(0, 1)
    width: int = 128  # units of a hidden layer, or channels at the fine end of a conv net
    depth: int = 2  # hidden layers of a fully connected net
    activation: Literal["relu", "tanh"] = "relu"  # of a fully connected net
    gain: float | None = None  # orthogonal weights times this in a fully connected net; PyTorch's own if null
    g_lr: float = tunable(1e-3, log=(1e-4, 1e-2))  # Adam's learning rate of the generator
    d_lr: float = tunable(1e-3, log=(1e-4, 1e-2))  # Adam's learning rate of the discriminator
    d_steps: int = tunable(1, among=(1, 2, 5))  # discriminator updates in each round

    def game(self, data):
        nets = self._conv(data) if self.net == "conv" else self._mlp(data)
        return Game(
            nets=nets,
            players={
                "D": Player("D", self.d_loss, Adam(self.d_lr), steps=self.d_steps),
                "G": Player("G", self.g_loss, Adam(self.g_lr)),
            },
            draws={"z": (self.z_dim,)},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        return bce_real(nets.D(b.x)) + bce_fake(nets.D(nets.G(b.z)))

    def g_loss(self, nets, b):
        logits = nets.D(nets.G(b.z))
        return bce_real(logits) if self.loss == "non-saturating" else -bce_fake(logits)

    def _mlp(self, data):
        hidden = [self.width] * self.depth
        style = {
            "activation": {"relu": nn.ReLU, "tanh": nn.Tanh}[self.activation],
            "init": None if self.gain is None else orthogonal(self.gain),
        }
        return {
            "G": mlp(self.z_dim, *hidden, data.shape, squash=data.scale, **style),
            "D": mlp(data.shape, *hidden, 1, **style),
        }

    def _conv(self, data):
        return {
            "G": conv_generator(self.z_dim, data.shape, self.width, squash=data.scale),
            "D": conv_discriminator(data.shape, self.width),
        }
