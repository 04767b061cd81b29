"""What a metric sees of a trained seed: its samples, and its nets where they are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from ..contracts import Data, Game, Model
from ..errors import SampleError
from ..sample_counts import too_few
from ..samples import Samples
from .games import build
from .rng import fill, generator, latents
from .stack import GameLayout, Replica

if TYPE_CHECKING:
    from ..suite.plan import Cell

BLOCK = 1000  # samples made at a time; fixed, so that the first n never depend on n


def model(
    cell: Cell,
    data: Data,
    seed: int,
    state: dict[str, Tensor],
    samples: Tensor | None,
    *,
    device: str = "cpu",
) -> Model:
    """What a metric sees of a stored seed."""
    if samples is not None:
        return SampleModel(seed, samples, state, data=data, device=device)
    return TrainedModel(build(cell, data, seed), seed, state, torch.device(device))


class SampleModel:
    """A seed of which only samples are known."""

    latent = game = nets = None

    def __init__(
        self,
        seed: int,
        samples: Tensor | Samples,
        state: Mapping[str, Tensor] | None = None,
        *,
        data: Data | None = None,
        device: str = "cpu",
    ) -> None:
        """samples: pixels or floats, which become floats in the scale of `data` on `device` when they are taken"""
        self.seed, self.stored, self.state, self.data, self.device = seed, samples, state or {}, data, device
        self.most = 0  # samples that were asked for at once

    def samples(self, n: int) -> Tensor:
        self.most = max(self.most, n)
        if n > len(self.stored):
            raise SampleError(too_few(n, len(self.stored)))
        taken = self.stored[:n].to(self.device)
        return self.data.floats(taken) if self.data else taken

    def generate(self, z: Tensor) -> Tensor:
        raise SampleError("only samples are at hand, not the generator that made them")

    def stages(self, z: Tensor) -> tuple[Tensor, ...]:
        return ()

    def generator(self, purpose: str) -> Generator:
        return generator(self.seed, f"score/{purpose}")


class TrainedModel:
    """A seed of a game: its nets with fixed statistics, so that no sample depends on its batch."""

    def __init__(self, game: Game, seed: int, state: Mapping[str, Tensor], device: torch.device) -> None:
        self.game, self.seed, self.device, self.state = game, seed, device, state
        self.latent = game.draw(game.latent)
        self.dtype = next((t.dtype for t in state.values() if t.is_floating_point()), torch.float32)
        for net, module in game.nets.items():
            prefix = f"{net}."
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            module.load_state_dict(own)
            module.to(device=device, dtype=self.dtype).eval().requires_grad_(False)
        rules = GameLayout.of(game)
        flats = {player: layout.pack(game.nets) for player, layout in rules.layouts.items()}
        buffers = {
            net: dict(module.named_buffers(remove_duplicate=False)) for net, module in game.nets.items()
        }
        memory = _nested(
            {k.removeprefix("memory."): v.to(device) for k, v in state.items() if k.startswith("memory.")}
        )
        self.nets = Replica(
            rules, {k: v.to(device, self.dtype) for k, v in flats.items()}, {}, memory, buffers, None
        )
        self.made = torch.empty(0, *self.generate(self._latents(1, "shape")).shape[1:], device=device)
        self.stream = self.generator("samples")

    def _latents(self, n: int, purpose: str) -> Tensor:
        return latents(self.game, self.seed, n, self.device, self.dtype, f"score/{purpose}")

    def samples(self, n: int) -> Tensor:
        with torch.no_grad():
            blocks = [self.made]
            while sum(map(len, blocks)) < n:
                z = torch.empty((BLOCK, *self.latent.shape), dtype=self.dtype)  # `generate` moves it
                blocks.append(self.generate(fill(z, self.latent, self.stream)).float())
            self.made = torch.cat(blocks) if len(blocks) > 1 else self.made
        return self.made[:n]

    def generate(self, z: Tensor) -> Tensor:
        return self.game.sample(self.nets, z.to(self.device, self.dtype))

    def stages(self, z: Tensor) -> tuple[Tensor, ...]:
        return self.game.stages(self.nets, z.to(self.device, self.dtype)) if self.game.stages else ()

    def generator(self, purpose: str) -> Generator:
        return generator(self.seed, f"score/{purpose}")


def _nested(values: Mapping[str, Tensor]) -> dict[str, Any]:
    """The reverse of `_named`."""
    found: dict[str, Any] = {}
    for name, tensor in values.items():
        outer, _, inner = name.partition(".")
        if inner:
            found.setdefault(outer, {})[inner] = tensor
        else:
            found[outer] = tensor
    return found
