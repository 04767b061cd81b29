"""Random numbers: one generator for each seed and use, the minibatches of a game, and nets initialised under a seed.

Minibatches are drawn outside vmap. A seed therefore sees the same minibatches and noise whichever seeds share its
stack, and so do two methods under one seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from ..contracts import Data, Draw, Game
from ..errors import PluginError
from .stack import shared_nets

if TYPE_CHECKING:
    from ..suite.plan import Cell
    from ..suite.spec import PluginSpec

# How many random numbers of one seed and draw are generated at once. For small draws, one call for many rounds costs as
# much as a call for one; 2**18 float32 numbers are a megabyte, which stays in the CPU's cache.
BLOCK_NUMBERS = 2**18
MAX_BLOCK_ROUNDS = 64


def derive(seed: int, purpose: str) -> int:
    """An independent 63-bit seed for one use of a training seed."""
    # A hash, so that neighbouring seeds and purposes are unrelated; 63 bits, since PyTorch takes signed 64-bit seeds.
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8]) >> 1


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> Generator:
    """A generator of random numbers for one use of a training seed."""
    return Generator(device).manual_seed(derive(seed, purpose))


# ---------------------------------------------------------------------------------------------- initialisation


def build_plugin(spec: PluginSpec | None) -> Any:
    """An instance of the plugin with its parameters. Only a method made of sample files has no plugin."""
    if spec is None:
        raise PluginError("samples made by another program are not trained")
    return spec.build()


def seeded(seed: int, function: Callable[[], Any], purpose: str = "init") -> Any:
    """The result of `function`, called with PyTorch's global generators seeded for this use of `seed`. Afterwards the
    generators have their previous state again."""
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, purpose))
        return function()


def build_game(cell: Cell, data: Data, seed: int) -> Game:
    """The game of one seed: the method's game, modified by the tricks in their order.

    Raises PluginError if a trick rejects the game, or if it replaces a net that shares a layer with another net by a
    copy: two layers would be trained then instead of one.
    """
    game = seeded(seed, lambda: build_plugin(cell.method.part).game(data))
    for part in cell.method.tricks:
        before = shared_nets(game.nets)
        # Each trick has its own random numbers, so that it does not change the initial weights of the next one.
        game = seeded(seed, lambda g=game, p=part: build_plugin(p)(g, data), f"init/{part.name}")
        for first, second in sorted(before - shared_nets(game.nets)):
            raise PluginError(
                f"{part.name} replaces a net by a copy, but {first!r} and {second!r} share a layer, which would become "
                "two layers; leave the trick out, or build nets that share no layer"
            )
    return game


# ---------------------------------------------------------------------------------------------- minibatches


def minibatches_per_round(game: Game) -> int:
    """The number of minibatches in a round: one for each update, or for each simultaneous move."""
    steps = [player.steps for player in game.players.values()]
    return max(steps) if game.order == "simultaneous" else sum(steps)


def fill(out: Tensor, draw: Draw, source: Generator) -> Tensor:
    """Fill a tensor with random numbers of the distribution of a draw; returns it."""
    if draw.low is None or draw.high is None:
        return out.normal_(generator=source)
    return out.uniform_(draw.low, draw.high, generator=source)


def latents(
    game: Game, seed: int, n: int, device: torch.device, dtype: torch.dtype, purpose: str = "preview"
) -> Tensor:
    """n latents [n, ...] of a seed, for sampling from a replica (not for training). They are drawn on the CPU, so that
    a stored seed has the same samples and scores on every device."""
    draw = game.draw(game.latent)
    return fill(torch.empty((n, *draw.shape), dtype=dtype), draw, generator(seed, purpose)).to(device)


class Draws:
    """The minibatches of every seed, drawn in blocks of rounds.

    Each pair (seed, name) has its own generator, so a trick that needs more random numbers changes neither the
    minibatches nor the latents. The length of a block depends on shapes only, so that the random numbers do not depend
    on the machine.
    """

    def __init__(
        self,
        game: Game,
        data: Data,
        seeds: Sequence[int],
        batch: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.data, self.device, self.dtype, self.batch = data, device, dtype, batch
        self.train = data.train.to(device)
        self.labels = data.labels.train.to(device) if data.labels else None
        self.draws = {name: game.draw(name) for name in game.draws}
        self.updates = minibatches_per_round(game)
        names = ("x", *self.draws)  # x: the rows of the training set
        self.generators = {name: [generator(s, f"draw/{name}", device) for s in seeds] for name in names}
        widest = max([1, *(torch.Size(d.shape).numel() for d in self.draws.values())])
        rounds = BLOCK_NUMBERS // (self.updates * batch * widest)
        self.block_rounds = max(1, min(MAX_BLOCK_ROUNDS, rounds))
        self.block: dict[str, Tensor] = {}  # name -> [S, rounds, updates, B, ...]
        self.block_states: dict[str, list[Tensor]] = {}  # of the generators, before the block was drawn

    def rounds(self, steps: int, start: int = 0) -> Iterator[list[dict[str, Tensor]]]:
        """For every round from `start` on, the minibatches [S, B, ...] of its updates."""
        for step in range(start, steps):
            row = step % self.block_rounds
            if row == 0 or step == start:
                self.block_states = self._states()
                self.block = {name: self._fill(name) for name in self.generators}
            yield [
                self._minibatch({name: block[:, row, update] for name, block in self.block.items()})
                for update in range(self.updates)
            ]

    def example(self) -> list[dict[str, Tensor]]:
        """The minibatches of a round; the generators keep their state, so later minibatches do not change."""
        states = self._states()
        minibatches = next(self.rounds(1))
        self.set_random_states(states)
        return minibatches

    def _states(self) -> dict[str, list[Tensor]]:
        return {name: [one.get_state() for one in own] for name, own in self.generators.items()}

    def random_states(self, step: int) -> dict[str, list[Tensor]]:
        """The states of all generators from which `rounds(steps, start=step)` continues after `step` rounds. In the
        middle of a block, the states before the block, which will be drawn again."""
        return self.block_states if step % self.block_rounds else self._states()

    def set_random_states(self, states: Mapping[str, Sequence[Tensor]]) -> None:
        """Set the states of all generators."""
        for name, own in self.generators.items():
            for generator_, state in zip(own, states[name], strict=True):
                generator_.set_state(state.cpu())

    def _fill(self, name: str) -> Tensor:
        """Draw a block into the memory of the previous one, which is no longer needed."""
        generators, draw = self.generators[name], self.draws.get(name)
        if name not in self.block:
            size = (
                len(generators),
                self.block_rounds,
                self.updates,
                self.batch,
                *(draw.shape if draw else ()),
            )
            dtype = self.dtype if draw else torch.int64
            self.block[name] = torch.empty(size, dtype=dtype, device=self.device)
        for row, source in zip(self.block[name], generators, strict=True):
            if draw:
                fill(row, draw, source)
            else:
                row.random_(0, len(self.train), generator=source)
        return self.block[name]

    def _minibatch(self, numbers: dict[str, Tensor]) -> dict[str, Tensor]:
        index = numbers.pop("x")
        numbers["x"] = self.data.floats(self.train[index], self.dtype)
        if self.labels is not None:
            numbers["y"] = self.labels[index]
        return numbers
