"""Every path and name in a run directory, as text below its root.

`Folder.path` makes paths of them. The name of a cell's folder is `Cell.id`, since it is the cell's identity.
"""

from __future__ import annotations

import hashlib
import re

PLAN = "plan.json"  # which cells, seeds and scores belong to the suite as it stands
SUITE = "suite.resolved.yaml"
ENVIRONMENT = "environment.json"
RECORDS = "records.jsonl"
RECORDS_SUM = "records.jsonl.sha256"  # as `sha256sum` writes and checks it
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
PLUGINS = "plugins"  # copies of the users' files that the resolved suite names
CHECKPOINT = "checkpoint.json"  # in the folder of the first seed of a stack
WEIGHTS = "weights.safetensors"  # beside train.json: of a game, or what else a sampler carries
SAMPLES = "samples.safetensors"  # of a method that is no game
MEDIA = "media.safetensors"  # curves, snapshots and a few samples, for the plots
TENSORS = ".safetensors"  # ends the name of what lies beside the JSON of a score or dataset


def cell(cell: str) -> str:
    """The folder of a cell."""
    return f"{CELLS}/{cell}"


def cell_card(cell: str) -> str:
    """What is said of a cell."""
    return f"{CELLS}/{cell}/cell.json"


def seed(cell: str, seed: int) -> str:
    """The folder of a trained seed."""
    return f"{CELLS}/{cell}/seed-{seed}"


def training(cell: str, seed: int) -> str:
    """How the training of a seed ended."""
    return f"{CELLS}/{cell}/seed-{seed}/train.json"


def scores(cell: str, seed: int) -> str:
    """The folder of the scores of a seed."""
    return f"{CELLS}/{cell}/seed-{seed}/scores"


def score(cell: str, seed: int, metric: str, key: str) -> str:
    """The score of a seed by a metric under this key; `TENSORS` for `.json` is where its tensors are."""
    return f"{CELLS}/{cell}/seed-{seed}/scores/{file_name(metric)}-{key[:12]}.json"


def dataset(label: str) -> str:
    """What the plots and the report show of a dataset; `TENSORS` for `.json` is where its tensors are."""
    return f"datasets/{label}.json"


def lock(cell: str, seed: int) -> str:
    """The lock of a seed."""
    return f"{LOCKS}/{cell}-seed-{seed}.lock"


def log(cell: str, seeds: str) -> str:
    """What the worker of these seeds prints."""
    return f"{LOGS}/{cell}-seed-{seeds}.log"


def plugin(file: str, digest: str) -> str:
    """The folder for a copy of a user's plugin file and of what it needs."""
    return f"{PLUGINS}/{file_name(file.removesuffix('.py'), digest[:12])}"


def table(name: str) -> str:
    """A table, by its file name."""
    return f"{TABLES}/{name}"


def plot(name: str, kind: str) -> str:
    """A picture, `kind` "png" or "svg"."""
    return f"{PLOTS}/{name}.{kind}"


def file_name(*parts: str) -> str:
    """`-`-joined parts as a portable file name; parts that had to be changed get a digest, to stay apart."""
    safe = [re.sub(r"[^A-Za-z0-9._+=@-]", "_", part) for part in parts]
    name = "-".join(safe)
    if safe == list(parts) and len(name) < 120:
        return name
    return f"{name[:100]}-{hashlib.sha256('-'.join(parts).encode()).hexdigest()[:6]}"
