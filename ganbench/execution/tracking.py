"""Trackers: log the curves and scores of each seed to TensorBoard, MLflow or Weights & Biases.

Logging happens in the parent process, from the store, so neither training nor content keys depend on it. A seed is
logged once, when all its scores are stored, even if it was finished before `track` was added to the suite. A tracker
that fails is switched off for the rest of the run; no result is lost, and the next run logs what is missing.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import RequestError, StoreError
from ..store.rundir import SETTLED, Store
from ..suite.plan import Cell
from ..training.trained import TrainedSeed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .worker import Task

LOOK_INTERVAL = 2.0  # seconds between two searches for finished seeds
MLFLOW_MAX_METRICS, MLFLOW_MAX_PARAMS = 1000, 100  # values that MLflow accepts at a time
MLFLOW_MAX_TEXT = 6000  # characters of a parameter that MLflow accepts
MAX_NAME = 60  # characters; MLflow creates a file for each name, and file names are limited to 255 bytes
REFUSED = re.compile(r"[^\w.-]|^\.*$")  # parts of a name that MLflow, TensorBoard or W&B reject or replace


def allowed_names(names: Iterable[str]) -> dict[str, str]:
    """Each name with the name under which it is logged: `FID@50k` is logged as `FID_50k`.

    If several names would become the same, a digest of the original is appended to those that had to be changed. So
    the result does not depend on the order, and is the same for all seeds of a cell.
    """
    logged = {name: REFUSED.sub("_", name)[:MAX_NAME] for name in names}
    count = Counter(logged.values())
    for name, short in logged.items():
        if short != name and count[short] > 1:
            digest = hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:8]
            logged[name] = f"{short[: MAX_NAME - 9]}-{digest}"
    return logged


@dataclass(frozen=True)
class Seed:
    """The data of one trained seed to log. Names are valid for all trackers; the original of a name that had to be
    changed is in the configuration, such as `name.scores.FID_50k: FID@50k`."""

    suite: str
    label: str  # of the cell, valid as a folder name
    seed: int
    status: str
    config: Mapping[str, Any]  # dataset, method, tricks, parameters, budget
    curves: Mapping[str, NDArray[Any]]  # losses and other recorded values [L]; "step" [L] are the rounds
    scores: Mapping[str, float]

    @property
    def steps(self) -> list[int]:
        """The rounds at which the curves have a value."""
        return [int(step) for step in self.curves.get("step", ())]

    def values(self) -> Iterator[tuple[str, int, float]]:
        """Name, round and value of every point of the curves, then the scores at the last round."""
        for name, curve in self.curves.items():
            if name != "step":
                for step, value in zip(self.steps, curve, strict=True):
                    yield f"curves/{name}", step, float(value)
        last = self.steps[-1] if self.steps else 0
        yield from ((f"scores/{name}", last, value) for name, value in self.scores.items())


class Tracker(Protocol):
    """A destination for logged seeds."""

    def __init__(self, folder: Path) -> None:
        """Start the tracker; raises any exception if it does not start. `folder`: the tracker's folder in the run
        directory."""
        ...

    def log(self, seed: Seed, folder: Path) -> None:
        """Log a seed that has not been logged yet, or has changed since; `folder`: an empty folder for this seed."""
        ...


# ---------------------------------------------------------------------------------------------- trackers


class TensorBoard:
    """Event files in the seed's folder: `tensorboard --logdir RUN/tracking/tensorboard`."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter

    def log(self, seed: Seed, folder: Path) -> None:
        """Log curves and scores as scalars, the configuration as text."""
        with self.writer(str(folder)) as writer:
            writer.add_text("config", f"```json\n{json.dumps(seed.config, indent=1, default=str)}\n```")
            for name, step, value in seed.values():
                writer.add_scalar(name, value, step)


