"""Every method with every trick, as the catalog has them: it trains, or is refused before it does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations

import pytest
import torch
from cells import cells, pixels, points
from click.testing import CliRunner

from ganbench import PluginError
from ganbench.cli.commands import main
from ganbench.registry import catalog
from ganbench.training import loop as engine
from ganbench.training import model

METHODS = [name for name, plugin in catalog()["method"].items() if plugin.interface == "game"]
TRICKS = list(catalog()["trick"])
# Instead of a method's own, where it has such a parameter.
SMALL = {"width": "8", "z_dim": "4", "squarings": "1"}
CHEAP = {"kernels": "3", "k": "2", "reference": "4"}  # likewise of a trick
TRAIN = "{{steps: {}, batch: 8, snapshots: 1}}"


def written(kind, name, small, **more):
    """The parameters of a plugin in YAML: small ones, as far as it has them."""
    given = {key: value for key, value in {**small, **more}.items() if catalog()[kind][name].param(key)}
    return "{" + ", ".join(f"{key}: {value}" for key, value in given.items()) + "}"


def outcome(folder, method, tricks, data, *, rounds=2, seeds=(0, 1), **params):
    """ "ok", or the text with which the tricks are refused; anything else is a failure."""
    entry = f"{{method: {method}, label: it, params: {written('method', method, SMALL, **params)}, tricks: ["
    entry += (
        ", ".join(f"{{trick: {name}, params: {written('trick', name, CHEAP)}}}" for name in tricks) + "]}"
    )
    (cell,) = cells(folder, f"[{entry}]", train=TRAIN.format(rounds))
    try:
        engine.smoke_test(cell, data)
    except PluginError as error:
        return str(error)
    found = engine.train(cell, data, seeds)
    assert [(one.status, one.error) for one in found] == [("ok", None)] * len(seeds)
    for one in found:
        samples = model.model(cell, data, one.seed, one.state, None).samples(3)
        assert samples.shape == (3, *data.shape)
        assert torch.isfinite(samples).all()
    return "ok"


REFUSED = re.compile(r"^\w+: |^this game has no |^fails with \w+ but works without ")


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_with_a_trick_in_the_plane(tmp_path, method, trick):
    found = outcome(tmp_path, method, [trick], points())
    assert found == "ok" or REFUSED.search(found), found


# Those with nets for images; the others play images as points of more dimensions, and the plain GAN comes below.
CONVOLUTIONS = [name for name in METHODS if catalog()["method"][name].param("net") and name != "gan"]
CONVOLUTIONS += ["dcgan", "gan_2014", "lapgan"]


@pytest.mark.slow
@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("method", CONVOLUTIONS)
def test_a_method_with_a_trick_on_images(tmp_path, method, trick):
    found = outcome(tmp_path, method, [trick], pixels(), net="conv", rounds=1, seeds=(0,))
    assert found == "ok" or REFUSED.search(found), found


@pytest.mark.parametrize("trick", TRICKS)
def test_all_tricks_go_with_the_plain_gan(tmp_path, trick):
    assert outcome(tmp_path, "gan", [trick], pixels(), net="conv") == "ok"


def test_a_pair_needs_an_order_only_where_a_loss_is_replaced(tmp_path):
    pairs = [
        ("unrolling", "feature_matching"),
        ("feature_matching", "unrolling"),
        ("ema", "feature_matching"),
    ]
    refused, *fine = (outcome(tmp_path, "gan", pair, points()) for pair in pairs)
    assert refused.startswith("feature_matching replaces the loss of 'G'")
    assert fine == ["ok", "ok"]


@pytest.mark.slow
@pytest.mark.parametrize("trick", [name for name in TRICKS if name != "feature_matching"])
def test_a_trick_before_one_that_replaces_a_loss(tmp_path, trick):
    found = outcome(tmp_path, "gan", [trick, "feature_matching"], pixels(), net="conv")
    assert found == "ok" or found.startswith("feature_matching replaces")


def valid_order(tricks: Iterable[str]) -> list[str]:
    """The tricks in their order, but for the one that replaces a loss, which comes first."""
    return sorted(tricks, key=lambda name: name != "feature_matching")


def fours() -> Iterator[tuple[str, ...]]:
    """As few lists of four tricks as let every pair stand in one of them."""
    left = set(combinations(TRICKS, 2))
    while left:
        four = max(combinations(TRICKS, 4), key=lambda four: len(left & set(combinations(four, 2))))
        left -= set(combinations(four, 2))
        yield four


@pytest.mark.slow
@pytest.mark.parametrize("tricks", [order for four in fours() for order in (four, four[::-1])], ids="-".join)
def test_every_pair_of_tricks_in_either_order(tmp_path, tricks):
    assert outcome(tmp_path, "gan", valid_order(tricks), pixels(), net="conv") == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("order", [TRICKS, TRICKS[::-1]], ids=["forwards", "backwards"])
def test_all_tricks_at_once(tmp_path, order):
    assert outcome(tmp_path, "gan", valid_order(order), pixels(), net="conv") == "ok"


def test_what_does_not_go_together_is_told_before_anything_is_trained(tmp_path):
    cells(
        tmp_path,
        "[gan, {method: vae, tricks: [unrolling]}, {method: wgan, tricks: [label_smoothing]}]",
        train=TRAIN.format(2),
    )
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["run", str(tmp_path / "suite.yaml"), "--out", str(out), "--dry-run"])
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "error: ring-vae+unrolling: this game has no player 'D'; expected one of: VAE",
        "ring-wgan+label_smoothing: label_smoothing: player 'D' does not descend -log D(x) on real examples "
        "(as bce_real(nets.D(b.x)) does), so that it has no labels to smooth",
    ]
    assert not out.exists()
