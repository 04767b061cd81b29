"""Every path in a run directory, as a string relative to its root.

`Folder.path` turns these into paths. The folder of a cell is named `Cell.id`, which contains its content key.
"""

from __future__ import annotations

import hashlib
import re

PLAN = "plan.json"  # the cells, seeds and scores of the present version of the suite
SUITE = "suite.resolved.yaml"
ENVIRONMENT = "environment.json"
RECORDS = "records.jsonl"
RECORDS_SUM = "records.jsonl.sha256"  # in the format of `sha256sum`
REPORT = "report.html"
CELLS = "cells"
TABLES = "tables"
PLOTS = "plots"
PLOT_INDEX = f"{PLOTS}/index.json"
SEARCH = "search"  # a run directory for the trials on each dataset
SEARCH_RESULT = f"{SEARCH}/search.json"
LOCKS = "locks"
RECORDS_LOCK = f"{LOCKS}/records.lock"
QUARANTINE = "quarantine"
LOGS = "logs"
PLUGINS = "plugins"  # copies of the user's files that the resolved suite names
CHECKPOINT = "checkpoint.json"  # in the folder of the first seed of a stack
WEIGHTS = "weights.safetensors"  # next to train.json: parameters of a game, or the `state` of a sampler
SAMPLES = "samples.safetensors"  # of a method that is not a game
MEDIA = "media.safetensors"  # curves, snapshots and a few samples, for the plots
TENSORS = ".safetensors"  # suffix of the file with the tensors of a score or dataset, next to its JSON


def cell(cell: str) -> str:
    """The folder of a cell."""
    return f"{CELLS}/{cell}"


def cell_card(cell: str) -> str:
    """The description of a cell."""
    return f"{CELLS}/{cell}/cell.json"


def seed(cell: str, seed: int) -> str:
    """The folder of a trained seed."""
    return f"{CELLS}/{cell}/seed-{seed}"


def training(cell: str, seed: int) -> str:
    """The result of training a seed."""
    return f"{CELLS}/{cell}/seed-{seed}/train.json"


def scores(cell: str, seed: int) -> str:
    """The folder of the scores of a seed."""
    return f"{CELLS}/{cell}/seed-{seed}/scores"


def score(cell: str, seed: int, metric: str, key: str) -> str:
    """The score of a seed by a metric under this key; its tensors have the suffix `TENSORS` instead of `.json`."""
    return f"{CELLS}/{cell}/seed-{seed}/scores/{file_name(metric)}-{key[:12]}.json"


def dataset(label: str) -> str:
    """The preview of a dataset for plots and report; its tensors have the suffix `TENSORS` instead of `.json`."""
    return f"datasets/{label}.json"


def lock(cell: str, seed: int) -> str:
    """The lock of a seed."""
    return f"{LOCKS}/{cell}-seed-{seed}.lock"


def log(cell: str, seeds: str) -> str:
    """The output of the worker that trains these seeds."""
    return f"{LOGS}/{cell}-seed-{seeds}.log"


def plugin(file: str, digest: str) -> str:
    """The folder for a copy of a user's plugin file and of the files that it needs."""
    return f"{PLUGINS}/{file_name(file.removesuffix('.py'), digest[:12])}"


def table(name: str) -> str:
    """A table by its file name."""
    return f"{TABLES}/{name}"


def plot(name: str, kind: str) -> str:
    """A picture, `kind` "png" or "svg"."""
    return f"{PLOTS}/{name}.{kind}"


def file_name(*parts: str) -> str:
    """The parts, joined by `-`, as a portable file name. If characters had to be replaced, a digest is appended, so
    that different parts never give the same name."""
    # Most file systems allow 255 bytes, of which suffixes and temporary names need some.
    safe = [re.sub(r"[^A-Za-z0-9._+=@-]", "_", part) for part in parts]
    name = "-".join(safe)
    if safe == list(parts) and len(name) < 120:
        return name
    return f"{name[:100]}-{hashlib.sha256('-'.join(parts).encode()).hexdigest()[:6]}"
