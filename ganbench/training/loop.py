"""Train a cell: the games of all its seeds as one stack, any other method seed by seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from ..contracts import Budget, Data
from ..errors import PluginError, SampleError
from ..precision import training_precision
from ..sample_counts import samples_needed
from ..samples import Samples, check_sampler_output, range_warning, read_samples
from .checkpoint import Checkpoints, capture, restore
from .graph import Rounds
from .rng import Draws, build_game, build_plugin, generator, latents, seeded
from .stack import Stack
from .trained import TrainedSeed

if TYPE_CHECKING:
    from ..suite.plan import Cell

CURVE_POINTS = 200  # losses kept of each player
CALIBRATION_LATENTS = 1024  # from which the statistics of BatchNorm are fixed for sampling
MIN_STORED_SAMPLES = 10_000  # of `fit`, whose sampler itself cannot be stored; more if a metric needs more
PREVIEW_POINTS, PREVIEW_IMAGES = 512, 16  # of each snapshot
SMOKE_TEST_BATCH = 8
REPORT_INTERVAL = 0.5  # seconds between two reports of progress

NO_MEMORY = (
    "can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
)  # fmt: skip

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Progress:
    """The progress of a stack."""

    step: int
    steps: int
    seeds: int
    losses: Mapping[str, float]  # of each player, mean over the seeds that have not diverged
    rate: float  # rounds of the whole stack per second


Report = Callable[[Progress], None]


def train(
    cell: Cell,
    data: Data,
    seeds: Sequence[int],
    *,
    device: str = "cpu",
    progress: Report | None = None,
    checkpoints: Checkpoints | None = None,
) -> list[TrainedSeed]:
    """Train these seeds of a cell; returns one result for each, in their order.

    checkpoints: where a game saves its state during training and resumes from; other methods start from scratch

    A seed that diverges gets the status "diverged" and does not affect the others. A stack that does not fit into
    memory is trained in halves, which the results note. Exceptions of the method are raised.
    """
    seeds, where, report = tuple(seeds), torch.device(device), progress or (lambda _: None)
    try:
        if cell.interface == "game":
            return _train_game(cell, data, seeds, where, report, checkpoints)
        run = {"fit": _train_fit, "samples": _read_samples}[cell.interface]
        return run(cell, data, seeds, where, report)
    except Exception as error:
        if not out_of_memory(error) or len(seeds) == 1:
            raise
    # Not inside the handler: its traceback would keep the tensors that did not fit alive.
    half = len(seeds) // 2
    parts = [
        train(cell, data, part, device=device, progress=progress, checkpoints=checkpoints)
        for part in (seeds[:half], seeds[half:])
    ]
    note = f"out of memory with {len(seeds)} seeds in one stack: trained as {half} + {len(seeds) - half}"
    return [replace(one, note=f"{note}; {one.note}" if one.note else note) for part in parts for one in part]


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that the host or the GPU is out of memory: PyTorch's own class, or a RuntimeError with
    the message of the host, CUDA, cuBLAS or cuDNN (capturing a CUDA graph raises AcceleratorError, a subclass)."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    )


# ---------------------------------------------------------------------------------------------- games


def smoke_test(cell: Cell, data: Data) -> None:
    """Play one round of a cell with tricks on a few examples, and sample, before anything is trained.

    Raises PluginError if a trick rejects the method, or if the round fails with the tricks but not without them. An
    error of the method itself is left to its training to report.
    """
    if not cell.method.tricks:
        return
    try:
        _play_one_round(cell, data)
    except PluginError:
        raise
    except Exception as error:
        if out_of_memory(error):
            return
        # The tricks are the cause only if the method plays without them.
        try:
            _play_one_round(replace(cell, method=replace(cell.method, tricks=())), data)
        except Exception:
            return
        names = " and ".join(part.name for part in cell.method.tricks)
        raise PluginError(
            f"fails with {names} but works without ({type(error).__name__}: {error})"
        ) from error


def _play_one_round(cell: Cell, data: Data) -> None:
    """One round of one replica on the CPU, and some samples. First with a few examples, then, if that fails, with a
    whole minibatch, since a loss may split its minibatch into parts of a fixed size."""
    settings, device, dtype = cell.train, torch.device("cpu"), DTYPES[cell.train.dtype]
    for batch in sorted({min(SMOKE_TEST_BATCH, settings.batch), settings.batch}):
        game = build_game(cell, data, 0)
        stack = Stack([game], device, dtype)
        draws = Draws(game, data, [0], batch, device, dtype)
        try:
            stack.play(0, settings.steps, next(draws.rounds(1)))
            stack.check_buffers()
            with torch.no_grad():
                game.sample(stack.replica(0), latents(game, 0, SMOKE_TEST_BATCH, device, dtype))
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
) -> list[TrainedSeed]:
    settings, dtype, started = cell.train, DTYPES[cell.train.dtype], time.monotonic()
    stack = Stack([build_game(cell, data, seed) for seed in seeds], device, dtype)
    draws = Draws(stack.game, data, seeds, settings.batch, device, dtype)
    with training_precision(settings.precision):  # rounds may be traced here
        rounds = Rounds(stack, settings.steps, draws.example)
    history = History(stack, data, seeds, settings.steps, settings.snapshots, progress)

    # Resume where a killed run stopped, unless another device or way of playing rounds would round differently.
    place = "; ".join([_device_name(device), *([rounds.note] if rounds.note else [])])
    start = 0
    checkpoint = checkpoints.load(seeds) if checkpoints else None
    if checkpoint and checkpoint.details["device"] == place:
        restore(checkpoint, stack, draws, history)
        start, started = checkpoint.step, started - checkpoint.seconds
    del checkpoint  # holds a copy of all parameters

    with training_precision(settings.precision):
        for step, minibatches in enumerate(draws.rounds(settings.steps, start), start):
            losses = rounds.play(step, minibatches)
            if step == start:
                stack.check_buffers()
            history.write(step, losses, minibatches[-1])
            if history.all_dead:
                break
            done = step + 1
            if checkpoints and done < settings.steps and checkpoints.due(done):
                spent = time.monotonic() - started
                checkpoints.save(seeds, capture(done, spent, place, stack, draws, history))

    seconds = (time.monotonic() - started) / len(seeds)
    rows = {**history.losses, **{f"probe.{name}": values for name, values in history.probes.items()}}
    trained = []
    for index, (seed, died) in enumerate(zip(seeds, stack.died.tolist(), strict=True)):
        shots = [shot[index] for shot in history.snapshots]
        curves = {name: torch.stack(values)[:, index].cpu() for name, values in rows.items()}
        trained.append(
            TrainedSeed(
                seed=seed,
                status="ok" if died < 0 else "diverged",
                error=None if died < 0 else f"a loss or gradient was not finite at step {died}",
                state=stack.state(index, latents(stack.game, seed, CALIBRATION_LATENTS, device, dtype)),
                curves={"step": torch.tensor(history.points), **curves},
                snapshots=torch.stack(shots) if shots else None,
                snapshot_steps=tuple(history.snapshot_steps),
                seconds=seconds,
                stack=len(seeds),
                device=_device_name(device),
                dtype=_arithmetic(cell),
                note=rounds.note,
            )
        )
    return trained


class History:
    """Losses, probes and snapshots recorded during training."""

    def __init__(
        self, stack: Stack, data: Data, seeds: Sequence[int], steps: int, snapshots: int, progress: Report
    ) -> None:
        self.stack, self.steps, self.progress = stack, steps, progress
        self.losses: dict[str, list[Tensor]] = {name: [] for name in stack.game.players}
        self.probes: dict[str, list[Tensor]] = {name: [] for name in stack.game.probes}
        self.points: list[int] = []
        self.every = max(
            1, steps // CURVE_POINTS
        )  # rounds between two points, whatever the length of the training
        self.snapshots: list[Tensor] = []  # each [S, n, *shape]
        self.snapshot_steps: list[int] = []
        self.due = (
            {round(steps * part / snapshots) for part in range(1, snapshots + 1)} if snapshots else set()
        )
        n = PREVIEW_POINTS if torch.Size(data.shape).numel() <= 3 else PREVIEW_IMAGES
        dtype = stack.params[""].dtype
        # The same for all snapshots, so that a point can be followed through training.
        self.latents = [latents(stack.game, seed, n, stack.alive.device, dtype) for seed in seeds]
        self.reported_step, self.reported_at = 0, time.monotonic()
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
            self.all_dead = not bool(self.stack.alive.any())  # waits for a GPU, but not every round
        if done in self.due:
            self.snapshot_steps.append(done)
            with torch.no_grad():
                samples = [
                    self.stack.game.sample(self.stack.replica(index), z)
                    for index, z in enumerate(self.latents)
                ]
            self.snapshots.append(torch.stack(samples).float().cpu())
        if time.monotonic() - self.reported_at > REPORT_INTERVAL or done == self.steps:
            self._report(done, losses)

    def _report(self, done: int, losses: Mapping[str, Tensor]) -> None:
        now, alive = time.monotonic(), self.stack.alive
        means = {
            name: float(loss[alive].mean()) if bool(alive.any()) else float("nan")
            for name, loss in losses.items()
        }
        rate = (done - self.reported_step) / max(now - self.reported_at, 1e-9)
        self.progress(Progress(done, self.steps, len(self.latents), means, rate))
        self.reported_step, self.reported_at = done, now


def _arithmetic(cell: Cell) -> str:
    """`float32`, or `float32 (tf32)`, as in records."""
    settings = cell.train
    return settings.dtype + ("" if settings.precision == "float32" else f" ({settings.precision})")


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


# ---------------------------------------------------------------------------------------------- other interfaces


def samples_for_metrics(cell: Cell, data: Data) -> int:
    """The largest number of samples that a metric of the cell needs, as far as that can be known. A method with `fit`
    of which fewer are stored has to be trained again. 0 for a game, which can make any number, and for samples made by
    another program, of which there are no more."""
    if cell.interface != "fit":
        return 0
    needs = [need for m in cell.metrics for need in (m.resolved.get("n"), samples_needed(m, data))]
    return max((int(need) for need in needs if need), default=0)


def _train_fit(
    cell: Cell, data: Data, seeds: Sequence[int], device: torch.device, progress: Report
) -> list[TrainedSeed]:
    """Train seed by seed: arbitrary code behind `fit` cannot be vectorised."""
    part = cell.method.part
    budget = Budget(cell.train.steps, cell.train.batch, device, DTYPES[cell.train.dtype])
    n = max(MIN_STORED_SAMPLES, samples_for_metrics(cell, data))
    trained = []
    for done, seed in enumerate(seeds):
        started = time.monotonic()
        with training_precision(cell.train.precision):
            sampler = seeded(seed, lambda s=seed: build_plugin(part).fit(data, s, budget))
        samples = _call_sampler(sampler, n, generator(seed, "samples", device), data, cell.method.label)
        seconds = time.monotonic() - started
        result = _from_samples(cell, seed, samples, data, seconds, _device_name(device))
        # Optional attributes of the sampler, such as the parameters that a search visited.
        extras = {
            attribute: {
                name: torch.as_tensor(tensor).detach().cpu().contiguous()
                for name, tensor in getattr(sampler, attribute, {}).items()
            }
            for attribute in ("state", "curves")
        }
        trained.append(replace(result, **extras))
        progress(Progress(cell.train.steps, cell.train.steps, 1, {}, (done + 1) / max(seconds, 1e-9)))
    return trained


def _call_sampler(sampler: Any, n: int, generator: Generator, data: Data, label: str) -> Samples:
    """n samples of the sampler that `fit` returned. Raises SampleError if it is not a sampler."""
    if not callable(sampler):
        raise SampleError(
            f"fit of {label!r} returned a {type(sampler).__name__}, expected a sampler: a function "
            "(n, generator) -> tensor [n, *shape]"
        )
    samples = check_sampler_output(sampler(n, generator), data, f"the sampler of {label!r}")
    if len(samples) != n:
        raise SampleError(f"the sampler of {label!r} returned {len(samples)} samples instead of {n}")
    return samples


def _read_samples(
    cell: Cell, data: Data, seeds: Sequence[int], device: torch.device, progress: Report
) -> list[TrainedSeed]:
    """Samples made by another program: file i belongs to seed i."""
    files = dict(zip(cell.seeds, cell.method.samples, strict=True))
    return [_from_samples(cell, seed, read_samples(files[seed], data), data, 0.0, "cpu") for seed in seeds]


def _from_samples(
    cell: Cell, seed: int, samples: Samples, data: Data, seconds: float, device: str
) -> TrainedSeed:
    """A seed of which only samples are stored. Its note says how they were converted to floats in the data's scale."""
    warning = range_warning(samples, data)
    note = "; ".join([*samples.notes, *([warning] if warning else [])]) or None
    dtype = _arithmetic(cell)
    return TrainedSeed(seed, "ok", seconds=seconds, device=device, dtype=dtype, note=note, samples=samples[:])
