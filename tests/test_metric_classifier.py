"""The classifier that ganbench trains, the extractors that have a name, and the metrics that use them."""

from __future__ import annotations

import importlib
import math
import os
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from metric_models import Samples, gaussian_data, image_data
from torch import nn

from ganbench.contracts import Data, Labels
from ganbench.datasets import images
from ganbench.errors import SampleError
from ganbench.metrics import class_coverage as coverage_module
from ganbench.metrics import classifier as module
from ganbench.metrics import extractors
from ganbench.metrics.class_coverage import ClassCoverage, class_coverage
from ganbench.metrics.classifier import classifier, classifier_key
from ganbench.metrics.classifier_score import ClassifierScore, classifier_score
from ganbench.metrics.extractors import extractor, identity
from ganbench.metrics.features import Frechet, Kernel, frechet_distance


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache folder of its own for every test; where classifiers are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    return tmp_path / "ganbench" / "classifiers"


@pytest.fixture
def quick(monkeypatch):
    """As many updates as the squares below need."""
    monkeypatch.setattr(module, "MAX_UPDATES", 40)


def squares(n: int = 300, channels: int = 1) -> Data:
    """Images of one bright square per channel, in one of two corners: the class of the channel, "a" or "b"."""

    def split(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        corner = torch.randint(0, 2, (n, channels), generator=generator)
        x = torch.randint(0, 60, (n, channels, 8, 8), generator=generator)
        x[..., :4, :4] += 150 * (corner == 0)[..., None, None]
        x[..., 4:, 4:] += 150 * (corner == 1)[..., None, None]
        return x.to(torch.uint8), (corner * 2 ** torch.arange(channels - 1, -1, -1)).sum(1)

    (train, y), (valid, y_valid), (test, y_test) = map(split, range(3))
    names = tuple(f"{k:0{channels}b}".replace("0", "a").replace("1", "b") for k in range(2**channels))
    labels = Labels(y, y_valid, y_test)
    return Data("squares", train, valid, test, (channels, 8, 8), (0.0, 1.0), labels=labels, classes=names)


# --------------------------------------------------------------------------------------------- classifier


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Digits and their classifier, trained once, for a shorter time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_UPDATES", 120)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        data = images.digits(torch.Generator())
        return data, classifier(data)


def test_digits_are_told_apart(trained):
    data, found = trained
    x = data.floats(data.test)
    assert found.accuracy > 0.9
    assert found.accuracy == pytest.approx((found.predict(x) == data.labels.test).double().mean().item())
    assert found.features(x).shape == (300, 128)
    assert found.probabilities(x).sum(1).allclose(torch.ones(300))
    assert not found.features(x.requires_grad_()).requires_grad


def test_a_result_does_not_depend_on_the_batch_or_the_block(trained, monkeypatch):
    data, found = trained
    x = data.floats(data.test)
    whole = found.features(x)
    torch.testing.assert_close(torch.cat([found.features(part) for part in x.split(7)]), whole)
    monkeypatch.setattr(module, "BLOCK", 11)
    torch.testing.assert_close(found.features(x), whole)
    torch.testing.assert_close(found.features(x.double()), whole)


@pytest.mark.usefixtures("quick")
def test_training_is_the_same_twice_and_leaves_the_random_state(monkeypatch, tmp_path):
    data, states = squares(), []
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    for name in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        torch.manual_seed(len(states))
        states.append(classifier(data).net.state_dict())
        torch.random.set_rng_state(before)
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("quick")
def test_it_is_trained_once_and_again_when_damaged(folder, monkeypatch):
    data, calls, train = squares(), [], module._train
    monkeypatch.setattr(module, "_train", lambda *given: calls.append(1) or train(*given))
    first = classifier(data)
    assert first.accuracy == 1.0
    assert torch.equal(classifier(data).net.head.weight, first.net.head.weight)
    assert len(calls) == 1
    (path,) = folder.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert torch.equal(classifier(data).net.head.weight, first.net.head.weight)
    assert len(calls) == 2
    path.write_bytes(path.read_bytes()[:100])
    classifier(data)
    assert len(calls) == 3


def test_the_key_is_of_the_content(monkeypatch):
    data = squares()
    key = classifier_key(data)
    assert key == classifier_key(replace(data, train=data.train.clone()))
    other = data.train.clone()
    other[5, 0, 1, 1] += 1
    assert key != classifier_key(replace(data, train=other))
    assert key != classifier_key(replace(data, labels=data.labels._replace(train=1 - data.labels.train)))
    monkeypatch.setattr(module, "RECIPE", 2)
    assert key != classifier_key(data)


@pytest.mark.usefixtures("quick")
def test_of_several_that_want_it_one_trains(monkeypatch):
    data, calls, train = squares(), [], module._train
    monkeypatch.setattr(module, "_train", lambda *given: calls.append(1) or train(*given))
    found = []
    threads = [threading.Thread(target=lambda: found.append(classifier(data).key)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(calls) == 1


@pytest.mark.usefixtures("quick")
def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert classifier(squares()).accuracy == 1.0


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (image_data(), "noise: a classifier needs labels of at least two classes"),
        (
            replace(squares(), shape=(64,)),
            r"squares: one example has shape \[64\]; the classifier takes images",
        ),
    ],
)
def test_data_that_it_cannot_learn(data, text):
    with pytest.raises(SampleError, match=text):
        classifier(data)


def test_bad_samples_are_refused(trained):
    data, found = trained
    with pytest.raises(
        SampleError, match=r"samples: one example has shape \[1, 9, 9\]; expected \[1, 8, 8\]"
    ):
        found.features(torch.zeros(3, 1, 9, 9))
    with pytest.raises(SampleError, match="1 of 3 examples hold NaN"):
        found.predict(torch.tensor([0.0, torch.nan, 0.0])[:, None, None, None].expand(3, 1, 8, 8))
    with pytest.raises(SampleError, match="holds uint8; expected floats"):
        found.predict(data.test)


@pytest.mark.slow
def test_digits_reach_95_percent():
    assert classifier(images.digits(torch.Generator())).accuracy > 0.95


@pytest.mark.slow
def test_mnist_reaches_98_percent_in_300_updates(mnist, monkeypatch):
    """And 99 percent in all 800, which GANBENCH_BENCH_FULL=1 tries."""
    full = os.environ.get("GANBENCH_BENCH_FULL") == "1"
    if not full:
        monkeypatch.setattr(module, "MAX_UPDATES", 300)
    assert classifier(images.mnist(torch.Generator())).accuracy > (0.99 if full else 0.98)


# --------------------------------------------------------------------------------------------- extractors


def test_pixels_are_flattened():
    data = image_data()
    found = extractor("pixels", data)
    x = data.floats(data.test)
    assert torch.equal(found(x), x.flatten(1))
    assert (found.name, found.identity) == ("pixels", "pixels in (0.0, 1.0)")


def test_the_identity_trains_nothing(monkeypatch):
    monkeypatch.setattr(module, "_train", None)
    data = squares()
    sentence = identity("classifier", data)
    assert sentence.startswith(
        "a classifier (2 convolutions, 128 features) of the 2 classes of squares, trained on"
    )
    assert classifier_key(data)[:12] in sentence


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("inceptoin", "features: 'inceptoin' is not a feature extractor; did you mean 'inception'"),
        ("classifier", "noise: a classifier needs labels"),
        (
            "inception",
            "weights are missing, expected in .*checkpoints/weights-inception-2015-12-05-6726825d.pth",
        ),
        ("dinov2", "weights are missing, expected in .*checkpoints/dinov2_vitl14_pretrain.pth"),
    ],
)
def test_what_is_not_at_hand_is_named(name, text):
    for ask in (extractor, identity):
        with pytest.raises(SampleError, match=text):
            ask(name, image_data())


