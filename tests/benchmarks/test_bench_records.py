"""Time from the files of a run to its records, tables, plots and report, as a multiple of parsing those files once.

With GANBENCH_BENCH_FULL=1 also of 10,000 and 100,000 records.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from ganbench.analysis.check import check
from ganbench.analysis.compare import compare
from ganbench.contracts import COLUMNS
from ganbench.execution import run as execute
from ganbench.report import check as check_formats
from ganbench.report import comparison, figures, page, tables
from ganbench.store.results import open_run
from ganbench.store.rundir import Store

FULL = os.environ.get("GANBENCH_BENCH_FULL") == "1"
SIZES = {
    1000: (1, 5, 20),
    10_000: (5, 20, 10),
    100_000: (10, 50, 20),
}  # datasets, methods, seeds; of 10 metrics
READING = ("records", "open", "tables")  # what does nothing else with the files
MODES = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)
CAUTION = (
    "Theis et al. 2016: a kernel density estimate of samples in many dimensions says little of the model."
)
VERSIONS = {"ganbench": "0.1.0", "torch": "2.14.1", "numpy": "2.4.6", "scipy": "1.17.1", "pandas": "3.1.1"}


class Quick(Store):
    """A store that does not wait for the disk."""

    def write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@dataclass(frozen=True)
class Made:
    """Makes a run directory up: the files of trainings and scores that `ganbench run` leaves, without training."""

    store: Store
    datasets: int
    methods: int
    seeds: int
    metrics: int = 10

    @property
    def records(self) -> int:
        return self.datasets * self.methods * self.seeds * self.metrics

    def write(self) -> Made:
        """All files of which the rest is derived. One seed in 97 has diverged."""
        cells = []
        for number in range(self.datasets):
            self._dataset(f"ring-{number}")
            cells += [self._cell(f"ring-{number}", f"method-{i}") for i in range(self.methods)]
        self.store.write_json(self.store.path("plan.json"), {"suite": "made-up", "about": "", "cells": cells})
        return self

    def _dataset(self, label: str) -> None:
        path = self.store.path("datasets", f"{label}.json")
        card = {"name": "ring", "label": label, "about": "a ring", "shape": [2], "scale": None, "classes": []}
        card |= {"n_train": 1000, "modes": {"centers": MODES.tolist(), "std": 0.02}}
        self.store.commit(path, card, {f"{label}.safetensors": {"examples": torch.rand(256, 2)}})

    def _cell(self, dataset: str, label: str) -> dict[str, Any]:
        """Its files, and what the plan says of it."""
        params = {"loss": "non-saturating", "z_dim": 64, "width": 128, "depth": 2, "activation": "relu"}
        known = {"suite": "made-up", "dataset": dataset, "method": "gan", "label": label, "tricks": []}
        known |= {"params": params, "cell": f"{dataset}-{label}-{_key(dataset, label)[:12]}"}
        info = {
            **known,
            "train": {"steps": 1000, "batch": 128},
            "interface": "game",
            "about": "Goodfellow et al. 2014",
        }
        self.store.write_json(self.store.path("cells", known["cell"], "cell.json"), info)
        rng = np.random.default_rng(int(_key(dataset, label)[:8], 16))
        keys: dict[str, dict[str, str]] = {f"metric_{i}": {} for i in range(self.metrics)}
        for seed in range(self.seeds):
            self._seed(known, seed, keys, rng)
        metrics = [
            {"metric": name, "protocol": _key(name)[:8], "protocol_text": f"how {name} is measured",
             "values": [{"name": name, "unit": "nats", "better": _better(name)}], "keys": own}
            for name, own in keys.items()
        ]  # fmt: skip
        return {
            **known,
            "seeds": {str(s): _key(known["cell"], s) for s in range(self.seeds)},
            "metrics": metrics,
        }

    def _seed(self, cell: dict[str, Any], seed: int, keys: dict[str, Any], rng: np.random.Generator) -> None:
        diverged = int(_key(cell["cell"], seed)[:8], 16) % 97 == 0
        train = {
            "status": "diverged" if diverged else "ok",
            "error": "loss is not finite" if diverged else None,
        }
        train |= {"seconds": 41.0, "stack": 5, "device": "cpu", "dtype": "float32"}
        folder = self.store.path("cells", cell["cell"], f"seed-{seed}")
        document = {"key": _key(cell["cell"], seed), "seed": seed, **train, "traceback": None, "note": None}
        document |= {"versions": VERSIONS, "finished": "2026-01-02T03:04:05.678+00:00"}
        curve = torch.linspace(0, 1, 50)
        media = {"samples": torch.rand(256, 2), "curve.step": curve, "curve.D": curve, "curve.G": 1 - curve}
        self.store.commit(folder / "train.json", document, {} if diverged else {"media.safetensors": media})
        for i, (name, own) in enumerate(keys.items()):
            own[str(seed)] = _key(cell["cell"], seed, name)
            if diverged:
                continue
            known = {
                **cell,
                "seed": seed,
                "metric": name,
                "protocol": _key(name)[:8],
                "unit": "nats",
                **train,
            }
            known |= {"value": float(rng.normal() + rng.random()), "sem": 0.1, "n": 2000, "seconds": 0.5}
            known |= {"better": _better(name), "train_seconds": 41.0, "version": "0.1.0"}
            details = (
                {"counts": rng.integers(1, 100, 8).tolist()}
                if i == 0
                else {"ceiling": 1.0, "caution": CAUTION}
            )
            path = folder / "scores" / f"{name}-{own[str(seed)][:12]}.json"
            tensors = {"distance_samples": torch.rand(200), "distance_heldout": torch.rand(200)}
            self.store.commit(
                path,
                {"key": own[str(seed)], "metric": name, "status": "ok", "error": None, "traceback": None,
                 "records": [{column: known.get(column) for column in COLUMNS}],
                 "protocol_text": f"how {name} is measured", "details": details},
                {path.with_suffix(".safetensors").name: tensors} if i == 1 else {},
            )  # fmt: skip


def _key(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _better(metric: str) -> str:
    return "lower" if metric.endswith(("3", "6", "9")) else "higher"


# ---------------------------------------------------------------------------------------------- measured


def parse(root: Path) -> None:
    """Every JSON file once, by nothing but the standard library."""
    for path in root.rglob("*.json"):
        json.loads(path.read_bytes())


def derive(root: Path) -> dict[str, float]:
    """What `ganbench run` does when all is done, then `ganbench check` and `ganbench compare`: seconds of each."""
    spent, now = {}, time.perf_counter()

    def took(name: str) -> None:
        nonlocal now
        spent[name], now = time.perf_counter() - now, time.perf_counter()

    Store(root).write_records()
    took("records")
    run = open_run(root)
    took("open")
    tables.write(run)
    took("tables")
    figures.write(run)
    took("plots")
    page.write(run)
    took("report")
    execute._print_tables(run, Console(file=io.StringIO()))
    took("print")
    check_formats.as_text(check(root, root / "tables" / "summary.csv"))
    took("check")
    compared = compare(root)
    comparison.write(root, compared)
    comparison.as_text(compared)
    took("compare")
    return spent


@pytest.mark.slow
@pytest.mark.parametrize("records", [n for n in SIZES if FULL or n <= 1000])
def test_records_to_report(benchmark, tmp_path, records):
    made = Made(Quick(tmp_path), *SIZES[records]).write()
    assert made.records == records
    parsed = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        parse(tmp_path)
        parsed = min(parsed, time.perf_counter() - start)
    spent = benchmark.pedantic(derive, args=(tmp_path,), rounds=1)
    assert (tmp_path / "report.html").is_file()
    assert len((tmp_path / "records.jsonl").read_bytes().splitlines()) == records
    benchmark.extra_info |= {f"{name}, seconds": seconds for name, seconds in spent.items()}
    reading = sum(spent[name] for name in READING)
    benchmark.extra_info["records, their files and tables / parsing all files once"] = round(
        reading / parsed, 1
    )
