"""Which metric sees which fault: the faults against closed forms, the rule of the table, and the page."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from cells import pixels, points
from click.testing import CliRunner
from reference import MAX_BYTES, insert_numbers

from ganbench import PluginError, random_subset
from ganbench.cli.commands import main
from ganbench.contracts import Data, Labels, Modes
from ganbench.metrics.modes import mode_controls
from ganbench.training.rng import generator

ROOT = Path(__file__).parent.parent
SQUARE = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])


def module(path: str) -> ModuleType:
    """A file of this checkout as a module."""
    loader = SourceFileLoader(Path(path).stem.replace("-", "_"), str(ROOT / path))
    made = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(made)
    return made


corrupted = module("suites/lecture/corrupted.py")


def square(n: int = 6000) -> Data:
    """Four Gaussians in the plane, equally likely; no two splits have a point in common."""
    g = torch.Generator().manual_seed(0)
    sets = [
        SQUARE[torch.randint(4, (n,), generator=g)] + 0.1 * torch.randn(n, 2, generator=g) for _ in range(3)
    ]
    return Data("square", *sets, (2,), modes=Modes(SQUARE, 0.1))


def samples(data: Data, fault: str, strength: float, n: int = 4000, seed: int = 0) -> torch.Tensor:
    """Samples as a run draws them."""
    return corrupted.Corrupted(fault, strength).fit(data, seed, None)(n, generator(seed, "samples"))


def among(x: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Whether each of `x` is one of `others`."""
    known = {tuple(row) for row in others.flatten(1).tolist()}
    return torch.tensor([tuple(row) in known for row in x.flatten(1).tolist()])


# ---------------------------------------------------------------------------------------------- the faults


@pytest.mark.parametrize(
    "fault", ["none", "dropped", "skewed", "noise", "copies", "centroids", "gaussian", "smeared"]
)
def test_strength_0_shows_held_out_examples_and_each_once(fault: str) -> None:
    data = square()
    made = samples(data, fault, 0.0)
    assert among(made, data.valid).all()
    assert not among(made, random_subset(data.valid, 1000)).any()  # those of the bandwidth
    assert len(made.unique(dim=0)) == (
        4000 if fault not in ("dropped", "skewed") else pytest.approx(4000, abs=100)
    )


def test_images_of_strength_0_are_the_bytes_of_the_data() -> None:
    data = pixels(channels=3)
    for fault in ("none", "blur", "noise", "copies", "colours"):
        made = samples(data, fault, 0.0, n=32)
        assert made.dtype == torch.uint8
        assert among(made, data.valid).all()


def test_every_cell_draws_examples_of_its_own_and_a_seed_the_same_ones_twice() -> None:
    data = square()
    first, again, other, seed = (
        samples(data, "none", 0.0),
        samples(data, "none", 0.0),
        samples(data, "copies", 0.0),
        samples(data, "none", 0.0, seed=1),
    )
    assert torch.equal(first, again)
    assert (first == other).all(1).sum() < 20
    assert (first == seed).all(1).sum() < 20


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_share_of_the_samples_is_copied(share: float) -> None:
    data = square()
    copied = among(samples(data, "copies", share), data.train).double().mean().item()
    assert copied == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))


def test_modes_are_dropped_from_the_last_one_and_one_stays() -> None:
    data = square()
    for share, left in ((0.25, 3), (0.5, 2), (1.0, 1)):
        assert set(torch.cdist(samples(data, "dropped", share), SQUARE).argmin(1).tolist()) == {*range(left)}


def test_skewed_weights_are_a_geometric_sequence() -> None:
    data = square()
    counts = torch.bincount(torch.cdist(samples(data, "skewed", 0.5), SQUARE).argmin(1), minlength=4) / 4000
    held = data.valid[random_subset(torch.arange(6000), 6000)[1000:]]
    weights = torch.bincount(torch.cdist(held, SQUARE).argmin(1)) * torch.tensor([1.0, 0.5, 0.25, 0.125])
    expected = weights / weights.sum()
    assert torch.allclose(expected, torch.tensor([8.0, 4.0, 2.0, 1.0]) / 15, atol=0.02)
    assert ((counts - expected).abs() < 4 * (expected * (1 - expected) / 4000).sqrt()).all()


