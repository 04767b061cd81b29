"""Generative samplers trained by f-divergences."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from ganbench import (
    Adam,
    Divergence,
    Draw,
    Game,
    Player,
    conv_discriminator,
    conv_generator,
    find_divergence,
    method,
    mlp,
    tunable,
)


@method(provides=("bound", "discriminator"))
@dataclass(frozen=True)
class FGAN:
    """Nowozin et al. 2016, Algorithm 1: a generator against the variational bound of an f-divergence.

    F = E[g_f(V(x))] - E[f*(g_f(V(G(z))))] (eq. 6) bounds D_f(data ‖ G) from below; V, the net D here, ascends it,
    and G descends it from the same point on the same minibatch (single-step saddle-point gradient), or ascends
    E[g_f(V(G(z)))] (section 3.2, "log D"). A divergence of your own is one small file, named as `./mine.py`.
    The paper's MNIST nets are z_dim 100, z uniform, lr 2e-4, minibatches of 4096 (these confirmed by a
    reimplementation), g_width 1200, g_norm, g_init 0.05, v_width 240, v_init 0.005 (these not); its univariate
    example has a linear G, g_depth 0, and a V of 64 tanh units twice. The defaults here are for small data.

    Searched: the rate over two decades around Adam's default, the usual betas of GANs and Adam's own.
    """

    divergence: str | Divergence = "jensen-shannon"  # its name or file, or {alpha: {alpha: 2}}
    loss: Literal["saddle-point", "log-d"] = "saddle-point"  # of the generator
    net: Literal["mlp", "conv"] = "mlp"  # fully connected, or DCGAN's convolutional nets (images only)
    z: Literal["normal", "uniform"] = "normal"  # latents N(0, 1), or uniform in [-1, 1)
    z_dim: int = 64  # latent numbers
    g_width: int = 128  # ReLU units of a hidden layer of G, or channels at the fine end of a conv net
    g_depth: int = 2  # hidden layers of a fully connected G
    g_norm: bool = False  # BatchNorm in a fully connected G
    g_init: float | None = None  # standard deviation of a fully connected G's first weights, or PyTorch's
    v_width: int = 128  # units of a hidden layer of V, or channels at the fine end of a conv net
    v_depth: int = 2  # hidden layers of a fully connected V
    v_activation: Literal["elu", "tanh"] = "elu"  # of a fully connected V; tanh keeps its output bounded
    v_init: float | None = None  # standard deviation of a fully connected V's first weights, or PyTorch's
    lr: float = tunable(1e-3, log=(1e-4, 1e-2))  # Adam's learning rate of both players
    betas: tuple[float, float] = tunable(
        (0.5, 0.999), among=((0.0, 0.99), (0.5, 0.999), (0.9, 0.999))
    )  # of Adam

    def game(self, data):
        f = find_divergence(self.divergence)
        losses = {"saddle-point": self.saddle_point, "log-d": self.log_d}
        optimiser = Adam(self.lr, self.betas)
        return Game(
            nets=self._conv(data) if self.net == "conv" else self._mlp(data),
            players={
                "D": Player("D", lambda nets, b: -self.bound(f, nets, b), optimiser),
                "G": Player("G", lambda nets, b: losses[self.loss](f, nets, b), optimiser),
            },
            draws={
                "z": Draw.uniform(self.z_dim, low=-1.0) if self.z == "uniform" else Draw.normal(self.z_dim)
            },
            sample=lambda nets, z: nets.G(z),
            order="simultaneous",
            bound=("D", f),
        )

    def bound(self, f, nets, b):
        """F, in the units of the divergence."""
        return f.activation(nets.D(b.x)).mean() - f.composed(nets.D(nets.G(b.z))).mean()

    def saddle_point(self, f, nets, b):
        """The part of F that depends on G."""
        return -f.composed(nets.D(nets.G(b.z))).mean()

    def log_d(self, f, nets, b):
        return -f.activation(nets.D(nets.G(b.z))).mean()

    def _mlp(self, data):
        g, v = [self.g_width] * self.g_depth, [self.v_width] * self.v_depth
        activation = {"elu": nn.ELU, "tanh": nn.Tanh}[self.v_activation]
        return {
            "G": mlp(
                self.z_dim, *g, data.shape, norm=self.g_norm, squash=data.scale, init=_normal(self.g_init)
            ),
            "D": mlp(data.shape, *v, 1, activation=activation, init=_normal(self.v_init)),
        }

    def _conv(self, data):
        return {
            "G": conv_generator(self.z_dim, data.shape, self.g_width, squash=data.scale),
            "D": conv_discriminator(data.shape, self.v_width),
        }


def _normal(std):
    """Weights N(0, std²) and no biases, for `mlp`."""

    def init(linear):
        nn.init.normal_(linear.weight, 0.0, std)
        nn.init.zeros_(linear.bias)

    return None if std is None else init
