"""The models that metrics score: a trained game with its nets, or stored samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from ..contracts import Data, Game, Model
from ..errors import SampleError
from ..sample_counts import too_few
from ..samples import Samples
from .rng import build_game, fill, generator, latents
from .stack import GameLayout, Replica

if TYPE_CHECKING:
    from ..suite.plan import Cell

SAMPLE_BLOCK = 1000  # samples generated at a time; fixed, so that the first n samples do not depend on n


def model(
    cell: Cell,
    data: Data,
    seed: int,
    state: dict[str, Tensor],
    samples: Tensor | None,
    *,
    device: str = "cpu",
) -> Model:
    """The model of a stored seed: a SampleModel if `samples` are given, else a TrainedModel."""
    if samples is not None:
        return SampleModel(seed, samples, state, data=data, device=device)
    return TrainedModel(build_game(cell, data, seed), seed, state, torch.device(device))


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
        """samples: pixels or floats; converted to floats in the scale of `data` on `device` when they are requested"""
        self.seed, self.stored, self.state, self.data, self.device = seed, samples, state or {}, data, device
        self.max_requested = 0  # largest number of samples in one request

    def samples(self, n: int) -> Tensor:
        self.max_requested = max(self.max_requested, n)
        if n > len(self.stored):
            raise SampleError(too_few(n, len(self.stored)))
        taken = self.stored[:n].to(self.device)
        return self.data.floats(taken) if self.data else taken

    def generate(self, z: Tensor) -> Tensor:
        raise SampleError("only samples are available, not the generator that made them")

    def stages(self, z: Tensor) -> tuple[Tensor, ...]:
        return ()

    def generator(self, purpose: str) -> Generator:
        return generator(self.seed, f"score/{purpose}")


class TrainedModel:
    """A trained seed of a game: its nets in eval mode, so that no sample depends on the batch that it is made in."""

    def __init__(self, game: Game, seed: int, state: Mapping[str, Tensor], device: torch.device) -> None:
        self.game, self.seed, self.device, self.state = game, seed, device, state
        self.latent = game.draw(game.latent)
        self.dtype = next((t.dtype for t in state.values() if t.is_floating_point()), torch.float32)
        for net, module in game.nets.items():
            prefix = f"{net}."
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            module.load_state_dict(own)
            module.to(device=device, dtype=self.dtype).eval().requires_grad_(False)
        layout = GameLayout.of(game)
        params = {
            player: parameters.pack(game.nets).to(device, self.dtype)
            for player, parameters in layout.players.items()
        }
        buffers = {
            net: dict(module.named_buffers(remove_duplicate=False)) for net, module in game.nets.items()
        }
        # "memory.ema.G.0.weight" is the entry "G.0.weight" of the memory "ema"; "memory.mean" is a single tensor.
        memory: dict[str, Any] = {}
        for key, tensor in state.items():
            prefix, _, name = key.partition(".")
            outer, _, inner = name.partition(".")
            if prefix == "memory" and inner:
                memory.setdefault(outer, {})[inner] = tensor.to(device)
            elif prefix == "memory":
                memory[outer] = tensor.to(device)
        self.nets = Replica(layout, params, {}, memory, buffers, None)
        self.cache = torch.empty(0, *self.generate(self._latents(1, "shape")).shape[1:], device=device)
        self.stream = self.generator("samples")

    def _latents(self, n: int, purpose: str) -> Tensor:
        return latents(self.game, self.seed, n, self.device, self.dtype, f"score/{purpose}")

    def samples(self, n: int) -> Tensor:
        with torch.no_grad():
            blocks = [self.cache]
            while sum(map(len, blocks)) < n:
                z = torch.empty((SAMPLE_BLOCK, *self.latent.shape), dtype=self.dtype)  # `generate` moves it
                blocks.append(self.generate(fill(z, self.latent, self.stream)).float())
            self.cache = torch.cat(blocks) if len(blocks) > 1 else self.cache
        return self.cache[:n]

    def generate(self, z: Tensor) -> Tensor:
        return self.game.sample(self.nets, z.to(self.device, self.dtype))

    def stages(self, z: Tensor) -> tuple[Tensor, ...]:
        return self.game.stages(self.nets, z.to(self.device, self.dtype)) if self.game.stages else ()

    def generator(self, purpose: str) -> Generator:
        return generator(self.seed, f"score/{purpose}")