def test_classes_are_the_modes_of_images() -> None:
    data = pixels(n=3000)
    y = torch.arange(3000) % 5
    data = replace(data, labels=Labels(y, y, y), classes=tuple("abcde"))
    made = samples(data, "dropped", 0.4, n=500)
    assert among(made, data.valid[y < 3]).all()


def test_blur_is_a_kernel_of_its_standard_deviation() -> None:
    image = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    image[..., 20, 20] = 1
    made = corrupted.blurred(image, 2.0)[0, 0]
    places = torch.arange(41.0) - 20
    assert made.sum().item() == pytest.approx(1, abs=1e-12)
    for axis in (0, 1):
        assert (made.sum(axis) @ places.double().square()).item() == pytest.approx(4.0, rel=0.01)
    flat = torch.full((2, 3, 8, 8), 0.4, dtype=torch.float64)
    assert torch.allclose(corrupted.blurred(flat, 3.0), flat, atol=1e-12)


def test_noise_is_in_standard_deviations_of_the_data() -> None:
    data = square()
    spread = data.train.var(0).mean().sqrt().item()
    far = samples(data, "noise", 2.0)
    both = math.sqrt(1 + 2.0**2) * spread
    assert far.var(0).mean().sqrt().item() == pytest.approx(both, rel=0.03)


def test_smeared_samples_are_those_of_the_floor_of_modes() -> None:
    data = square()
    floor = mode_controls(data, 2500, 3.0)["floor_smeared"]["high_quality_pct"]
    gap = torch.cdist(samples(data, "smeared", 1.0), SQUARE).min(1).values
    assert 100 * (gap < 0.3).double().mean().item() == pytest.approx(floor, abs=2)
    assert corrupted.merging_noise(data.modes) == pytest.approx(math.sqrt(1 - 0.1**2))


def test_the_gaussian_has_the_mean_and_covariance_of_the_training_set() -> None:
    data = square()
    made = samples(data, "gaussian", 1.0)
    assert torch.allclose(made.mean(0), data.train.mean(0), atol=0.07)
    assert torch.allclose(made.T.cov(), data.train.T.cov(), atol=0.1)


def test_centroids_are_means_of_clusters() -> None:
    x = square().train
    (mean,) = corrupted.k_means(x, 1, torch.Generator())
    assert torch.allclose(mean, x.mean(0), atol=1e-5)
    centres = corrupted.k_means(x, 50, torch.Generator().manual_seed(0))
    nearest = torch.cdist(x, centres).argmin(1)
    before = torch.cdist(x, x[:50]).min(1).values.square().mean()
    assert torch.cdist(x, centres).min(1).values.square().mean() < 0.8 * before
    means = torch.stack([x[nearest == k].mean(0) for k in range(50)])
    assert (means - centres).norm(dim=1).median() < 0.02  # Lloyd's iterations have nearly ended
    few = corrupted.k_means(x[:30], 50, torch.Generator().manual_seed(0))
    assert among(few, x[:30]).all()


def test_swapped_colours_keep_the_histogram_of_all_channels() -> None:
    data = pixels(channels=3)
    swapped = samples(data, "colours", 1.0, n=32)
    assert among(swapped.flip(1), data.valid).all()
    plain = swapped.flip(1)
    assert torch.equal(swapped.flatten().sort().values, plain.flatten().sort().values)
    assert torch.equal(swapped[:, 1], plain[:, 1])
    half = samples(data, "colours", 0.5, n=32)
    assert 4 < among(half, data.valid).sum() < 28