class Means(nn.Module):
    """A stand-in for a large net: the means of the colours, weighted."""

    def __init__(self, *_: object, feature_extractor_weights_path: str | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        if feature_extractor_weights_path:
            self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=True))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        assert x.dtype == torch.uint8
        return (x.float().mean((2, 3)) * self.weight,)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "torch" / "hub" / "checkpoints" / extractors.INCEPTION
    path.parent.mkdir(parents=True)
    torch.save({"weight": torch.tensor([1.0, 2.0, 3.0])}, path)
    return path


def test_inception_is_given_bytes_in_three_colours(weights, monkeypatch):
    monkeypatch.setattr(
        importlib, "import_module", lambda _: SimpleNamespace(FeatureExtractorInceptionV3=Means)
    )
    data = image_data()
    found = extractor("inception", data)
    expected = data.test.double().mean((2, 3)) * torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(found(data.floats(data.test)).double(), expected, atol=1e-4, rtol=1e-6)
    assert "weights SHA-256" in found.identity


def test_weights_that_are_a_pickle_of_something_else_are_refused(weights, monkeypatch):
    monkeypatch.setattr(
        importlib, "import_module", lambda _: SimpleNamespace(FeatureExtractorInceptionV3=Means)
    )
    for content in (Means(), b"garbage"):
        torch.save(content, weights) if isinstance(content, Means) else weights.write_bytes(content)
        with pytest.raises(SampleError, match="is not a file of weights; download it again"):
            extractor("inception", image_data())


