"""Batch normalisation by a reference batch."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from ganbench import BatchNorm, PluginError, trick


@trick
@dataclass(frozen=True)
class VirtualBatchNorm:
    """Salimans et al. 2016, section 3.5: BatchNorm of G by a reference batch and the example itself.

    The reference latents are drawn once for each seed and pass through the net beside every minibatch. With
    R of them, the mean of x and of x² that normalise an example are R/(R + 1) times those of the reference and
    1/(R + 1) times its own (over its pixels, in a convolutional net); the reference is normalised by its own
    alone. So no example depends on those it is generated with.
    """

    reference: int = 64  # latents in the reference batch, R
    net: str = "G"  # the net whose BatchNorm is replaced

    def __call__(self, game, data):
        draw = game.draw(game.latent)
        z = torch.empty(self.reference, *draw.shape)
        z = z.normal_() if draw.low is None else z.uniform_(draw.low, draw.high)
        net = deepcopy(game.net(self.net))
        places = [
            (parent, name)
            for parent in net.modules()
            for name, child in parent.named_children()
            if isinstance(child, BatchNorm)
        ]
        if not places:
            raise PluginError(
                f"virtual_batch_norm: net {self.net!r} has no BatchNorm to replace; use a net that has, "
                "such as conv_generator, or mlp with norm=True"
            )
        for parent, name in places:
            setattr(parent, name, ByReference(getattr(parent, name), self.reference))
        return game.with_net(self.net, BesideReference(net, z))


class BesideReference(nn.Module):
    """A net through which the reference batch passes before the examples. [B, ...] -> [B, ...]"""

    def __init__(self, net, z):
        super().__init__()
        self.net = net
        self.register_buffer("reference", z)

    def forward(self, z):
        return self.net(torch.cat([self.reference, z]))[len(self.reference) :]


class ByReference(nn.Module):
    """BatchNorm whose first `n` examples are the reference batch. [n + B, C, ...] -> [n + B, C, ...]"""

    def __init__(self, norm, n):
        super().__init__()
        self.weight, self.bias, self.eps, self.n = norm.weight, norm.bias, norm.eps, n

    def forward(self, x):
        reference, x = x[: self.n], x[self.n :]
        space = list(range(2, x.ndim))  # the axes over which one example has statistics
        r_var, r_mean = torch.var_mean(reference, dim=[0, *space], correction=0, keepdim=True)
        var, mean = torch.var_mean(x, dim=space, correction=0, keepdim=True) if space else (0.0, x)
        past = self.n / (self.n + 1)
        var = past * r_var + (1 - past) * var + past * (1 - past) * (r_mean - mean).square()
        mean = past * r_mean + (1 - past) * mean
        return torch.cat([self._normal(reference, r_mean, r_var), self._normal(x, mean, var)])

    def _normal(self, x, mean, var):
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (x - mean) * torch.rsqrt(var + self.eps) * self.weight.view(shape) + self.bias.view(shape)
