"""Stand-ins for trained models and data, for the tests of metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from ganbench.contracts import Data, Draw, Game
from ganbench.errors import SampleError


@dataclass
class Samples:
    """A model of which only samples are available."""

    made: Tensor
    latent: Draw | None = None
    net: Callable[[Tensor], Tensor] | None = None
    game: Game | None = None
    nets: Any = None

    def samples(self, n: int) -> Tensor:
        if n > len(self.made):
            raise SampleError(f"{n} samples are needed, {len(self.made)} are available")
        return self.made[:n]

    def generate(self, z: Tensor) -> Tensor:
        assert self.net is not None
        return self.net(z)

    def stages(self, z: Tensor) -> tuple[Tensor, ...]:
        return ()

    def generator(self, purpose: str) -> Generator:
        return torch.Generator().manual_seed(len(purpose))


def gaussian_data(n: int = 600, d: int = 3) -> Data:
    """Standard normal data [n, d] in each split."""
    generator = torch.Generator().manual_seed(5)
    train, valid, test = (torch.randn(n, d, generator=generator) for _ in range(3))
    return Data("gaussian", train, valid, test, (d,))


def image_data(n: int = 200) -> Data:
    """Images of random bytes [n, 1, 4, 4]."""
    generator = torch.Generator().manual_seed(6)
    splits = (torch.randint(0, 256, (n, 1, 4, 4), generator=generator, dtype=torch.uint8) for _ in range(3))
    return Data("noise", *splits, (1, 4, 4), scale=(0.0, 1.0))