class MLflow:
    """One MLflow run per seed, in an experiment named after the suite: at MLFLOW_TRACKING_URI, else in files in the run
    directory (`MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri RUN/tracking/mlflow/mlruns`)."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # supported by MLflow, but discouraged
        from mlflow import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlruns").resolve().as_uri()
        self.client = MlflowClient(tracking_uri=uri)

    def log(self, seed: Seed, folder: Path) -> None:
        """Log curves and scores as metrics, the configuration as parameters."""
        from mlflow.entities import Metric, Param

        known = self.client.get_experiment_by_name(seed.suite)
        experiment = known.experiment_id if known else self.client.create_experiment(seed.suite)
        now = int(1000 * time.time())  # milliseconds
        params = [Param(name, str(value)[:MLFLOW_MAX_TEXT]) for name, value in seed.config.items()]
        metrics = [Metric(name, value, now, step) for name, step, value in seed.values()]
        run = self.client.create_run(experiment, run_name=f"{seed.label} seed {seed.seed}").info.run_id
        try:
            for start in range(0, len(params), MLFLOW_MAX_PARAMS):
                self.client.log_batch(run, params=params[start : start + MLFLOW_MAX_PARAMS])
            for start in range(0, len(metrics), MLFLOW_MAX_METRICS):
                self.client.log_batch(run, metrics=metrics[start : start + MLFLOW_MAX_METRICS])
            self.client.set_terminated(run, "FINISHED" if seed.status == "ok" else "FAILED")
        except Exception:
            with suppress(Exception):  # the server may be gone
                self.client.delete_run(run)  # remove the incomplete run, since the seed will be logged again
            raise


class WandB:
    """One W&B run per seed, in a project named after the suite: online if the user is logged in, else in the run
    directory for `wandb sync`. WANDB_MODE and wandb's other settings take precedence."""

    def __init__(self, folder: Path) -> None:
        import wandb

        self.folder, self.wandb = folder, wandb
        online = "WANDB_MODE" in os.environ or wandb.login(prompt=False)
        self.mode = None if online else "offline"

    def log(self, seed: Seed, folder: Path) -> None:
        """Log the curves as history by rounds; the scores, logged last, become the run's summary."""
        self.folder.mkdir(parents=True, exist_ok=True)
        project = os.environ.get("WANDB_PROJECT") or REFUSED.sub("_", seed.suite)
        run = self.wandb.init(
            project=project, group=seed.label, name=f"{seed.label} seed {seed.seed}", config=dict(seed.config),
            dir=str(self.folder), mode=self.mode, reinit="create_new", settings=self.wandb.Settings(silent=True),
        )  # fmt: skip
        points: dict[int, dict[str, float]] = {}
        for name, step, value in seed.values():
            points.setdefault(step, {})[name] = value
        for step in sorted(points):
            run.log(points[step], step=step)
        run.finish(exit_code=0 if seed.status == "ok" else 1)


TRACKERS: dict[str, tuple[str, type[Tracker]]] = {  # name -> the module that it needs, its class
    "tensorboard": ("tensorboard", TensorBoard),
    "mlflow": ("mlflow", MLflow),
    "wandb": ("wandb", WandB),
}


# ---------------------------------------------------------------------------------------------- following a run


