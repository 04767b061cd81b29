"""Train a cell: the games of all its seeds as one stack, any other method seed by seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from ..contracts import Budget, Data, Status
from ..errors import PluginError, SampleError
from ..precision import training_precision
from ..sample_counts import samples_needed
from ..samples import Samples, check_samples, range_warning, read_samples
from .checkpoint import Checkpoints, capture, restore
from .games import build, make, under
from .rng import Draws, generator, latents
from .stack import Stack

if TYPE_CHECKING:
    from ..suite.plan import Cell

CURVE_POINTS = 200  # losses kept of each player
CALIBRATION = 1024  # latents from which the statistics of BatchNorm are fixed for sampling
STORED_SAMPLES = 10_000  # kept of a sampler that cannot be stored itself, at the least
PREVIEW_POINTS, PREVIEW_IMAGES = 512, 16  # of each snapshot
FEW = 8  # examples of a rehearsal

NO_MEMORY = (
    "can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
)  # fmt: skip

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Progress:
    """How far a stack has come."""

    step: int
    steps: int
    seeds: int
    losses: Mapping[str, float]  # of each player, mean over the seeds that are alive
    rate: float  # rounds of the whole stack in a second


@dataclass(frozen=True)
class Trained:
    """One trained seed."""

    seed: int
    status: Status
    error: str | None
    state: dict[str, Tensor]  # "G.0.weight" -> tensor, for games; what else the sampler of `fit` carries
    samples: Tensor | None  # [N, *shape], uint8 pixels or floats, for methods that are not games
    curves: dict[str, Tensor]  # "step" [L], and the loss of each player [L]; or those of the sampler
    snapshots: Tensor | None  # [T, n, *shape]
    snapshot_steps: tuple[int, ...]
    seconds: float  # of its stack, divided by the seeds in it
    stack: int  # seeds trained together
    device: str
    dtype: str
    note: str | None = None  # what the record must say, such as a stack split for want of memory


Report = Callable[[Progress], None]


def train(
    cell: Cell,
    data: Data,
    seeds: Sequence[int],
    *,
    device: str = "cpu",
    progress: Report | None = None,
    checkpoints: Checkpoints | None = None,
) -> list[Trained]:
    """Train these seeds of a cell; one result for each, in their order.

    checkpoints: where the training of a game is kept while it goes on, and is resumed from; other methods begin again

    A seed that diverges has the status "diverged" and leaves the others alone. A stack that does not fit
    into memory is trained in halves, and the results say so. Whatever the method itself raises is passed on.
    """
    seeds, where, report = tuple(seeds), torch.device(device), progress or (lambda _: None)
    try:
        if cell.rung == "game":
            return _train_game(cell, data, seeds, where, report, checkpoints)
        run = {"fit": _train_fit, "samples": _read_samples}[cell.rung]
        return run(cell, data, seeds, where, report)
    except Exception as error:
        if not out_of_memory(error) or len(seeds) == 1:
            raise
    # Outside the handler: its traceback would keep the tensors alive that did not fit.
    half = len(seeds) // 2
    parts = [
        train(cell, data, part, device=device, progress=progress, checkpoints=checkpoints)
        for part in (seeds[:half], seeds[half:])
    ]
    note = f"out of memory with {len(seeds)} seeds in one stack: trained as {half} + {len(seeds) - half}"
    return [replace(one, note=f"{note}; {one.note}" if one.note else note) for part in parts for one in part]


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the host or the GPU has no memory left: PyTorch's own, or a RuntimeError (which
    AcceleratorError, such as of the capture of a CUDA graph, is) with the words of the host, CUDA, cuBLAS or cuDNN."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    )


# ---------------------------------------------------------------------------------------------- games


def rehearse(cell: Cell, data: Data) -> None:
    """Play one round of a cell with tricks on a few examples, and sample, before anything is trained.

    Raises PluginError where a trick refuses the method, or where the round fails with the tricks and not
    without them. What is wrong with the method itself is left for its training to meet.
    """
    if not cell.method.tricks:
        return
    try:
        _try_round(cell, data)
    except PluginError:
        raise
    except Exception as error:
        if out_of_memory(error):
            return
        if _fails(replace(cell, method=replace(cell.method, tricks=())), data):
            return
        names = " and ".join(part.name for part in cell.method.tricks)
        raise PluginError(
            f"does not go with {names}, without which it plays ({type(error).__name__}: {error})"
        ) from error


def _fails(cell: Cell, data: Data) -> bool:
    try:
        _try_round(cell, data)
    except Exception:
        return True
    return False


def _try_round(cell: Cell, data: Data) -> None:
    """One round of one replica on the CPU: with few examples, or where that fails, since losses may cut a
    minibatch into parts, with a whole minibatch."""
    settings, device, dtype = cell.train, torch.device("cpu"), DTYPES[cell.train.dtype]
    for batch in sorted({min(FEW, settings.batch), settings.batch}):
        game = build(cell, data, 0)
        stack = Stack([game], device, dtype)
        draws = Draws(game, data, [0], batch, device, dtype)
        try:
            stack.play(0, settings.steps, next(draws.rounds(1)))
            stack.check_buffers()
            with torch.no_grad():
                game.sample(stack.replica(0), latents(game, 0, FEW, device, dtype))
            return
        except PluginError:
            raise
        except Exception:
            if batch == settings.batch:
                raise


def _train_game(
    cell: Cell,
    data: Data,
    seeds: Sequence[int],
    device: torch.device,
    progress: Report,
    checkpoints: Checkpoints | None,
) -> list[Trained]:
    settings, dtype, started = cell.train, DTYPES[cell.train.dtype], time.monotonic()
    games = [build(cell, data, seed) for seed in seeds]
    stack = Stack(games, device, dtype, rounds=settings.steps)
    del games
    history = History(stack, data, seeds, settings.steps, settings.snapshots, progress)
    draws = Draws(stack.game, data, seeds, settings.batch, device, dtype)
    start = 0
    checkpoint = checkpoints.load(seeds) if checkpoints else None
    if checkpoint and checkpoint.details["device"] == _device_name(device):  # another one rounds differently
        restore(checkpoint, stack, draws, history)
        start, started = checkpoint.step, started - checkpoint.seconds
    del checkpoint  # holds a copy of all parameters
    with training_precision(settings.precision):
        for step, minibatches in enumerate(draws.rounds(settings.steps, start), start):
            losses = stack.play(step, settings.steps, minibatches)
            if step == start:
                stack.check_buffers()
            history.write(step, losses, minibatches[-1])
            if history.all_dead:
                break
            done = step + 1
            if checkpoints and done < settings.steps and checkpoints.due(done):
                spent = time.monotonic() - started
                checkpoints.save(seeds, capture(done, spent, _device_name(device), stack, draws, history))
    seconds = (time.monotonic() - started) / len(seeds)
    steps = torch.tensor(history.points)
    found = []
    for index, (seed, died) in enumerate(zip(seeds, stack.died.tolist(), strict=True)):
        rows = {**history.losses, **{f"probe.{name}": values for name, values in history.probes.items()}}
        curves = {name: torch.stack(values)[:, index].cpu() for name, values in rows.items()}
        found.append(
            Trained(
                seed=seed,
                status="ok" if died < 0 else "diverged",
                error=None if died < 0 else f"a loss or gradient was not finite at step {died}",
                state=stack.state(index, latents(stack.game, seed, CALIBRATION, device, dtype)),
                samples=None,
                curves={"step": steps, **curves},
                snapshots=torch.stack([shot[index] for shot in history.snapshots])
                if history.snapshots
                else None,
                snapshot_steps=tuple(history.snapshot_steps),
                seconds=seconds,
                stack=len(seeds),
                device=_device_name(device),
                dtype=_arithmetic(cell),
            )
        )
    return found


class History:
    """Losses, probes and snapshots recorded during training."""

    def __init__(
        self, stack: Stack, data: Data, seeds: Sequence[int], steps: int, snapshots: int, progress: Report
    ) -> None:
        self.stack, self.steps, self.progress = stack, steps, progress
        self.losses: dict[str, list[Tensor]] = {name: [] for name in stack.game.players}
        self.probes: dict[str, list[Tensor]] = {name: [] for name in stack.game.probes}
        self.points: list[int] = []
        self.every = max(1, steps // CURVE_POINTS)
        self.snapshots: list[Tensor] = []  # each [S, n, *shape]
        self.snapshot_steps: list[int] = []
        self.due = (
            {round(steps * part / snapshots) for part in range(1, snapshots + 1)} if snapshots else set()
        )
        few = PREVIEW_POINTS if torch.Size(data.shape).numel() <= 3 else PREVIEW_IMAGES
        dtype = stack.flats[""].dtype
        self.latents = [latents(stack.game, seed, few, stack.alive.device, dtype) for seed in seeds]
        self.told, self.told_at = 0, time.monotonic()
        self.all_dead = False

    def write(self, step: int, losses: Mapping[str, Tensor], minibatch: dict[str, Tensor]) -> None:
        """After round `step`, counted from 0, of which this was the last minibatch [S, B, ...]."""
        done = step + 1
        if step % self.every == 0 or done == self.steps:
            self.points.append(done)
            for name, loss in losses.items():
                self.losses[name].append(loss)
            for name, value in self.stack.probe(done, self.steps, minibatch).items():
                self.probes[name].append(value)
            self.all_dead = not bool(self.stack.alive.any())
        if done in self.due:
            self.snapshot_steps.append(done)
            self.snapshots.append(self._snapshot())
        if time.monotonic() - self.told_at > 0.5 or done == self.steps:
            self._tell(done, losses)

    def _snapshot(self) -> Tensor:
        """Samples of every replica from latents that stay the same through training."""
        with torch.no_grad():
            shots = [
                self.stack.game.sample(self.stack.replica(index), z) for index, z in enumerate(self.latents)
            ]
        return torch.stack(shots).float().cpu()

    def _tell(self, done: int, losses: Mapping[str, Tensor]) -> None:
        now, alive = time.monotonic(), self.stack.alive
        means = {
            name: float(loss[alive].mean()) if bool(alive.any()) else float("nan")
            for name, loss in losses.items()
        }
        rate = (done - self.told) / max(now - self.told_at, 1e-9)
        self.progress(Progress(done, self.steps, len(self.latents), means, rate))
        self.told, self.told_at = done, now


def _arithmetic(cell: Cell) -> str:
    """`float32`, or `float32 (tf32)`, as records say it."""
    settings = cell.train
    return settings.dtype + ("" if settings.precision == "float32" else f" ({settings.precision})")


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


# ---------------------------------------------------------------------------------------------- other rungs


def samples_for_metrics(cell: Cell, data: Data) -> int:
    """The most samples that a metric of the cell asks for, so far as that can be known: a training of `fit` of which
    fewer are stored has to be done again. 0 for a game, which gives as many as are wanted, and for samples that were
    made elsewhere, of which there are no more."""
    if cell.rung != "fit":
        return 0
    needs = [need for m in cell.metrics for need in (m.resolved.get("n"), samples_needed(m, data))]
    return max((int(need) for need in needs if need), default=0)


def _train_fit(
    cell: Cell, data: Data, seeds: Sequence[int], device: torch.device, progress: Report
) -> list[Trained]:
    """Seed by seed, since nothing is known of the code behind `fit`."""
    part = cell.method.part
    budget = Budget(cell.train.steps, cell.train.batch, device, DTYPES[cell.train.dtype])
    n = max(STORED_SAMPLES, samples_for_metrics(cell, data))
    found = []
    for done, seed in enumerate(seeds):
        started = time.monotonic()
        with training_precision(cell.train.precision):
            sampler = under(seed, lambda s=seed: make(part).fit(data, s, budget))
        samples = _drawn(sampler, n, generator(seed, "samples", device), data, cell.method.label)
        seconds = time.monotonic() - started
        trained = _sampled(cell, seed, samples, data, seconds, _device_name(device))
        kept = {name: _kept(getattr(sampler, name, {})) for name in ("state", "curves")}
        found.append(replace(trained, **kept))
        progress(Progress(cell.train.steps, cell.train.steps, 1, {}, (done + 1) / max(seconds, 1e-9)))
    return found


def _drawn(sampler: Any, n: int, generator: Generator, data: Data, label: str) -> Samples:
    """n samples of what `fit` gave back. Raises SampleError where it is no sampler."""
    if not callable(sampler):
        raise SampleError(
            f"fit of {label!r} gave back a {type(sampler).__name__}, expected a sampler: a function "
            "(n, generator) -> tensor [n, *shape]"
        )
    samples = check_samples(sampler(n, generator), data, f"the sampler of {label!r}")
    if len(samples) != n:
        raise SampleError(f"the sampler of {label!r} gave {len(samples)} samples instead of {n}")
    return samples


def _read_samples(
    cell: Cell, data: Data, seeds: Sequence[int], device: torch.device, progress: Report
) -> list[Trained]:
    """Samples that were made elsewhere: file i belongs to seed i."""
    files = dict(zip(cell.seeds, cell.method.samples, strict=True))
    return [_sampled(cell, seed, read_samples(files[seed], data), data, 0.0, "cpu") for seed in seeds]


def _kept(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that a sampler carries, as they are stored."""
    return {name: torch.as_tensor(tensor).detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sampled(cell: Cell, seed: int, samples: Samples, data: Data, seconds: float, device: str) -> Trained:
    """What is kept of samples, with a note where they were not floats of the data's shape and scale."""
    warning = range_warning(samples, data)
    note = "; ".join([*samples.notes, *([warning] if warning else [])]) or None
    return Trained(
        seed, "ok", None, {}, samples[:], {}, None, (), seconds, 1, device, _arithmetic(cell), note
    )
