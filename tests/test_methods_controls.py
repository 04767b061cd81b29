"""The methods that learn nothing: copies of the training set, and held-out data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cells import cells, points
from metric_models import Samples

from ganbench import registry
from ganbench.metrics.memorisation import Memorisation
from ganbench.training import loop as engine


def made(folder, method, data, seeds=(0,)):
    """The stored samples of each seed."""
    (cell,) = cells(folder, f"[{method}]")
    return [one.samples for one in engine.train(cell, data, list(seeds))]


def split(n_train=400, n_valid=300, n_test=300):
    """A blob in the plane, in three parts that have nothing in common."""
    x = torch.randn(n_train + n_valid + n_test, 2, generator=torch.Generator().manual_seed(5))
    train, valid, test = x.split([n_train, n_valid, n_test])
    return replace(points(), train=train, valid=valid, test=test)


def test_held_out_data_are_each_validation_example_once_and_then_all_again(tmp_path):
    data = split()
    first, second = made(tmp_path, "heldout", data, (0, 1))
    assert first.shape == (engine.MIN_STORED_SAMPLES, 2)
    known = {tuple(row) for row in data.valid.tolist()}
    for start in (0, 300):
        assert {tuple(row) for row in first[start : start + 300].tolist()} == known
    assert not torch.equal(first, second)


def test_pixels_come_as_floats_in_the_data_s_scale(tmp_path):
    data = registry.load(registry.find("dataset", "digits"))(torch.Generator())
    (samples,) = made(tmp_path, "heldout", data)
    assert samples.shape[1:] == data.shape
    assert torch.allclose(samples[:200].sum(0), data.floats(data.valid).sum(0), atol=1e-4)
    assert (float(samples.min()), float(samples.max())) == (0.0, 1.0)


@pytest.mark.parametrize(("method", "value", "within"), [("heldout", 0.5, 0.08), ("kde", 1.0, 1e-9)])
def test_memorisation_tells_them_apart(tmp_path, method, value, within):
    data = split()
    (samples,) = made(tmp_path, method, data)
    score = Memorisation(n=300)(Samples(samples), data)
    assert score.value == pytest.approx(value, abs=within)
