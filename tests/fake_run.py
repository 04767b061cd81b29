"""A run directory as `ganbench run` writes it, made up without training: for tests of tables, plots and
reports, and for looking at them (`python tests/fake_run.py FOLDER`)."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from ganbench.contracts import COLUMNS

Array = np.ndarray[Any, Any]
RING = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)
STD = 0.02


@dataclass(frozen=True)
class FakeMethod:
    """A made-up method: `quality` in (0, 1] is the fraction of the modes it keeps."""

    label: str
    quality: float = 1.0
    failures: tuple[tuple[int, str], ...] = ()  # (seed, status)
    interface: str = "game"


METHODS = (
    FakeMethod("gan", 0.4, ((3, "diverged"),)),
    FakeMethod("gan+unrolling", 0.95),
    FakeMethod("kde", 1.0, interface="fit"),
)
NASTY = (
    FakeMethod("_x", 0.5),
    FakeMethod("a$b", 0.7),
    FakeMethod("<script>alert(1)</script>", 0.8),
    FakeMethod("=cmd", 0.9, ((0, "diverged"),)),
    FakeMethod("broken", 0.5, tuple((seed, "failed") for seed in range(20)), interface="fit"),
)
PROTOCOLS = {
    "kde_ll": "Parzen window of 10,000 samples, bandwidth chosen on the validation split, mean over 2,000 test points.",
    "modes": "A mode is captured if one of 2,500 samples lies within three standard deviations of its centre.",
    "memorisation": "Nearest training example in pixel space of 1,000 samples, against 1,000 held-out examples.",
    "reconstruction": "Least squared error of 16 test images over 3 starts of 200 L-BFGS steps in the latent space.",
}
VALUES = {  # metric -> value names with unit and direction
    "kde_ll": (("kde_ll", "nats", "higher"),),
    "modes": (
        ("modes", "modes", "higher"),
        ("high_quality_pct", "%", "higher"),
        ("reverse_kl", "nats", "lower"),
    ),
    "memorisation": (("memorisation", "ratio", "higher"),),
    "reconstruction": (("recon_mse", "squared error", "lower"),),
}


def short(text: str) -> str:
    """First 8 hex digits of the SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write_json(path: Path, content: object) -> None:
    """A JSON file in a folder that is made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")


def write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """A safetensors file, floats as float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(a, dtype=np.float32) for name, a in arrays.items()}, path)


# ---------------------------------------------------------------------------------------------- data


def ring_points(
    rng: np.random.Generator, n: int, quality: float = 1.0, std: float = STD
) -> tuple[Array, Array]:
    """Points [n, 2] on the first `quality` of eight modes, and the number of each mode's points [8]."""
    kept = rng.permutation(8)[: max(1, round(8 * quality))]
    modes = rng.choice(kept, size=n, p=rng.dirichlet(np.full(len(kept), 20 * quality)))
    return RING[modes] + rng.normal(scale=std, size=(n, 2)), np.bincount(modes, minlength=8)


def digit_images(
    rng: np.random.Generator, n: int, noise: float = 0.0, size: int = 8, channels: int = 1
) -> Array:
    """Blurred strokes and circles [n, channels, size, size] in 0..1."""
    y, x = np.mgrid[0:size, 0:size] / (size - 1) - 0.5
    angle, radius = rng.uniform(0, np.pi, (2, n, 1, 1, 1))
    offset = rng.uniform(-0.15, 0.15, (n, channels, 1, 1))
    stroke = np.abs(np.cos(angle) * x + np.sin(angle) * y - offset)
    circle = np.abs(np.hypot(x, y) - 0.2 - radius / 20)
    ink = np.exp(-((np.where(rng.random((n, 1, 1, 1)) < 0.5, stroke, circle) / 0.11) ** 2))
    return np.clip(ink + noise * rng.normal(size=ink.shape), 0, 1)


