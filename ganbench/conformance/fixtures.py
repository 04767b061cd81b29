"""Small data, a small GAN and a model for the checks of plugins."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Generator, Tensor

from .. import registry
from ..contracts import Data, Draw, Game, Labels, Modes, Player, method
from ..execution import worker
from ..nets import adversaries, bce_fake, bce_real, mlp
from ..optim import Adam
from ..suite.spec import PluginSpec
from ..training.rng import generator

N = 400  # examples of each split


def plane() -> Data:
    """A mixture of two Gaussians in the plane, with modes, log density and labels."""
    centers, std = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), 0.2

    def split(seed: int) -> tuple[Tensor, Tensor]:
        generator = Generator().manual_seed(seed)
        labels = torch.randint(0, 2, (N,), generator=generator)
        return centers[labels] + std * torch.randn(N, 2, generator=generator), labels

    def log_density(x: Tensor) -> Tensor:
        square = (x.unsqueeze(1) - centers.to(x)).square().sum(-1) / std**2
        return torch.logsumexp(-square / 2, 1) - math.log(2 * 2 * math.pi * std**2)

    (train, y), (valid, y_valid), (test, y_test) = map(split, range(3))
    labels = Labels(y, y_valid, y_test)
    return Data("plane", train, valid, test, (2,), None, Modes(centers, std), log_density, labels, ("a", "b"))


def images(side: int = 28) -> Data:
    """Images of one bright square each, in one of two corners."""

    # Integers with noise, so that no two images are the same and every split has its own.
    def split(seed: int) -> tuple[Tensor, Tensor]:
        generator = Generator().manual_seed(seed)
        labels = torch.randint(0, 2, (N,), generator=generator)
        x = torch.randint(0, 60, (N, 1, side, side), generator=generator)
        x[labels == 0, :, : side // 2, : side // 2] += 150
        x[labels == 1, :, side // 2 :, side // 2 :] += 150
        return x.to(torch.uint8), labels

    (train, y), (valid, y_valid), (test, y_test) = map(split, range(3))
    labels = Labels(y, y_valid, y_test)
    return Data("images", train, valid, test, (1, side, side), (0.0, 1.0), labels=labels, classes=("a", "b"))


def suitable(needs: Collection[str]) -> Data | None:
    """Small data with the features that a plugin needs: points, images, or the first suitable shipped dataset."""
    # `SampledModel` has a generator and a discriminator on any data.
    needs = set(needs) - {"generator", "discriminator"}
    if needs <= {"modes", "log_density", "labels"}:
        return plane()
    if needs <= {"pixels", "labels"}:
        return images(8)
    known = registry.catalog()["dataset"].values()
    fit = [p.name for p in known if needs <= {*p.provides} and not any(one.required for one in p.params)]
    return load_data(fit[0]) if fit else None


def load_data(name: str) -> Data:
    """A dataset by its name or file, with its default parameters. Raises PluginError and DatasetError."""
    return worker.load_data(PluginSpec(registry.find("dataset", name), {}))


@method("reference")
@dataclass(frozen=True)
class Reference:
    """Goodfellow et al. 2014, Algorithm 1: the GAN for checking tricks. Its generator has BatchNorm."""

    net: str = "mlp"  # of both, "mlp" or "conv"

    def game(self, data: Data) -> Game:
        """The game."""
        nets = adversaries(data, net=self.net, z_dim=4, width=16)
        if self.net == "mlp":  # with BatchNorm, for tricks that look for it
            nets["G"] = mlp(4, 16, 16, data.shape, norm=True, squash=data.scale)
        players = {
            "D": Player("D", lambda n, b: bce_real(n.D(b.x)) + bce_fake(n.D(n.G(b.z))), Adam(1e-2)),
            "G": Player("G", lambda n, b: bce_real(n.D(n.G(b.z))), Adam(1e-2)),
        }
        return Game(nets, players, {"z": (4,)}, lambda n, z: n.G(z))


class SampledModel:
    """A model whose samples are the validation examples, whose generator is a fixed linear map, and whose game is that
    of `Reference`, untrained."""

    latent = Draw((4,))

    def __init__(self, data: Data) -> None:
        self.data = data
        self.made = data.floats(data.valid)
        self.map = torch.randn(4, math.prod(data.shape), generator=self.generator("map"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.game: Game = Reference().game(data)
        self.nets = SimpleNamespace(**{name: net.eval() for name, net in self.game.nets.items()})

    def samples(self, n: int) -> Tensor:
        """The first n samples; beyond the examples, these are repeated with a small offset."""
        # The offset keeps them distinct, since equal samples look like collapse.
        times = -(-n // len(self.made))
        blocks = [self.made + 1e-3 * turn for turn in range(times)]
        return torch.cat(blocks)[:n]

    def generate(self, z: Tensor) -> Tensor:
        """Latents [n, 4] to [n, *shape]."""
        flat = z @ self.map.to(z)
        return (flat if self.data.scale is None else torch.sigmoid(flat)).unflatten(1, self.data.shape)

    def stages(self, z: Tensor) -> tuple[Tensor, ...]:
        """None: a single step."""
        return ()

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The parameters."""
        return {"G.weight": self.map}

    def generator(self, purpose: str) -> Generator:
        """A generator, always the same for the same purpose."""
        return generator(0, purpose)
