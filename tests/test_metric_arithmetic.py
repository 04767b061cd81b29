"""Sums of latents: whether directions have a meaning, of generators that are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from metric_models import Samples, image_data
from torch import Tensor

from ganbench.contracts import Data, Draw, Labels
from ganbench.errors import SampleError
from ganbench.metrics.arithmetic import LatentArithmetic, _terms


def bars(kind: Tensor, light: Tensor) -> Tensor:
    """Bars, upright where `kind` [n] is true, as bright as `light` [n] in [0, 1]: [n, 1, 4, 4]."""
    upright = torch.tensor([0.0, 1, 1, 0]).expand(4, 4)
    image = torch.where(kind[:, None, None], upright, upright.T)
    return (image * (0.2 + 0.8 * light.clamp(0, 1))[:, None, None])[:, None]


def straight(z: Tensor) -> Tensor:
    """The first latent number picks the class by its sign, the second is the brightness."""
    return bars(z[:, 0] > 0, (z[:, 1] + 1) / 2)


def scrambled(z: Tensor) -> Tensor:
    """The same classes and brightness, in an order that has nothing to do with that of the latents."""
    return bars((z[:, 0] * 1e3).floor() % 2 == 0, (z[:, 1] * 1e3).frac().abs())


def collapsed(z: Tensor) -> Tensor:
    return bars(torch.ones(len(z), dtype=torch.bool), (z[:, 1] + 1) / 2)


def data_of_bars() -> Data:
    z = torch.rand(300, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1
    images, kinds = (straight(z) * 255).byte(), (z[:, 0] > 0).long()
    return Data("bars", images, images, images, (1, 4, 4), (0.0, 1.0), labels=Labels(kinds, kinds, kinds))


def scored(net: Callable[[Tensor], Tensor], data: Data | None = None):
    model = Samples(torch.zeros(1, 1, 4, 4), Draw.uniform(2, low=-1.0), net)
    return LatentArithmetic()(model, data_of_bars() if data is None else data)


def test_sums_of_a_linear_generator_say_what_their_terms_say():
    score = scored(straight)
    assert score.value == 100
    assert score.details == {"kept": 100, "brighter": 100, "pairs": 2}
    assert 10 < score.controls["floor"] < 60  # a random step often does not lead to bright ones
    assert score.controls["pixels"] == 0  # what is left of bright a outweighs dark b
    assert score.n == 2


def test_directions_without_a_meaning_are_no_better_than_the_floor():
    score = scored(scrambled)
    # One of two classes, and brighter than the mean: a quarter, of 18 results and of 810 for the floor.
    assert score.controls["floor"] == pytest.approx(25, abs=7)
    assert abs(score.value - 25) < 4 * 100 * (0.25 * 0.75 / 18) ** 0.5


def test_without_a_second_class_no_sum_can_be_made():
    score = scored(collapsed)
    assert (score.value, score.sem, score.n) == (0.0, None, 0)
    assert score.controls == {"floor": 0.0, "pixels": 0.0}
    assert score.details == {"pairs": 0}


def test_terms_are_the_darkest_and_the_brightest_of_the_classes_with_samples_enough():
    classes = torch.tensor([0, 1, 0, 1, 0, 1, 0, 0, 0, -1, 2])
    light = torch.tensor([0.3, 0, 0.1, 0, 0.6, 0, 0.2, 0.5, 0.4, 0.9, 0.9])
    terms = _terms(classes, light)
    assert list(terms) == [0]
    assert [one.tolist() for one in terms[0]] == [[2, 6, 0], [8, 7, 4]]


def test_the_same_model_scores_the_same():
    assert scored(straight).value == scored(straight).value
    assert scored(scrambled).controls == scored(scrambled).controls


@pytest.mark.parametrize("missing", ["labels", "scale"])
def test_data_without_labels_or_pixels_are_refused(missing):
    with pytest.raises(SampleError, match="needs a generator of images, and data with labels"):
        scored(straight, replace(data_of_bars(), **{missing: None}))
    with pytest.raises(SampleError, match="needs a generator"):
        LatentArithmetic()(Samples(torch.zeros(1, 1, 4, 4)), image_data())
