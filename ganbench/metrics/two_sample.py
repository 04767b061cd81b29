"""Classifier two-sample test (Lopez-Paz & Oquab 2017): can a classifier tell samples from data?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Generator, Tensor, device

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .distances import check_samples, nearest
from .extractors import PIXELS, extractor, space, space_fields
from .per_device import PerDevice
from .statistics import binomial_sem
from .subset import random_subset

Classifier = Literal["knn", "mlp"]
NEURONS, EPOCHS = 20, 100  # of the net, as in the paper


def c2st(
    samples: Tensor, test: Tensor, *, classifier: Classifier = "knn", generator: Generator | None = None
) -> Score:
    """Accuracy with which a classifier tells `samples` [n, *shape] from `test` [m, *shape], on the half of
    both that it was not trained on: ½ when it cannot. Lopez-Paz & Oquab 2017, sections 3 and 4.

    Of the larger set as many as the smaller has are drawn. The classifiers are the paper's: "knn", the
    majority of ⌊√n_train⌋ neighbours (one less where that is even), Euclidean; "mlp", 20 ReLU neurons, 100
    epochs of Adam, on standardised numbers. ± is binomial. Details: "null_sd", √(1 / 4n) for n held-out
    examples, the spread around ½ when there is no difference; "p_value", the chance of at least this
    accuracy then.

    An accuracy of ½ says that this classifier sees no difference, not that there is none. `generator`, on
    the CPU, draws the halves; None: a fixed seed. Raises SampleError for fewer than 8 examples, different
    shapes and values that are not finite.
    """
    test = check_samples(test, "test", least=8)
    samples = check_samples(samples, "samples", like=test, least=8)
    if classifier not in ("knn", "mlp"):
        raise SampleError(f"classifier: expected 'knn' or 'mlp', got {classifier!r}")
    generator = generator or torch.Generator().manual_seed(0)
    n = min(len(samples), len(test))
    sets = [
        z[torch.randperm(len(z), generator=generator)[:n].to(z.device)].flatten(1) for z in (samples, test)
    ]
    train, held = (torch.cat([z[part] for z in sets]) for part in (slice(n // 2), slice(n // 2, n)))
    labels = torch.arange(2, device=test.device).repeat_interleave(n // 2)
    truth = torch.arange(2, device=test.device).repeat_interleave(n - n // 2)
    guesses = (
        _neighbours(train, labels, held) if classifier == "knn" else _mlp(train, labels, held, generator)
    )
    accuracy, count = (guesses == truth).double().mean().item(), len(truth)
    null_sd = math.sqrt(1 / (4 * count))
    p_value = 0.5 * math.erfc((accuracy - 0.5) / null_sd / math.sqrt(2))
    sem = binomial_sem(accuracy, count)
    return Score(accuracy, sem, count, {"null_sd": null_sd, "p_value": p_value})


def _neighbours(train: Tensor, labels: Tensor, points: Tensor) -> Tensor:
    """The majority label of the nearest neighbours, an odd number of them."""
    k = math.isqrt(len(train))
    k -= 1 - k % 2
    return (2 * labels[nearest(points, train, k)[1]].sum(1) > k).long()


def _mlp(train: Tensor, labels: Tensor, points: Tensor, generator: Generator) -> Tensor:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    deviation, mean = torch.std_mean(train.double(), dim=0)
    scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    net = MLPClassifier((NEURONS,), alpha=0.0, max_iter=EPOCHS, n_iter_no_change=EPOCHS, random_state=seed)
    known, asked = (((z.double() - mean) / scale).cpu().numpy() for z in (train, points))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the paper's 100 epochs, converged or not
        net.fit(known, labels.cpu().numpy())
    return torch.as_tensor(net.predict(asked), device=points.device)


class Control(NamedTuple):
    """The test examples as the classifier sees them, and what training examples score against them."""

    test: Tensor  # [n, d]
    value: float


@metric(Value("c2st", "accuracy", "lower"), name="c2st", version=2)
@dataclass(frozen=True)
class C2ST:
    """Held-out accuracy of a classifier that tells samples from test data: ½ when it cannot, 1 when it always
    can (Lopez-Paz & Oquab 2017). Control "train": training examples in the place of samples.

    Checked against scikit-learn's neighbours (the same guesses), the best rule for two Gaussians (4 standard
    errors), the spread around ½ without a difference.
    """

    n: int = 2000  # samples, and test examples at most
    classifier: Literal["knn", "mlp"] = "knn"  # neighbours, or a small net
    features: str = PIXELS  # what it sees: pixels, or features of classifier, inception or dinov2

    def __call__(self, model: Model, data: Data, reference: PerDevice[Control] | None = None) -> Score:
        samples = check_samples(model.samples(min(self.n, len(data.test))), "samples", least=8)
        control = (reference or self.reference(data)).on(samples.device)
        seen = extractor(self.features, data, samples.device)(samples)
        score = c2st(seen, control.test, classifier=self.classifier)
        return replace(score, controls={"train": control.value})

    def reference(self, data: Data) -> PerDevice[Control]:
        """The test examples, and what training examples score."""
        return PerDevice(lambda place: self._control(data, place))

    def _control(self, data: Data, place: device) -> Control:
        seen = extractor(self.features, data, place)
        n = min(self.n, len(data.test))
        train, test = (seen(data.floats(random_subset(x, n)).to(place)) for x in (data.train, data.test))
        return Control(test, c2st(train, test, classifier=self.classifier).value)

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        n = min(self.n, len(data.test))
        where = space(self.features, data)
        kinds = {
            "knn": f"the majority of the ⌊√n_train⌋ nearest (made odd), Euclidean in {where}",
            "mlp": f"{NEURONS} ReLU neurons, {EPOCHS} epochs of Adam, standardised numbers",
        }
        if self.classifier == "mlp" and self.features != PIXELS:
            kinds["mlp"] += f" of {where}"
        return (
            f"accuracy of {kinds[self.classifier]}, trained on {n // 2} samples and {n // 2} random test examples, on "
            f"{n - n // 2} others of each"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        n = min(self.n, len(data.test))
        mlp = {"neurons": NEURONS, "epochs": EPOCHS} if self.classifier == "mlp" else {}
        return {"train": n // 2, "test": n - n // 2, **mlp, "space": space_fields(self.features, data)}