# --------------------------------------------------------------------------------------------- distances


@pytest.mark.parametrize("metric", [Frechet(n=200), Kernel(n=200)])
def test_distances_rank_samples(metric, trained, monkeypatch):
    data, found = trained
    monkeypatch.setattr(extractors, "classifier", lambda *_: found)
    x = data.floats(data.train)
    fair, few = x[200:], x[data.labels.train < 5]
    noisy = (fair + 0.3 * torch.rand(fair.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    known = metric.reference(data)
    scores = [metric(Samples(made), data, known) for made in (fair, noisy, few)]
    assert scores[0].value < 0.5 * min(score.value for score in scores[1:])
    control = scores[0].controls["train"]
    assert control == pytest.approx(scores[0].value, abs=0.3 * min(score.value for score in scores[1:]))
    assert scores[0].value == metric(Samples(fair), data).value
    assert "200 samples against 200 test examples" in metric.protocol(data)
    assert identity("classifier", data) in metric.protocol(data)


def test_on_pixels_a_shift_costs_its_square():
    data, metric = image_data(), Frechet(features="pixels")
    x = data.floats(data.test)
    assert metric(Samples(x + 0.1), data).value == pytest.approx(0.01 * 16, rel=1e-4)
    assert metric.protocol(data) == Frechet().protocol(data)  # no labels: no classifier
    expected = frechet_distance(data.floats(data.train).flatten(1), x.flatten(1)).value
    assert metric(Samples(x), data).controls["train"] == pytest.approx(expected, rel=1e-6)


def test_points_are_compared_as_they_are():
    labels = Labels(*(torch.arange(600) % 2,) * 3)
    data = replace(gaussian_data(), labels=labels, classes=("a", "b"))
    for metric in (Frechet(), Kernel()):
        assert "the data's own numbers" in metric.protocol(data)
        assert metric(Samples(data.train), data).value < 0.1 < metric(Samples(data.train + 1), data).value


# --------------------------------------------------------------------------------------------- score


def test_score_in_closed_form():
    sure = torch.eye(4).repeat(50, 1)  # every class equally often, without doubt
    assert classifier_score(sure, splits=10).value == pytest.approx(4.0)
    assert classifier_score(torch.full((200, 4), 0.25)).value == pytest.approx(1.0)
    assert classifier_score(torch.eye(4)[:1].expand(200, 4)).value == pytest.approx(1.0)
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).double()
    mean = p.mean(0)
    expected = math.exp((p * (p / mean).log()).sum(1).mean())
    found = classifier_score(p.repeat(40, 1), splits=4)
    assert found.value == pytest.approx(expected)
    assert found.sem == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (torch.full((30, 2), 0.7), "add up to 1 in each row"),
        (torch.tensor([[1.5, -0.5]]).expand(30, 2), "non-negative numbers"),
        (torch.full((5, 2), 0.5), "holds 5 examples; at least 20 are needed"),
    ],
)
def test_what_is_no_probability_is_refused(p, text):
    with pytest.raises(SampleError, match=text):
        classifier_score(p)


@pytest.mark.usefixtures("quick")
def test_classifier_score_ranks_samples_and_has_a_control():
    data, metric = squares(), ClassifierScore(n=200)
    x = data.floats(data.train)
    fair, one = (
        metric(Samples(made), data).value for made in (x, x[data.labels.train == 0].repeat(2, 1, 1, 1))
    )
    assert fair == pytest.approx(2.0, abs=0.1)
    assert one == pytest.approx(1.0, abs=0.05)
    found = metric(Samples(x), data).controls
    assert found["test"] == pytest.approx(2.0, abs=0.1)
    assert found["accuracy"] == 1.0


