"""What training costs before it starts: rounds × seconds of a round, as stored of what is trained, or as measured."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..contracts import Data
from ..format import plural
from ..store.rundir import Store
from ..suite.plan import Cell
from ..suite.tune import MARK
from ..training.checkpoint import Checkpoint
from ..training.graph import MIN_COMPILED_ROUNDS_LARGE
from ..training.loop import train
from .worker import keep_memory, load_data

ENOUGH = 0.3  # seconds of training from which the rate of a search's trial is taken
WARM_UP = 5  # rounds before the clock starts: losses are recorded in the fourth
HEADS = ("method", "to train", "rounds", "ms of a round", "rate", "minutes")


@dataclass(frozen=True)
class Cost:
    """What the missing trials of a method on a dataset cost. Seconds are of one worker: a core, or a process on a GPU;
    NaN where a few rounds of training fail."""

    label: str
    trainings: int  # seeds of trials that are not trained yet
    rounds: int  # of all of them
    seconds: float
    how: str  # "stored", "measured" or "both"

    @property
    def cells(self) -> tuple[str, ...]:
        """Its row of a table (`HEADS`)."""
        ms, minutes = (
            f"{x:.2f}" if math.isfinite(x) else "?"
            for x in (1e3 * self.seconds / self.rounds, self.seconds / 60)
        )
        return self.label, str(self.trainings), f"{self.rounds:,}", ms, self.how, minutes


def search_costs(store: Store, pending: Sequence[tuple[Cell, Sequence[int]]], device: str) -> list[Cost]:
    """What the trials of a search cost that are not trained yet, by method. The rate is that of seeds which are stored
    of the method with the same whole numbers and choices, else it is measured.

    pending: all cells of a search, with the seeds that are not trained yet
    """
    # Rates that are known: a seed's seconds are its share of its stack's.
    stored: dict[tuple[Any, ...], list[float]] = {}
    for cell, missing in pending:
        for seed in set(cell.seeds) - set(missing):
            trained = store.training(cell, seed, artefacts=False)
            if trained and trained.status == "ok":
                stored.setdefault(_alike(cell), []).append(trained.seconds / cell.train.steps)
    rates = {alike: (sum(own) / len(own), "stored") for alike, own in stored.items()}
    # Measure the others, one trial for all that cost the same.
    data: dict[str, Data] = {}
    costs: dict[str, Cost] = {}
    for cell, seeds in pending:
        if not seeds:
            continue
        if _alike(cell) not in rates:
            if cell.dataset.label not in data:  # only one dataset is in memory at a time
                data = {cell.dataset.label: load_data(cell.dataset.part, cell.dataset.split)}
            try:
                rate = round_seconds(cell, data[cell.dataset.label], seeds, device=device) / len(seeds)
            except Exception:  # a fault of the method, which its training will report
                rate = math.nan
            rates[_alike(cell)] = rate, "measured"
        rate, how = rates[_alike(cell)]
        # The rows are of methods: a trial's label ends with its number.
        label, rounds = cell.method.label.split(MARK)[0], len(seeds) * cell.train.steps
        before = costs.get(label, Cost(label, 0, 0, 0.0, how))
        costs[label] = Cost(
            label,
            before.trainings + len(seeds),
            before.rounds + rounds,
            before.seconds + rounds * rate,
            how if before.how == how else "both",
        )
    return list(costs.values())


def total(costs: Sequence[Cost]) -> str:
    """What all of it costs, in a sentence."""
    trainings = sum(cost.trainings for cost in costs)
    if not trainings:
        return "cost of the search: none of its trials is left to train"
    # A method whose rate is not known is named instead of making the sum unknown.
    minutes = math.fsum(cost.seconds for cost in costs if math.isfinite(cost.seconds)) / 60
    spent = f"{minutes:.1f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
    text = f"cost of the search: about {spent} of one worker for {plural(trainings, 'training')}; scoring is not in it"
    unknown = [cost.label for cost in costs if not math.isfinite(cost.seconds)]
    return (
        f"{text}, nor {', '.join(dict.fromkeys(unknown))}, of which a few rounds could not be trained"
        if unknown
        else text
    )


def _alike(cell: Cell) -> tuple[Any, ...]:
    """What the seconds of a round depend on: all but rates, penalties and the like, which are fractions."""
    parts = [cell.method.part, *cell.method.tricks]
    choices = [
        (part.name, repr({name: value for name, value in part.resolved.items() if not _fraction(value)}))
        for part in parts
        if part
    ]
    return cell.dataset.label, cell.method.label.split(MARK)[0], cell.train.batch, *choices


def _fraction(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_fraction, value))
    return isinstance(value, float)


# ---------------------------------------------------------------------------------------------- rates


def round_seconds(
    cell: Cell, data: Data, seeds: Sequence[int], enough: float = ENOUGH, device: str = "cpu"
) -> float:
    """Seconds of one round of these seeds of a cell as one stack, from `enough` seconds of training: CPU time of one
    thread, wall time on CUDA. What is prepared before the first round, and scoring, are not in it; nor is the gain of
    compiling, which long trainings have. Whatever the method itself raises is passed on."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    keep_memory()
    # Fewer rounds than are ever compiled: compiling would take longer than the measurement.
    most = min(cell.train.steps, MIN_COMPILED_ROUNDS_LARGE - 1)
    watch = _Stopwatch(enough, device)
    try:
        if cell.interface == "game":
            short = replace(cell, train=replace(cell.train, steps=most, snapshots=0))
            with suppress(_Enough):
                train(short, data, seeds, device=device, checkpoints=watch)
            # A training shorter than the warm-up has no rate yet, so its whole time counts.
            return watch.rate or (watch.now() - watch.started) / most
        # A loop of the method's own cannot be watched, so it is called with more and more rounds. With three times as
        # many each time, all calls but the last take at most half as long as the last.
        rounds = min(4, most)
        while True:
            short = replace(cell, train=replace(cell.train, steps=rounds, snapshots=0))
            started = watch.now()
            train(short, data, seeds, device=device)
            spent = watch.now() - started
            if spent >= enough or 3 * rounds > cell.train.steps:  # the whole training is over soon enough
                return spent / rounds
            rounds *= 3
    finally:
        torch.set_num_threads(threads)


class _Enough(Exception):
    """Ends a training of which enough is known."""


class _Stopwatch:
    """Checkpoints that are never due: they see every round of a game but the last, and end its training."""

    def __init__(self, enough: float, device: str) -> None:
        self.enough, self.device = enough, device
        self.started, self.first = self.now(), 0
        self.rate = 0.0

    def now(self) -> float:
        """Seconds: CPU time, and on CUDA wall time when all is done that was started."""
        if self.device == "cpu":  # other processes do not count: a worker will have its core for itself
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def load(self, seeds: Sequence[int]) -> None:
        """Start the clock: a training of a few rounds ends before they have warmed up."""
        self.started, self.first = self.now(), 0

    def due(self, step: int) -> bool:
        """Read the clock after `step` rounds."""
        if step == WARM_UP:
            self.started, self.first = self.now(), step
            return False
        spent = self.now() - self.started
        self.rate = spent / (step - self.first)
        if step > WARM_UP and spent >= self.enough:
            raise _Enough
        return False

    def save(self, seeds: Sequence[int], checkpoint: Checkpoint) -> None:
        """Never called."""
        raise AssertionError
