"""The checks of a dataset: its splits, its types and the features that it claims to provide."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from .. import registry
from ..contracts import Data
from ..suite.spec import PluginSpec
from .checks import Check, CheckFailed, Checks, Target, as_plugin, run_checks

MAX_OVERLAP = 0.01  # share of a split's examples that may also be in another one


def check_dataset(target: Target, **params: Any) -> list[Check]:
    """Check a dataset with these parameters. Raises PluginError if there is no such dataset."""
    part = PluginSpec(as_plugin("dataset", target), params)
    return run_checks(part, lambda: _dataset(part))


def _dataset(part: PluginSpec) -> Checks:
    attempts = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)  # the global seed, on which the data must not depend
            attempts.append(registry.load(part.plugin)(Generator().manual_seed(0), **part.params))
    first, second = attempts
    if not isinstance(first, Data):
        raise CheckFailed(
            "it gives Data", f"it gave a {type(first).__name__}; return Data(name, train, valid, test, shape)"
        )
    yield Check("it gives Data")
    splits = {"train": first.train, "valid": first.valid, "test": first.test}
    yield Check("its splits have the shape that it states", _shape_issue(first, splits))
    yield Check("its values are finite floats, or bytes for images", _type_issue(first, splits))
    yield from _overlap(splits)
    alike = all(torch.equal(x, getattr(second, name)) for name, x in splits.items())
    text = "two calls gave different data; take all random numbers from the generator argument"
    yield Check("everybody gets the same data", None if alike else text)
    names = ("modes", "log_density", "labels", "simulator")
    attributes = {name: getattr(first, name) for name in names}
    attributes["pixels"] = first.train if first.train.dtype == torch.uint8 else None
    claimed = part.plugin.provides
    lacks = [name for name in claimed if attributes.get(name) is None]
    unclaimed = [name for name, value in attributes.items() if value is not None and name not in claimed]
    text = f"it says that it provides {' and '.join(lacks)}, but its Data has none" if lacks else None
    yield Check("it has what it says it provides", text)
    # Suites read the marks without running the file, so what is not marked is not there for them.
    text = (
        f"add provides={tuple(unclaimed)!r} to @dataset, or no metric that needs it will apply"
        if unclaimed
        else None
    )
    yield Check("it says what it has", text, advice=True)
    yield Check("labels and density fit the examples", _label_issue(first, splits))


def shared_rows(x: Tensor, y: Tensor) -> tuple[int, float]:
    """The number of rows of `x` [n, ...] that are also in `y` [m, ...], bit for bit, and the number expected if both
    are independent draws: n times the share of rows of `y` that occur there more than once. Both are zero for
    continuous data; for integers, rows of independent splits coincide as often as rows of one split do."""
    own, other = (
        [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in part.cpu().numpy()]
        for part in (x, y)
    )
    # Hashes of rows, since comparing all pairs would take n × m rows in memory.
    times = Counter(other)
    repeated = sum(count for count in times.values() if count > 1) / len(other)
    return sum(row in times for row in own), len(own) * repeated


def _overlap(splits: Mapping[str, Tensor]) -> Checks:
    """Whether splits share examples: test examples must not have been used for training or for choosing a
    bandwidth."""
    if not all(map(len, splits.values())):
        return  # an empty split, which the check of shapes reports
    wrong, few = [], []
    for name, other in (("valid", "train"), ("test", "train"), ("test", "valid")):
        x, y = splits[name], splits[other]
        shared, expected = shared_rows(x, y)
        excess = shared - expected
        text = f"{shared:,} of {len(x):,} {name} examples are also in {other}"
        text += f", where chance would give {expected:,.0f}" if expected else ""
        # Equal splits are wrong however likely they are by chance, unless all examples are the same.
        if excess > MAX_OVERLAP * len(x) or (torch.equal(x, y) and len(x.unique(dim=0)) > 1):
            wrong.append(text)
        elif excess > 5 * math.sqrt(expected):  # five standard deviations of a Poisson count
            few.append(text)
    advice = "draw the splits from different examples, and remove repeated ones before you split"
    text = f"{'; '.join(wrong + few)}; {advice}" if wrong or few else None
    yield Check("its splits hold different examples", text, advice=not wrong)


def _shape_issue(data: Data, splits: Mapping[str, Tensor]) -> str | None:
    for name, x in splits.items():
        if x.shape[1:] != data.shape or not len(x):
            return f"{name} has the shape {list(x.shape)}, expected {['N', *data.shape]} with N > 0"
    return None


def _type_issue(data: Data, splits: Mapping[str, Tensor]) -> str | None:
    for name, x in splits.items():
        if x.dtype == torch.uint8:
            if data.scale is None:
                return "images of bytes need scale=(0.0, 1.0)"
            continue
        if x.dtype != torch.float32 or not bool(torch.isfinite(x).all()):
            return f"{name} is {x.dtype}, or holds NaN; give finite torch.float32, or torch.uint8 for images"
    return None


def _label_issue(data: Data, splits: Mapping[str, Tensor]) -> str | None:
    for name, x in splits.items():
        if data.labels and getattr(data.labels, name).shape != (len(x),):
            return f"the labels of {name} have the shape {list(getattr(data.labels, name).shape)}, expected [{len(x)}]"
    if data.log_density:
        density = data.log_density(data.floats(data.test[:5]))
        if density.shape != (len(data.test[:5]),) or not bool(torch.isfinite(density).all()):
            return f"log_density of 5 test examples gave {density.tolist()}, expected 5 finite numbers"
    return None
