"""The variational autoencoder."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ganbench import Adam, Game, Player, method, mlp, tunable


@method
@dataclass(frozen=True)
class VAE:
    """Kingma & Welling 2014, eq. 10: a decoder trained with an approximate posterior.

    One player descends the negative evidence lower bound in nats for each example: a Bernoulli likelihood for
    data in a known scale (section C.1), a Gaussian one of standard deviation `noise` otherwise (C.2);
    samples are the means of the decoder. The f-GAN paper's baseline has 20 latents.

    Searched: the rate over two decades, and the noise of unbounded data, which has the unit of the data.
    """

    z_dim: int = 20  # latent numbers, N(0, 1)
    width: int = 400  # units of each of the two hidden layers
    lr: float = tunable(1e-3, log=(1e-4, 1e-2))  # Adam's learning rate
    noise: float = tunable(
        0.1, log=(0.01, 1.0)
    )  # standard deviation of the likelihood where the data has no scale

    def game(self, data):
        self_scale = data.scale
        return Game(
            nets={
                "encoder": mlp(data.shape, self.width, self.width, 2 * self.z_dim),
                "decoder": mlp(self.z_dim, self.width, self.width, data.shape),
            },
            players={
                "VAE": Player(
                    ("encoder", "decoder"),
                    lambda nets, b: self.loss(nets, b, self_scale),
                    Adam(self.lr, betas=(0.9, 0.999)),
                )
            },
            draws={"z": (self.z_dim,)},
            sample=lambda nets, z: _mean(nets.decoder(z), self_scale),
        )

    def loss(self, nets, b, scale):
        """Minus the evidence lower bound of a minibatch, mean over its examples, nats."""
        mean, log_var = nets.encoder(b.x).chunk(2, dim=1)
        out = nets.decoder(mean + torch.exp(0.5 * log_var) * b.z)
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1).mean()
        if scale is None:
            return kl + 0.5 * ((b.x - out) / self.noise).square().flatten(1).sum(1).mean()
        low, high = scale
        target = (b.x - low) / (high - low)
        return kl + F.binary_cross_entropy_with_logits(out, target, reduction="none").flatten(1).sum(1).mean()


def _mean(out, scale):
    if scale is None:
        return out
    low, high = scale
    return torch.sigmoid(out) * (high - low) + low
