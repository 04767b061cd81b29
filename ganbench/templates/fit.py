"""A method with a training loop of its own. In a suite beside it: `methods: [gan, ./mine.py]`."""

from dataclasses import dataclass

import torch
from torch.nn.functional import softplus

from ganbench import method, mlp


@method  # the name in tables is the class's, in snake_case; @method("another") gives another
@dataclass(frozen=True)
class Mine:
    """Goodfellow et al. 2014, Algorithm 1, as a plain PyTorch loop. First say where yours comes from."""

    z_dim: int = 16  # latent numbers, N(0, 1); every parameter needs a default and such a comment
    width: int = 64  # units of a hidden layer
    lr: float = 1e-3  # Adam's learning rate of both nets

    def fit(self, data, seed, budget):
        """Train one seed, return its sampler. PyTorch's global generators are seeded for it; seed others yourself."""
        to = {"device": budget.device, "dtype": budget.dtype}
        g = mlp(self.z_dim, self.width, self.width, data.shape, squash=data.scale).to(**to)  # any nn.Module
        d = mlp(data.shape, self.width, self.width, 1).to(**to)
        g_adam, d_adam = (torch.optim.Adam(net.parameters(), self.lr) for net in (g, d))

        for _ in range(budget.steps):  # a step: one minibatch, after which every net has moved once
            rows = torch.randint(len(data.train), (budget.batch,))
            real = data.floats(data.train[rows]).to(**to)  # [B, *shape]; images are stored as bytes
            fake = g(torch.randn(budget.batch, self.z_dim, **to))
            d_loss = softplus(-d(real)).mean() + softplus(d(fake.detach())).mean()
            d_adam.zero_grad()
            d_loss.backward()
            d_adam.step()
            g_adam.zero_grad()
            softplus(-d(fake)).mean().backward()
            g_adam.step()

        def sampler(n, generator):
            """n fresh samples [n, *shape], floats in data.scale; all random numbers come from the generator."""
            with torch.no_grad():
                return g(torch.randn(n, self.z_dim, generator=generator, **to))

        return sampler