class Tracking:
    """Logs the seeds of a run as they are finished. `warnings` collects messages for the user."""

    def __init__(self, names: Sequence[str], store: Store) -> None:
        """Raises RequestError if a tracker's package is not installed or does not start."""
        self.store = store
        self.warnings: list[str] = []
        self.logged: set[tuple[str, int]] = set()  # (folder of the cell, seed) logged in this run
        self.next = 0.0  # when to look again, on the monotonic clock
        self.trackers = {name: _start_tracker(name, store.root / "tracking" / name) for name in names}

    def look(self, tasks: Sequence[Task]) -> None:
        """Log the seeds of these tasks that are complete; does nothing if called again within `LOOK_INTERVAL`."""
        if self.trackers and time.monotonic() >= self.next:
            for task in tasks:
                self._look(task, final=False)
            self.next = time.monotonic() + LOOK_INTERVAL

    def finish(self, tasks: Sequence[Task]) -> None:
        """Log the remaining seeds of these tasks, including failed ones, when all tasks have ended."""
        for task in tasks if self.trackers else ():
            self._look(task, final=True)

    def _look(self, task: Task, *, final: bool) -> None:
        cell = task.cell
        for seed in task.seeds:
            if (cell.id, seed) in self.logged:
                continue
            trained = self.store.training(cell, seed, artefacts=False)
            rows = list(self._rows(cell, trained)) if trained else []
            # While the run lasts only what is complete: a failed seed may be tried again, a score may be on its way.
            settled = trained and trained.status in SETTLED and None not in rows
            if trained and (final or settled):
                self._log(cell, trained, [record for row in rows if row for record in row])
                self.logged.add((cell.id, seed))

    def _rows(self, cell: Cell, trained: TrainedSeed) -> Iterator[list[dict[str, Any]] | None]:
        """The records of each metric; None for a metric that has not been scored yet."""
        for index in range(len(cell.metrics)) if trained.status == "ok" else ():
            score = self.store.score(cell, trained.seed, index, artefacts=False)
            yield score["records"] if score else None

    def _log(self, cell: Cell, trained: TrainedSeed, records: list[dict[str, Any]]) -> None:
        """Log a seed to all trackers; one that fails is switched off. Raises StoreError if the store cannot be
        written."""
        # What the logs depend on. The same digest means that an earlier run has logged this seed already.
        known = {"key": cell.train_keys[trained.seed], **trained.summary, "records": records}
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        label = cell.id.rpartition("-")[0]
        for name, tracker in list(self.trackers.items()):
            folder = self.store.path("tracking", name, label, f"seed-{trained.seed}")
            logged = folder / "logged.json"
            try:
                with self.store.lock(f"{cell.id}-{name}", [trained.seed]):  # another run may log it too
                    before = self.store.read(logged, ["digest"])
                    if before and before["digest"] == digest:
                        continue
                    shutil.rmtree(folder, ignore_errors=True)  # logs of the seed before it changed
                    tracker.log(self._seed(cell, trained, label, records), folder)
                    self.store.write_json(logged, {"digest": digest})
            except StoreError:
                raise
            except Exception as error:
                del self.trackers[name]
                what = f"{type(error).__name__}: {error}".strip().split("\n")[0]
                self.warnings.append(
                    f"{name} failed ({what}) and is switched off for this run; no result is lost, and the next run "
                    "logs what is missing"
                )

    def _seed(self, cell: Cell, trained: TrainedSeed, label: str, records: list[dict[str, Any]]) -> Seed:
        columns = cell.columns
        scores = {row["metric"]: row["value"] for row in records if row["value"] is not None}
        curves = self.store.curves(cell.id, trained.seed)
        score_names, curve_names = allowed_names(scores), allowed_names(curves)
        renamed = {
            f"name.{kind}.{short}": name
            for kind, names in (("scores", score_names), ("curves", curve_names))
            for name, short in names.items()
            if short != name
        }
        config = {
            **{name: columns[name] for name in ("dataset", "method", "label", "tricks")},
            **asdict(cell.train),
            **{name: getattr(trained, name) for name in ("seed", "status", "device", "seconds")},
            **{f"params.{name}": value for name, value in columns["params"].items()},
            **renamed,
        }
        return Seed(
            columns["suite"], label, trained.seed, trained.status, config,
            {curve_names[name]: curve for name, curve in curves.items()},
            {score_names[name]: value for name, value in scores.items()},
        )  # fmt: skip


def _start_tracker(name: str, folder: Path) -> Tracker:
    """Start a tracker. Raises RequestError if its package is not installed or does not start."""
    module, tracker = TRACKERS[name]
    if find_spec(module) is None:
        raise RequestError(f"track: {name} is not installed here: pip install 'ganbench[tracking]'")
    try:
        importlib.import_module(module)
        return tracker(folder)
    except Exception as error:
        raise RequestError(f"track: {name} does not start ({type(error).__name__}: {error})") from error