# --------------------------------------------------------------------------------------------- coverage


def test_coverage_by_hand_and_its_floor():
    found = class_coverage(torch.tensor([3, 1, 0, 0]), torch.tensor([0.4, 0.3, 0.2, 0.1]))
    assert found.captured == 2
    assert found.kl == pytest.approx(0.75 * math.log(3) + 0.25 * math.log(1))
    assert found.kl_data == pytest.approx(0.75 * math.log(0.75 / 0.4) + 0.25 * math.log(0.25 / 0.3))
    assert found.perfect_data == 3 / 8
    metz = class_coverage(torch.full((1000,), 25.6), torch.full((1000,), 1e-3))
    assert metz.perfect == pytest.approx(0.0195, abs=5e-5)  # protocol of Metz et al. 2017
    truth = torch.tensor([0.4, 0.3, 0.2, 0.1]).double()
    generator = torch.Generator().manual_seed(0)
    drawn = [
        class_coverage(
            torch.bincount(torch.multinomial(truth, 500, True, generator=generator), minlength=4), truth
        )
        for _ in range(200)
    ]
    assert sum(d.kl_data for d in drawn) / 200 == pytest.approx(drawn[0].perfect_data, rel=0.3)
    spread = torch.tensor([d.kl for d in drawn]).std().item()
    assert sum(d.kl for d in drawn) / 200 == pytest.approx(drawn[0].perfect, abs=3 * spread / 200**0.5)
    assert sum(d.kl_sem for d in drawn) / 200 == pytest.approx(spread, rel=0.2)
    even = torch.full((100,), 0.01).double()
    drawn = [
        class_coverage(
            torch.bincount(torch.multinomial(even, 2560, True, generator=generator), minlength=100), even
        )
        for _ in range(200)
    ]
    spread = torch.tensor([d.kl for d in drawn]).std().item()
    # By the delta method it was 1.42 of the spread.
    assert 0.9 < sum(d.kl_sem for d in drawn) / 200 / spread < 1.25


@pytest.mark.parametrize(
    ("counts", "truth", "text"),
    [
        ([0, 0], [0.5, 0.5], "needs at least one sample"),
        ([1, 1], [1.0, 0.0], "expected 2 probabilities above 0"),
        ([1, 1], [0.5, 0.6], "that add up to 1"),
    ],
)
def test_impossible_counts(counts, truth, text):
    with pytest.raises(SampleError, match=text):
        class_coverage(torch.tensor(counts), torch.tensor(truth))


@pytest.mark.usefixtures("quick")
def test_stacked_classes_are_counted_channel_by_channel():
    data, metric = squares(channels=3), ClassCoverage(n=250)
    x, y = data.floats(data.train), data.labels.train
    modes, kl = metric(Samples(x), data)
    assert modes.value == 8
    assert modes.details["counts"].tolist() == y[:250].bincount(minlength=8).tolist()
    assert modes.controls["accuracy"] == 1.0
    assert kl.value < 5 * modes.controls["perfect"]["class_kl"]
    assert modes.controls["ceiling"]["class_modes"] == 8
    assert modes.controls["ceiling"]["class_kl"] < 5 * modes.controls["perfect"]["class_kl"]
    # A fitted Gaussian has classes too, whatever it looks like.
    assert modes.controls["floor_gaussian"]["class_modes"] == 8
    assert metric.reference(data).on(x.device).gaussian == modes.controls["floor_gaussian"]
    dropped, worse = metric(Samples(x[y < 4].repeat(3, 1, 1, 1)), data)
    assert dropped.value == 4
    assert worse.value == pytest.approx(math.log(2), abs=0.05)
    assert "over 8 classes" in metric.protocol(data)
    assert "each channel by itself" in metric.protocol(data)


@pytest.mark.usefixtures("quick")
def test_other_images_have_their_own_classes():
    data = squares()
    modes, kl = ClassCoverage(n=100)(Samples(data.floats(data.train)), data)
    assert modes.value == 2
    assert kl.value < 0.05
    assert not coverage_module._has_stacked_classes(data)
    assert not coverage_module._has_stacked_classes(
        replace(data, shape=(3, 8, 8), classes=tuple("0123456789"))
    )
    assert coverage_module._has_stacked_classes(
        replace(data, shape=(3, 8, 8), classes=tuple(f"{k:03}" for k in range(1000)))
    )
