"""Random numbers: a generator of its own for each seed and use, and the minibatches of a game.

They are drawn outside vmap, so a seed sees the same minibatches and noise whichever seeds run beside it, and so do
two methods under one seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Generator, Tensor

from ..contracts import Data, Draw, Game

DRAWN_AHEAD = 2**18  # random numbers of one seed and draw made at a time


def derive(seed: int, purpose: str) -> int:
    """An independent 63-bit seed for one use of a training seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8]) >> 1


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> Generator:
    """A generator of random numbers for one use of a training seed."""
    return Generator(device).manual_seed(derive(seed, purpose))


class Draws:
    """The minibatches of every seed, drawn outside vmap, `DRAWN_AHEAD` numbers at a time.

    Each (seed, name) has a generator of its own: a trick that needs more random numbers does not change the
    minibatches or the latents. How many rounds are drawn at once follows from the shapes alone.
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
        self.updates = _updates(game)
        names = ("x", *self.draws)
        self.generators = {name: [generator(s, f"draw/{name}", device) for s in seeds] for name in names}
        widest = max([1, *(torch.Size(d.shape).numel() for d in self.draws.values())])
        self.ahead = max(1, min(64, DRAWN_AHEAD // (self.updates * batch * widest)))
        self.buffer: dict[str, Tensor] = {}
        self.block_states: dict[str, list[Tensor]] = {}  # of the generators, before the buffer was drawn

    def rounds(self, steps: int, start: int = 0) -> Iterator[list[dict[str, Tensor]]]:
        """For every round from `start` on, the minibatches [S, B, ...] of its updates."""
        for step in range(start, steps):
            if step % self.ahead == 0 or step == start:
                self.block_states = self._states()
                self.buffer = {name: self._fill(name) for name in self.generators}
            here = {name: buffer[:, step % self.ahead] for name, buffer in self.buffer.items()}
            yield [self._minibatch({n: v[:, i] for n, v in here.items()}) for i in range(self.updates)]

    def _states(self) -> dict[str, list[Tensor]]:
        return {name: [one.get_state() for one in own] for name, own in self.generators.items()}

    def random_states(self, step: int) -> dict[str, list[Tensor]]:
        """The states of all generators from which `rounds(steps, start=step)` goes on after round `step`, counted
        from 1: those before the block of rounds that is drawn, where there are rounds left in it."""
        return self.block_states if step % self.ahead else self._states()

    def set_random_states(self, states: Mapping[str, Sequence[Tensor]]) -> None:
        """Bring all generators to these states."""
        for name, own in self.generators.items():
            for generator_, state in zip(own, states[name], strict=True):
                generator_.set_state(state.cpu())

    def _fill(self, name: str) -> Tensor:
        generators = self.generators[name]
        size = (len(generators), self.ahead, self.updates, self.batch)
        if name == "x":
            out = self._room(name, size, torch.int64)
            for row, source in zip(out, generators, strict=True):
                row.random_(0, len(self.train), generator=source)
            return out
        draw = self.draws[name]
        out = self._room(name, (*size, *draw.shape), self.dtype)
        for row, source in zip(out, generators, strict=True):
            fill(row, draw, source)
        return out

    def _room(self, name: str, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory for what is drawn: that of the last time, whose rounds are over."""
        return (
            self.buffer[name] if name in self.buffer else torch.empty(size, dtype=dtype, device=self.device)
        )

    def _minibatch(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        index = drawn.pop("x")
        drawn["x"] = self.data.floats(self.train[index], self.dtype)
        if self.labels is not None:
            drawn["y"] = self.labels[index]
        return drawn


def fill(out: Tensor, draw: Draw, source: Generator) -> Tensor:
    """Fill a tensor with the numbers that a draw describes."""
    if draw.low is None or draw.high is None:
        return out.normal_(generator=source)
    return out.uniform_(draw.low, draw.high, generator=source)


def _updates(game: Game) -> int:
    """Minibatches needed in a round: one for each update, or for each simultaneous move."""
    steps = [player.steps for player in game.players.values()]
    return max(steps) if game.order == "simultaneous" else sum(steps)


def latents(
    game: Game, seed: int, n: int, device: torch.device, dtype: torch.dtype, purpose: str = "preview"
) -> Tensor:
    """n latents [n, ...] of a seed, for looking at a replica rather than for training it. They are drawn on the CPU:
    a stored seed has the same samples and scores on every device."""
    draw = game.draw(game.latent)
    return fill(torch.empty((n, *draw.shape), dtype=dtype), draw, generator(seed, purpose)).to(device)