@pytest.mark.parametrize(
    ("fault", "strength", "data", "text"),
    [
        ("copies", 1.5, square(50), r"strength of copies must be 0 to 1, got 1.5"),
        ("noise", -1.0, square(50), r"must be 0 to inf"),
        ("none", 0.5, square(50), r"strength of none"),
        ("blur", 1.0, square(50), r"square has examples \[2\], which cannot have blur"),
        ("colours", 1.0, pixels(), r"pixels has examples \[1, 8, 8\], which cannot have colours"),
        ("dropped", 0.5, points(50), r"points has neither modes nor labels"),
    ],
)
def test_what_is_impossible_is_said(fault: str, strength: float, data: Data, text: str) -> None:
    with pytest.raises(PluginError, match=text):
        samples(data, fault, strength)


def test_the_file_keeps_its_contract() -> None:
    done = CliRunner().invoke(main, ["test", str(ROOT / "suites/lecture/corrupted.py")])
    assert done.exit_code == 0, done.output


# ---------------------------------------------------------------------------------------------- the rule


@pytest.fixture(scope="module")
def page() -> ModuleType:
    return module("scripts/metric-sensitivity")


def test_a_fault_is_seen_from_the_strength_from_which_on_it_is_never_missed(page: ModuleType) -> None:
    strengths = [0.1, 0.2, 0.3]
    for signs, first, sign, exceptions in (
        ([0, 1, 1], 0.2, 1, ()),
        ([1, 1, 1], 0.1, 1, ()),
        ([1, 0, 1], 0.3, 1, ((0.1, 1),)),
        ([-1, -1, 1], 0.3, 1, ((0.1, -1), (0.2, -1))),
        ([0, 0, -1], 0.3, -1, ()),
        ([0, 1, 0], None, 0, ((0.2, 1),)),
        ([0, 0, 0], None, 0, ()),
    ):
        assert page.reaction(strengths, signs) == page.Reaction(first, sign, exceptions)


def test_cells_say_better_and_up_in_words(page: ModuleType) -> None:
    for one, ranked, text in (
        (page.Reaction(0.1, 1), True, "0.1"),
        (page.Reaction(0.1, -1), True, "**0.1 better**"),
        (page.Reaction(0.1, -1), False, "0.1 ↓"),
        (page.Reaction(0.3, 1, ((0.1, -1),)), True, "0.3 (0.1 better)"),
        (page.Reaction(None, 0, ((0.1, 1),)), True, "– (0.1 worse)"),
        (page.Reaction(None, 0), False, "–"),
    ):
        assert page.words(one, ranked) == text


def test_welch_from_summaries_is_scipy_s(page: ModuleType) -> None:
    from scipy.stats import ttest_ind_from_stats

    expected = ttest_ind_from_stats(1.0, 0.3, 10, 1.4, 0.1, 7, equal_var=False).pvalue
    assert page.welch(1.0, 0.3, 10, 1.4, 0.1, 7).p == pytest.approx(expected, rel=1e-9)
    assert page.welch(8.0, 0.0, 10, 7.0, 0.0, 10).p == 0
    assert page.welch(8.0, 0.0, 10, 8.0, 0.0, 10).p == 1


def rows(*lines: tuple[str, str, str, float, float]) -> pd.DataFrame:
    names = ["metric", "better", "label", "mean", "std"]
    return pd.DataFrame(lines, columns=names).assign(dataset="d", n_ok=10)


def test_holm_s_method_takes_all_rows_into_account(page: ModuleType) -> None:
    # t of 3.8 and 18 degrees of freedom: p is 0.0013, below a level of 0.01, but not of 0.01 / 10.
    one = [("m", "higher", "fresh", 0.0, 1.0), ("m", "higher", "noise-0.1", -1.7, 1.0)]
    table = page.compared(rows(*one))
    assert table["p"].tolist() == [pytest.approx(0.0013, abs=1e-4)]
    assert table["sign"].tolist() == [1]  # lower where higher is better: worse
    many = [(f"x{i}", "lower", label, 0.0, 1.0) for i in range(9) for label in ("fresh", "noise-0.1")]
    assert page.compared(rows(*one, *many))["sign"].tolist() == [0] * 10
    strong = [("m", "lower", "fresh", 0.0, 1.0), ("m", "lower", "noise-0.1", -9.0, 1.0)]
    found = page.compared(rows(*strong, *many))
    assert found[found["metric"] == "m"][["fault", "strength", "sign"]].to_numpy().tolist() == [
        ["noise", 0.1, -1]
    ]


