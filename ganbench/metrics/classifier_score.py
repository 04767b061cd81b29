"""Inception-style score (Salimans et al. 2016) under a classifier of the dataset's own classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, device

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .classifier import classifier, recipe, recipe_fields
from .distances import check_samples
from .per_device import PerDevice
from .statistics import standard_error
from .subset import random_subset


def classifier_score(probabilities: Tensor, *, splits: int = 10) -> Score:
    """exp(E_x KL(p(y|x) ‖ p(y))) from the class probabilities p(y|x) of samples, [n, K]: between 1 and K
    (Salimans et al. 2016, section 4).

    As in the paper, the samples are split into `splits` parts, p(y) is the mean over a part, and the value is the mean
    over the parts. ± is its standard error; the paper prints the standard deviation over parts. Since p(y) is
    estimated on each part, the value is slightly lower than for infinitely many samples.

    Raises SampleError for fewer than two samples in a part, and for rows that are not probabilities.
    """
    p = check_samples(probabilities, "probabilities", least=2 * splits).double()
    if p.ndim != 2 or p.min() < 0 or not torch.allclose(p.sum(1), p.new_ones(()), atol=1e-4):
        raise SampleError("probabilities: expected [n, K], non-negative numbers that add up to 1 in each row")
    values = torch.stack([_part(part) for part in p.tensor_split(splits)])
    sem = standard_error(values) if splits > 1 else None
    return Score(values.mean().item(), sem, len(p))


def _part(p: Tensor) -> Tensor:  # [n, K]
    marginal = p.mean(0)
    conditional = torch.special.entr(p).sum(1).mean()
    return (torch.special.entr(marginal).sum() - conditional).exp()


@metric(Value("classifier_score", "classes", "higher"), name="classifier_score", needs=("pixels", "labels"))
@dataclass(frozen=True)
class ClassifierScore:
    """Inception-style score by the dataset's own classifier: high for samples of clear classes, all equally frequent.

    It does not see the data: copies of the training set score as data do, and so does a generator that repeats one
    image of each class; samples that nobody would take for images may score higher than data. The control "test" is
    the value of test examples. Papers' Inception Score uses ImageNet's 1000 classes.

    Checked against sure and undecided classes in closed form (1e-6, relative).
    """

    n: int = 5000  # samples, at most as many as there are test examples
    splits: int = 10  # parts over which the score is averaged

    def __call__(self, model: Model, data: Data, reference: PerDevice[Score] | None = None) -> Score:
        samples = model.samples(self._size(data))
        control = (reference or self.reference(data)).on(samples.device)
        score = self._score(samples, data)
        return replace(score, details={}, controls={**control.controls, "test": control.value})

    def reference(self, data: Data) -> PerDevice[Score]:
        """The score of as many test examples; controls: "accuracy" of the classifier on the test split."""
        return PerDevice(lambda place: self._control(data, place))

    def _control(self, data: Data, place: device) -> Score:
        test = data.floats(random_subset(data.test, self._size(data))).to(place)
        return replace(self._score(test, data), controls={"accuracy": classifier(data).accuracy})

    def _size(self, data: Data) -> int:
        return min(self.n, len(data.test))

    def _score(self, x: Tensor, data: Data) -> Score:
        return classifier_score(classifier(data, x.device).probabilities(x), splits=self.splits)

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"exp(E KL(p(y|x) ‖ p(y))) of {self._size(data)} samples, mean over {self.splits} parts, by "
            + recipe(data)
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {"samples": self._size(data), "classifier": recipe_fields(data)}
