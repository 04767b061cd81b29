"""The loss of every discriminator before the first step: every shipped method, every trick.

A discriminator that knows nothing gives logits near 0, and its cross-entropy on real and generated examples is
log 4. Where it starts far from that, as with kernels summed over a batch, the first thousand rounds undo the start.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from cells import cells

from ganbench import load_data, registry
from ganbench.conformance.fixtures import images
from ganbench.contracts import Data
from ganbench.training import loop as engine

LOG_4 = math.log(4)
CROSS_ENTROPY = (LOG_4 / 2, 3 * LOG_4)
HALF = (
    LOG_4 / 4,
    3 * LOG_4 / 2,
)  # the mean over real and generated examples together, not the sum of two means
# Logits v are below 1 or so, which is what the other bands assume too.
SMALL = (-1.0, 1.0)  # E v(G(z)) − E v(x), and f-divergences in which log 4 was taken away
BANDS = {
    **dict.fromkeys(["dcgan", "gan", "metz_2017", "pacgan", "veegan", "frozen_generator"], CROSS_ENTROPY),
    "fixed_generator": CROSS_ENTROPY,
    **dict.fromkeys(["gan_2014", "lapgan"], HALF),
    "fgan": SMALL,  # its default divergence; under `gan` it is log 4
    "dragan": (LOG_4 / 2, 3 * LOG_4 + 0.1),  # λ (‖∇v‖ − 1)² more, λ = 0.1, for a v that is nearly flat
    "wgan": SMALL,
    "wgan_gp": (0.0, 11.0),  # the same penalty, λ = 10
    "dirac_gan": (-4.0, 4.0),  # |ψ · (E x − θ)| of ‖E x‖ ≤ 1, ‖θ‖ = 1 and weights below 1/√2
    "lsgan": (0.25, 1.5),  # ½ E (v(x) − 1)² + ½ E v(G(z))²: ½ at v = 0
    "r3gan": (
        math.log(2) / 2,
        3 * math.log(2),
    ),  # one softplus of a difference, and penalties on small slopes
    "sngan": (1.0, 3.0),  # two hinges, each 1 at v = 0
    # No discriminator. ‖x‖²/2σ² at σ = 0.1 is 200 on the ring; d log 2 is 44 on 8 × 8 pixels.
    "vae": (0.0, 1000.0),
}
GAMES = sorted(p.name for p in registry.catalog()["method"].values() if p.interface == "game")
TRICKS = sorted(registry.catalog()["trick"])
CARRIERS = {
    "virtual_batch_norm": "fgan, params: {divergence: gan, loss: log-d, g_norm: true}"
}  # G needs a norm


@pytest.fixture(scope="module")
def datasets() -> dict[str, Data]:
    return {
        "ring": load_data("ring", n_train=500, n_valid=10, n_test=10),
        "images": images(8),
        "large": images(28),
    }


def starts(folder: Path, method: str, data: Data) -> dict[str, list[float]]:
    """The losses of two seeds on their first minibatch of 64, for each player."""
    (cell,) = cells(folder, f"[{{method: {method}}}]", train="{steps: 10, batch: 64}")
    games = [engine.build_game(cell, data, seed) for seed in (0, 1)]
    stack = engine.Stack(games, torch.device("cpu"), torch.float32)
    draws = engine.Draws(stack.game, data, (0, 1), 64, torch.device("cpu"), torch.float32)
    batch = next(draws.rounds(1))[0] | {name: torch.tensor(0.0) for name in ("step", "progress")}
    return {player: stack.gradient(player, batch)[0].tolist() for player in stack.game.players}


def discriminators(losses: dict[str, list[float]]) -> list[float]:
    """Those of the players that are no generators."""
    return [loss for player, own in losses.items() if not player.startswith("G") for loss in own]


def test_every_method_has_a_band() -> None:
    assert set(BANDS) == set(GAMES)


@pytest.mark.parametrize("where", ["ring", "images"])
@pytest.mark.parametrize("name", GAMES)
def test_the_start_of_every_method(tmp_path: Path, datasets: dict[str, Data], name: str, where: str) -> None:
    only = {"dcgan": "images", "lapgan": "images", "metz_2017": "images", "dirac_gan": "ring"}.get(
        name, where
    )
    if only != where:
        pytest.skip(f"{name} is for {only}")
    low, high = BANDS[name]
    where = "large" if name == "metz_2017" else where  # whose nets are for 28 × 28 or 32 × 32 pixels
    for loss in discriminators(starts(tmp_path, name, datasets[where])):
        assert low < loss < high


@pytest.mark.parametrize("where", ["ring", "images"])
@pytest.mark.parametrize("trick", TRICKS)
def test_the_start_of_every_trick(tmp_path: Path, datasets: dict[str, Data], trick: str, where: str) -> None:
    """On a GAN whose D starts at log 4; a penalty of R1 is small beside that, since D is nearly flat."""
    method = f"{CARRIERS.get(trick, 'gan')}, tricks: [{trick}]"
    low, high = CROSS_ENTROPY
    for loss in discriminators(starts(tmp_path, method, datasets[where])):
        assert low < loss < high


@pytest.mark.parametrize("kernels", [1, 300])
@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_minibatch_discrimination_starts_small_with_any_number_of_kernels(
    tmp_path: Path, datasets: dict[str, Data], kernels: int, net: str
) -> None:
    method = f"gan, params: {{net: {net}, width: 16}}, tricks: [{{minibatch_discrimination: {{kernels: {kernels}}}}}]"
    low, high = CROSS_ENTROPY
    for loss in discriminators(starts(tmp_path, method, datasets["images"])):
        assert low < loss < high
