"""Metrics that take some of a split take them at random: the first rows may differ from the rest, as MNIST's do."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from metric_models import Samples
from test_metric_probe import image_classes, playing, trained

from ganbench.contracts import Data, Game, Labels
from ganbench.metrics import sampled_classifier
from ganbench.metrics.diversity import Birthday, Diversity
from ganbench.metrics.gradients import GeneratorGradient
from ganbench.metrics.kde import KdeLL
from ganbench.metrics.prdc import PrecisionRecall
from ganbench.metrics.probe import Probe
from ganbench.metrics.sampled_classifier import SampleClassifier
from ganbench.metrics.two_sample import C2ST
from ganbench.registry import find_divergence
from ganbench.templates.metric import Mine

N = 2000  # examples in a split; metrics take half of them


def half_easy() -> tuple[Data, Samples]:
    """The first half of each split has a quarter of the spread and a mean of its own; samples are fresh data."""
    generator = torch.Generator().manual_seed(1)

    def draw():
        easy = 0.25 * torch.randn(N // 2, 3, generator=generator) + 1
        return torch.cat([easy, torch.randn(N // 2, 3, generator=generator)])

    fresh = draw()[torch.randperm(N, generator=generator)]
    return Data("half easy", draw(), draw(), draw(), (3,)), Samples(fresh)


def test_fresh_data_score_what_fresh_data_score():
    data, model = half_easy()
    c2st = C2ST(n=N // 2)(model, data)
    assert c2st.value == pytest.approx(0.5, abs=4 * c2st.details["null_sd"])
    assert c2st.controls["train"] == pytest.approx(0.5, abs=4 * c2st.details["null_sd"])
    prdc = PrecisionRecall(n=N // 2)(model, data)
    assert prdc[2].value == pytest.approx(1, abs=4 * prdc[2].sem)
    assert prdc[0].controls["train"]["density"] == pytest.approx(1, abs=4 * prdc[2].sem)
    diversity = Diversity(n=N // 2)(model, data)
    assert diversity.value == pytest.approx(1, abs=4 * diversity.sem)
    birthday = Birthday(n=N // 2)(model, data)
    assert birthday.value == pytest.approx(1, abs=4 * birthday.sem)
    assert birthday.controls["train"] == pytest.approx(1, abs=4 * birthday.sem)
    assert Mine(n=N // 2)(model, data).value < 0.15


def test_bandwidth_and_ceiling_are_those_of_the_whole_split():
    data, model = half_easy()
    found = KdeLL(n=N // 2, n_valid=N // 2)(model, data)
    whole = KdeLL(n=N // 2, n_valid=N)(model, data)
    assert found.details["bandwidth"] == pytest.approx(whole.details["bandwidth"], rel=0.2)
    assert found.controls["ceiling"] == pytest.approx(found.value, abs=0.1)


def test_gradients_see_all_test_points():
    data, _ = half_easy()
    game = Game({}, {}, {}, lambda nets, z: z, bound=("D", find_divergence("gan")))
    model = Samples(
        torch.full((N // 2, 3), -9.0), game=game, nets=SimpleNamespace(D=lambda x: x[:, :1] - 0.5)
    )
    model.state = {}  # type: ignore[attr-defined]
    right = 100 * (1 + (data.test[:, 0] > 0.5).double().mean().item()) / 2
    assert GeneratorGradient(n=N // 2)(model, data)[0].value == pytest.approx(right, abs=3)


def by_class(data: Data) -> Data:
    """The same data, each split in the order of its labels."""
    assert data.labels is not None
    orders = [labels.argsort(stable=True) for labels in data.labels]
    splits = [split[order] for split, order in zip((data.train, data.valid, data.test), orders, strict=True)]
    labels = Labels(*(label[order] for label, order in zip(data.labels, orders, strict=True)))
    return replace(data, train=splits[0], valid=splits[1], test=splits[2], labels=labels)


def test_labels_come_in_the_order_of_the_examples(monkeypatch):
    data = by_class(image_classes())
    assert data.labels is not None
    net = trained(data)
    assert Probe(n_train=60, n_test=60)(playing(net), data).value > 95
    shares = []

    def predict(x):
        classes = (net(x)[:, 0] > 0).long().detach()
        shares.append(classes.double().mean().item())
        return classes

    monkeypatch.setattr(sampled_classifier, "classifier", lambda *_: SimpleNamespace(predict=predict))
    controls = SampleClassifier(n=80, n_test=80).reference(data).on(torch.device("cpu"))
    assert controls.true < 5  # half would be wrong if labels came in another order
    assert controls.relabelled < 5
    assert 0.3 < shares[0] < 0.7  # the first 80 are of one class