def test_thumbnails_are_means_of_2_x_2_pixels_with_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = module("suites/lecture/thumbnails.py")
    x = torch.arange(16.0).view(1, 1, 4, 4).mul(10).repeat(30, 1, 1, 1).byte()
    x[:, 0, 0, 0] = torch.arange(30).byte() * 4  # the mean of the first 2 × 2 pixels grows by 1
    y = torch.arange(30)
    whole = Data(
        "whole", x, x, x, (1, 4, 4), (0.0, 1.0), labels=Labels(y, y, y), classes=tuple(map(str, y.tolist()))
    )
    asked = {}

    def load(source: str, **params: int) -> Data:
        asked.update(params, source=source)
        return whole

    monkeypatch.setattr(thumbnails, "load_data", load)
    data = thumbnails.thumbnails(torch.Generator(), "cifar10", n_train=30, n_test=5)
    assert asked == {"source": "cifar10", "n_train": 30}
    assert (data.shape, len(data.train), len(data.valid), len(data.test)) == ((1, 2, 2), 30, 30, 5)
    assert torch.equal(data.test[:, 0, 0, 0].long(), data.labels.test + 25)  # (4k + 10 + 40 + 50) / 4


# ---------------------------------------------------------------------------------------------- the page


def test_the_page_is_what_the_kept_tables_say(page: ModuleType) -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(page.tables()), "run scripts/metric-sensitivity"


def test_its_pictures_are_small_and_shown(page: ModuleType) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for name in ("overview", *page.CURVES):
        path = page.KEPT / page.PICTURE.format(name)
        assert path.stat().st_size < MAX_BYTES
        assert f"/{path.name})" in text


def test_an_unknown_row_of_a_text_ends_the_script(page: ModuleType) -> None:
    table = rows(("m", "higher", "fresh", 0.25, 0.1))
    number = partial(page.number_of, table)
    assert insert_numbers("is {d|fresh|m}.", number) == "is 0.25."
    with pytest.raises(SystemExit, match="0 rows"):
        insert_numbers("{d|stale|m}", number)


def test_the_sentences_of_the_page_follow_from_the_tables(page: ModuleType) -> None:
    table = page.tables()
    found = page.reactions(page.compared(table))
    ranked = set(table[table["better"] != "neither"]["metric"])
    copies = {(d, metric): one.sign for (d, metric, fault), one in found.items() if fault == "copies"}
    assert all(sign < 1 for (_, metric), sign in copies.items() if metric in ranked)
    assert copies["mnist-14", "classifier_score"] == -1
    assert copies["mnist-14", "memorisation"] == copies["ring", "memorisation"] == 1
    for metric, fault, sign in (
        ("memorisation", "centroids", 1),
        ("memorisation", "dropped", 1),
        ("kde_ll", "centroids", -1),
        ("density", "blur", -1),
        ("recall", "blur", 1),
        ("recall", "centroids", 1),
        ("sharpness", "blur", -1),
        ("sharpness", "centroids", -1),
        ("class_modes", "dropped", 0),
        ("c2st", "noise", 0),
        ("c2st", "centroids", 0),
    ):
        assert found["mnist-14", metric, fault].sign == sign, (metric, fault)
    assert (0.5, -1) in found["mnist-14", "kde_ll", "blur"].exceptions
    assert found["mnist-14", "class_kl", "dropped"].first == 0.1
    for metric, fault in (
        ("frechet", "noise"),
        ("kernel", "noise"),
        ("frechet", "gaussian"),
        ("kernel", "gaussian"),
    ):
        assert found["ring", metric, fault].first is None
    colours = {
        metric: one.first for (_, metric, fault), one in found.items() if fault == "colours" and one.first
    }
    assert colours.pop("frechet") == 0.3
    assert len(colours) == 6
    assert set(colours.values()) == {1.0}
    assert not {"recall", "coverage"} & set(colours)
