"""The splits of the shipped datasets hold different examples."""

from __future__ import annotations

import pytest
import torch

from ganbench import load_data, registry
from ganbench.conformance.datasets import shared_rows
from ganbench.datasets import files
from ganbench.errors import DatasetError

# Real images: how many of all that are held out stand in another split too, bit for bit. Counted in the published
# files where they were at hand; for the others a bound, 1 in 200.
COUNTED = {"digits": 0, "mnist": 0, "stacked_mnist": 0}
BOUNDS = {"fashion-mnist": 100, "cifar10": 75, "svhn": 180, "stl10": 65, "celeba": 200}
LONG = {"cifar10", "svhn", "stl10", "celeba"}  # to read
# Whose files are the user's: `ganbench test` and the tests of conform. Those of cifar10-jpeg take long to read, which
# test_datasets_images does.
ELSEWHERE = {"images", "samples", "tfd", "cifar10-jpeg"}
DATASETS = sorted({*registry.catalog()["dataset"]} - ELSEWHERE)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in DATASETS]
)
def test_splits_share_no_examples(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Independent draws of whole numbers, or of one number in float32, coincide as often as chance has it."""
    if name in {*COUNTED, *BOUNDS} - {"digits"}:
        monkeypatch.setenv("GANBENCH_DATA", str(request.getfixturevalue("real_data")))

    def download(*_: object) -> None:
        pytest.skip(f"{name} is not at hand")

    monkeypatch.setattr(files, "_download", download)
    try:
        data = load_data(name)
    except DatasetError as error:
        if "missing" in str(error):
            pytest.skip(f"{name} is not at hand: {error}")
        raise
    splits = {"train": data.train, "valid": data.valid, "test": data.test}
    found = 0
    for held_out, other in (("valid", "train"), ("test", "train"), ("test", "valid")):
        shared, expected = shared_rows(splits[held_out], splits[other])
        assert shared <= expected + 5 * max(expected, 1) ** 0.5 or name in {*COUNTED, *BOUNDS}
        found += shared
    if name in COUNTED:
        assert found == COUNTED[name]
    assert name not in BOUNDS or found <= BOUNDS[name]


def test_every_dataset_of_files_has_a_count_or_a_bound() -> None:
    drawn = {"ring", "grid", "mixture1200d", "mixture1d", "swiss_roll"}
    simulated = {"poisson", "xor", "rotated_swiss_roll", "muons"}
    assert set(DATASETS) == drawn | simulated | set(COUNTED) | set(BOUNDS)


def test_shared_rows_are_counted_bit_for_bit() -> None:
    x = torch.randn(50, 3, 4)
    y = torch.cat([torch.randn(20, 3, 4), x[10:15]])
    assert shared_rows(x, y) == (5, 0.0)
    assert shared_rows(y, x) == (5, 0.0)
    assert shared_rows(x, torch.cat([y, y[:5]])) == (5, pytest.approx(50 * 10 / 30))
    assert shared_rows((x * 9).byte(), (y * 9).byte())[0] >= 5