def write_datasets(folder: Path, labels: Sequence[str]) -> None:
    """`datasets/<label>.{json,safetensors}` for "ring", "line" and anything else as images."""
    rng = np.random.default_rng(0)
    for label in labels:
        info: dict[str, Any] = {"name": label, "label": label, "about": f"made-up {label}", "scale": None}
        info |= {"n_train": 10_000, "n_valid": 1000, "n_test": 2000, "digest": short(label) * 8, "params": {}}
        info |= {"modes": None, "classes": []}
        if label == "ring":
            info |= {
                "shape": [2],
                "modes": {"centers": RING.tolist(), "std": STD},
                "params": {"modes": 8, "std": STD},
            }
            axis = np.linspace(-1.4, 1.4, 140)
            grid = np.stack(np.meshgrid(axis, axis), axis=-1)
            squares = ((grid[:, :, None] - RING) ** 2).sum(-1)
            density = np.log(np.exp(-squares / (2 * STD**2)).mean(-1) / (2 * np.pi * STD**2) + 1e-30)
            arrays = {"examples": ring_points(rng, 2048)[0], "log_density": density}
            arrays["extent"] = np.array([-1.4, 1.4, -1.4, 1.4])
        elif label == "line":
            info |= {"shape": [1]}
            axis = np.linspace(-4, 4, 200)
            density = (
                np.log(np.exp(-((axis - 2) ** 2) / 0.5) / 2 + np.exp(-((axis + 2) ** 2) / 0.5) / 2) - 0.23
            )
            arrays = {
                "examples": line_points(rng, 2048),
                "log_density": density,
                "extent": np.array([-4.0, 4.0]),
            }
        else:
            size, channels = (8, 1) if label == "digits" else (28, 3)
            info |= {"shape": [channels, size, size], "scale": [0.0, 1.0]}
            arrays = {"examples": digit_images(rng, 64, size=size, channels=channels)}
        write_json(folder / "datasets" / f"{label}.json", info)
        write_arrays(folder / "datasets" / f"{label}.safetensors", arrays)


def line_points(rng: np.random.Generator, n: int, quality: float = 1.0) -> Array:
    """Points [n, 1] around -2 and 2."""
    return rng.choice([-2.0, 2.0], p=[1 - quality / 2, quality / 2], size=(n, 1)) + rng.normal(
        scale=0.5, size=(n, 1)
    )


# ---------------------------------------------------------------------------------------------- cells


