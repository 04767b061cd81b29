"""Test error of a nearest-neighbour classifier trained on samples (Radford et al. 2016, section 6.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .classifier import classifier, recipe, recipe_fields
from .distances import check_samples, nearest
from .per_device import PerDevice
from .statistics import percentage
from .subset import random_subset


def nearest_neighbour_error(samples: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> Score:
    """Percentage of `test` [m, *shape] whose label differs from that of the nearest (Euclidean) of `samples`
    [n, *shape]; labels [n] and [m], ± is binomial. Radford et al. 2016, section 6.4, with class-conditional samples.

    Where the samples lack a class, all its test examples are errors. Raises SampleError for labels of the wrong
    length, different shapes and values that are not finite.
    """
    test = check_samples(test, "test")
    samples = check_samples(samples, "samples", like=test)
    for name, x, y in (("samples", samples, labels), ("test", test, test_labels)):
        if y.shape != (len(x),):
            raise SampleError(f"{name}: expected {len(x)} labels [{len(x)}], got {list(y.shape)}")
    guesses = labels.to(test.device)[nearest(test, samples)[1][:, 0]]
    return percentage(guesses != test_labels.to(test.device))


class Controls(NamedTuple):
    """The error of training examples in the place of samples."""

    predicted: float  # with the labels that the classifier predicts, as for samples
    true: float  # with their true labels


@metric(
    Value("sample_classifier", "%", "lower"), name="sample_classifier", needs=("labels", "pixels"), version=2
)
@dataclass(frozen=True)
class SampleClassifier:
    """Test error of a nearest-neighbour classifier trained on samples (Radford et al. 2016, section 6.4): it is high
    where samples look wrong or lack classes.

    In the paper a sample has the class that it was generated for. The models here are not conditional, so a classifier
    trained on the dataset labels the samples, and its errors enter: do not compare this number with the paper's.
    Controls, for as many training examples in the place of samples: "train", with predicted labels too; "labels", with
    their true labels. Details: "classes", the share of samples in each class.

    Checked against scikit-learn's nearest neighbour (the same errors).
    """

    n: int = 5000  # samples
    n_test: int = 2000  # test examples, at most

    def __call__(self, model: Model, data: Data, reference: PerDevice[Controls] | None = None) -> Score:
        samples = model.samples(self.n)
        controls = (reference or self.reference(data)).on(samples.device)
        labels = classifier(data, samples.device).predict(samples)
        score = self._score(samples, labels, data)
        shares = torch.bincount(labels, minlength=len(data.classes)).double() / len(labels)
        errors = {"train": controls.predicted, "labels": controls.true}
        return replace(score, details={"classes": shares}, controls=errors)

    def reference(self, data: Data) -> PerDevice[Controls]:
        """The error of training examples in the place of samples."""
        if data.labels is None:
            raise SampleError(f"{data.name}: has no labels")
        train, labels = (random_subset(x, self.n) for x in (data.train, data.labels.train))
        return PerDevice(lambda place: self._controls(data.floats(train.to(place)), labels, data))

    def _controls(self, train: Tensor, labels: Tensor, data: Data) -> Controls:
        predicted = classifier(data, train.device).predict(train)
        return Controls(*(self._score(train, one, data).value for one in (predicted, labels)))

    def _score(self, samples: Tensor, labels: Tensor, data: Data) -> Score:
        if data.labels is None:
            raise SampleError(f"{data.name}: has no labels")
        test = data.floats(random_subset(data.test, self.n_test)).to(samples.device)
        return nearest_neighbour_error(samples, labels, test, random_subset(data.labels.test, self.n_test))

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"the label of the nearest of {self.n} samples (Euclidean in the data's own scale) for "
            f"{min(self.n_test, len(data.test))} random test examples; samples labelled by {recipe(data)}"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {"test": min(self.n_test, len(data.test)), "classifier": recipe_fields(data)}