class FakeRun:
    """Writes a run directory; `records` holds the rows of records.jsonl."""

    def __init__(self, folder: Path, suite: str = "fake", steps: int = 3000) -> None:
        self.folder, self.suite, self.steps = folder, suite, steps
        self.records: list[dict[str, Any]] = []
        self.keys: dict[str, dict[str, dict[str, str]]] = {}  # cell -> metric -> seed -> key of the score

    def write(self, datasets: Sequence[str], methods: Sequence[FakeMethod], seeds: int) -> FakeRun:
        """All cells, then what is derived from them."""
        write_datasets(self.folder, datasets)
        for dataset in datasets:
            for method in methods:
                self.cell(dataset, method, seeds)
        lines = [json.dumps(record, allow_nan=False) for record in self.records]
        (self.folder / "records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        cells = [
            {"cell": cell, "metrics": [{"metric": metric, "keys": keys} for metric, keys in metrics.items()]}
            for cell, metrics in self.keys.items()
        ]
        write_json(self.folder / "plan.json", {"schema": 1, "suite": self.suite, "cells": cells})
        text = f"name: {self.suite}\nabout: Does unrolling bring back the lost modes?\nseeds: {seeds}\n"
        (self.folder / "suite.resolved.yaml").write_text(text, encoding="utf-8")
        versions = {"ganbench": "0.1.0", "torch": "2.15.0", "python": "3.11.9"}
        command = ["ganbench", "run", "fake.yaml", "--seeds", str(seeds)]
        write_json(
            self.folder / "environment.json", {"command": command, "cpu_count": 2, "versions": versions}
        )
        return self

    def cell(self, dataset: str, method: FakeMethod, seeds: int) -> None:
        """One method on one dataset."""
        key = hashlib.sha256(f"{dataset} {method.label}".encode()).hexdigest()
        safe = "".join(c if c.isalnum() or c in "+_-" else "_" for c in method.label)
        folder = self.folder / "cells" / f"{dataset}-{safe}-{key[:12]}"
        tricks = ["unrolling"] if "unrolling" in method.label else []
        info = {
            "suite": self.suite,
            "dataset": dataset,
            "method": method.label.split("+")[0],
            "tricks": tricks,
        }
        info |= {
            "label": method.label,
            "params": {"z_dim": 64, "lr": 0.001},
            "key": key,
            "interface": method.interface,
        }
        info |= {"trick_params": [{"name": name, "params": {"k": 5}} for name in tricks]}
        info |= {"train": {"steps": self.steps, "batch": 256}, "about": "Goodfellow et al. 2014, Algorithm 1"}
        write_json(folder / "cell.json", info)
        for number in range(seeds):
            self.seed(folder, info, method, number)

    def seed(self, folder: Path, cell: dict[str, Any], method: FakeMethod, number: int) -> None:
        """One replica: how training ended, its media, its scores."""
        status = dict(method.failures).get(number, "ok")
        error = (
            None
            if status == "ok"
            else "Traceback (most recent call last):\n  …\nValueError: loss <is> not finite"
        )
        info = {"schema": 1, "key": cell["key"], "status": status, "error": error, "seconds": 3.2, "stack": 5}
        info |= {"device": "cpu", "dtype": "float32", "note": None, "versions": {}, "artefacts": {}}
        path = folder / f"seed-{number}"
        write_json(path / "train.json", {**info, "finished": "2026-01-02T03:04:05+00:00"})
        rng = np.random.default_rng([number, int(cell["key"][:8], 16)])
        quality = float(np.clip(method.quality + rng.normal(scale=0.07), 0.13, 1))
        if status == "ok":
            write_arrays(path / "media.safetensors", self.media(rng, cell, quality))
        for metric in self.metrics(cell["dataset"], method):
            self.score(path, cell, metric, number, info, self.measure(rng, cell["dataset"], metric, quality))

    def metrics(self, dataset: str, method: FakeMethod) -> list[str]:
        """The metrics that apply."""
        metrics = ["kde_ll", "modes"] if dataset == "ring" else ["kde_ll", "memorisation"]
        return metrics + (["reconstruction"] if method.interface == "game" and dataset != "line" else [])

    def draw(self, rng: np.random.Generator, dataset: str, n: int, quality: float) -> Array:
        """Made-up samples."""
        if dataset == "ring":
            return ring_points(rng, n, quality, STD * (2 - quality))[0]
        if dataset == "line":
            return line_points(rng, n, quality)
        size, channels = (8, 1) if dataset == "digits" else (28, 3)
        return digit_images(rng, n, 0.4 * (1 - quality), size, channels)

    def media(self, rng: np.random.Generator, cell: dict[str, Any], quality: float) -> dict[str, Array]:
        """Samples, curves and snapshots."""
        dataset, points = cell["dataset"], cell["dataset"] in ("ring", "line")
        arrays = {"samples": self.draw(rng, dataset, 2048 if points else 64, quality)}
        if cell["interface"] != "game":
            return arrays
        steps = np.linspace(0, self.steps, 60)
        arrays["curve.step"] = steps
        arrays["curve.D"] = 1.3 - 0.5 * np.exp(-steps / 500) + 0.08 * rng.normal(size=60)
        arrays["curve.G"] = 0.8 + (1 - quality) * np.exp(-steps / 900) + 0.08 * rng.normal(size=60)
        n, progress = (512 if points else 16), (0.15, 0.3, 0.6, 1.0)
        arrays["snapshots"] = np.stack([self.draw(rng, dataset, n, max(quality * p, 0.13)) for p in progress])
        arrays["snapshot.step"] = self.steps * np.array(progress)
        return arrays

    def measure(
        self, rng: np.random.Generator, dataset: str, metric: str, quality: float
    ) -> tuple[list[tuple[float, float | None]], dict[str, Any], dict[str, Array]]:
        """Values with standard errors, details, tensor details."""
        if metric == "modes":
            counts = ring_points(rng, 2500, quality)[1]
            share = counts[counts > 0] / counts.sum()
            divergence = float((share * np.log(8 * share)).sum())
            values = [(float((counts > 0).sum()), None), (100 * quality, 0.4), (divergence, None)]
            return values, {"counts": counts.tolist()}, {}
        if metric == "kde_ll":
            details = {"bandwidth": 0.1, "at_edge": quality > 0.9}
            if quality > 0.9:
                details["warning"] = (
                    "The chosen bandwidth 0.1 sits on the edge of the grid; widen `bandwidths`."
                )
            return [(-20 + 30 * quality + float(rng.normal()), 0.4)], details, {}
        if metric == "memorisation":
            distances = {"distance_samples": rng.gamma(9, 0.1 * quality, 1000)}
            distances["distance_heldout"] = rng.gamma(9, 0.1, 1000)
            panel = {"panel_samples": self.draw(rng, dataset, 8, quality)}
            return (
                [(quality, None)],
                {"verdict": "no sign of copying (3 < 4)"},
                {**panel, "panel_neighbours": self.draw(rng, dataset, 8, 1.0), **distances},
            )
        targets = self.draw(np.random.default_rng(0), dataset, 8, 1.0)
        images = targets + rng.normal(scale=0.3 * (1.1 - quality), size=targets.shape)
        errors = ((images - targets) ** 2).reshape(8, -1).mean(1)
        return [(float(errors.mean()), float(errors.std() / 8**0.5))], {}, {
            "targets": targets, "reconstructions": images, "errors": errors,
        }  # fmt: skip

    def score(
        self,
        folder: Path,
        cell: dict[str, Any],
        metric: str,
        number: int,
        train: dict[str, Any],
        measured: tuple[list[tuple[float, float | None]], dict[str, Any], dict[str, Array]],
    ) -> None:
        """The records of one metric, and its files where training went well."""
        values, details, tensors = measured
        ok, protocol = train["status"] == "ok", short(PROTOCOLS[metric])
        records = []
        for (name, unit, better), (value, sem) in zip(VALUES[metric], values, strict=True):
            common = {
                name: cell[name] for name in ("suite", "dataset", "method", "label", "tricks", "params")
            }
            common |= {"seed": number, "metric": name, "protocol": protocol, "unit": unit, "better": better}
            common |= {"value": value if ok else None, "sem": sem if ok else None, "n": 2000 if ok else None}
            common |= {name: train[name] for name in ("status", "error", "device", "dtype", "stack")}
            common |= {"seconds": 0.5, "train_seconds": train["seconds"], "cell": folder.parent.name}
            common |= {"version": "0.1.0", "floor": None, "invalid": details.get("invalid") if ok else None}
            records.append({name: common[name] for name in COLUMNS})
        self.records += records
        if not ok:
            return
        keys = self.keys.setdefault(folder.parent.name, {}).setdefault(metric, {})
        keys[str(number)] = f"{protocol}00000000"
        path = folder / "scores" / f"{metric}-{protocol}0000"
        if tensors:
            write_arrays(path.with_suffix(".safetensors"), tensors)
        info = {
            "schema": 1,
            "key": protocol,
            "metric": metric,
            "status": "ok",
            "error": None,
            "records": records,
        }
        write_json(
            path.with_suffix(".json"), {**info, "protocol_text": PROTOCOLS[metric], "details": details}
        )


if __name__ == "__main__":
    FakeRun(Path(sys.argv[1])).write(["ring", "line", "digits", "photos"], [*METHODS, *NASTY], seeds=5)
    FakeRun(Path(sys.argv[2]), "quickstart").write(["ring", "digits"], METHODS, seeds=5)
