"""What a discriminator has learnt: its features under a linear classifier (Radford et al. 2016, section 5)."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, device, nn
from torch.nn.functional import adaptive_max_pool2d

from ..contracts import Data, Labels, Model, Score, Value, metric
from ..errors import SampleError
from ..nets import BatchNorm, Sequential
from .distances import check_samples
from .per_device import PerDevice
from .statistics import percentage
from .subset import random_subset

POOLED_SIDE = 4  # of the maps after pooling
SVM_STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # C of the machine, chosen on validation examples
BLOCK = 500  # examples given to a net at a time
MAX_ITERATIONS = 2000  # of the solver


def discriminator_features(net: Sequential, x: Tensor) -> Tensor:
    """All hidden layers of `net` for examples `x` [n, *shape], maps max-pooled to 4 × 4 and everything flattened:
    [n, d] (Radford et al. 2016, section 5.1).

    The net should stand in evaluation mode. Raises SampleError for a net without hidden layers.
    """
    if not net.hidden:
        raise SampleError("the discriminator has no hidden layer, so no features")
    like = next(net.parameters())
    with torch.no_grad():
        return torch.cat([_hidden_layers(net, part.to(like)) for part in x.split(BLOCK)])


def _hidden_layers(net: Sequential, x: Tensor) -> Tensor:
    """[B, *shape] -> [B, d]; what stands before each layer of weights but the first, not yet flattened."""
    found, values, ends = [], x, set(net.reads[1:])
    for index, layer in enumerate(net):
        if index in ends:
            pooled = (
                adaptive_max_pool2d(values, POOLED_SIDE)
                if values.ndim == 4 and values.shape[-1] > POOLED_SIDE
                else values
            )
            found.append(pooled.flatten(1))
        x = layer(x)
        values = values if isinstance(layer, nn.Flatten) else x
    return torch.cat(found, 1).float()


def linear_probe(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, *, strength: float = 1.0
) -> Score:
    """% of `test` [m, d] that a linear L2-SVM (squared hinge loss, one class against the rest) trained on `train`
    [n, d] puts in the right class; labels [n] and [m], ± is binomial.

    The numbers are standardised by the training examples and divided by √d, so that an example has the squared
    norm 1 on average, and `strength`, the C of the machine, means the same for few features and many.

    Raises SampleError for labels that do not fit, a single class, different shapes and values that are not finite.
    """
    train = check_samples(train, "train", least=2)
    test = check_samples(test, "test", like=train)
    for name, x, labels in (("train", train, train_labels), ("test", test, test_labels)):
        if labels.shape != (len(x),):
            raise SampleError(f"{name}: expected {len(x)} labels [{len(x)}], got {list(labels.shape)}")
    if len(train_labels.unique()) < 2:
        raise SampleError("train: all examples have the same label; a classifier needs two classes")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    known, asked = _standardise(train.flatten(1), test.flatten(1))
    machine = LinearSVC(C=strength, max_iter=MAX_ITERATIONS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for a share of right answers
        machine.fit(known.cpu().numpy(), train_labels.cpu().numpy())
    guesses = torch.as_tensor(machine.predict(asked.cpu().numpy()))
    return percentage(guesses == test_labels.cpu())


def _standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    deviation, mean = torch.std_mean(train.double(), dim=0)
    scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation)) * math.sqrt(train.shape[1])
    return (train.double() - mean) / scale, (test.double() - mean) / scale


@dataclass(frozen=True)
class Examples:
    """Labelled examples: to train on, to choose by and to test on; drawn at random from each split, always the same."""

    data: Data
    labels: Labels
    n_train: int
    n_test: int

    @classmethod
    def of(cls, data: Data, n_train: int, n_test: int) -> Examples:
        """Raises SampleError for data without labels."""
        if data.labels is None:
            raise SampleError(f"{data.name}: has no labels")
        return cls(data, data.labels, n_train, n_test)

    def score(self, features: Callable[[Tensor], Tensor], place: device) -> Score:
        """Of the probe on `features`, [n, *shape] -> [n, d], which are computed on the device `place`, with the
        strength that is best on validation examples; details: "strength"."""
        sizes = (self.n_train, self.n_test, self.n_test)
        splits = (self.data.train, self.data.valid, self.data.test)
        train, valid, test = (
            features(self.data.floats(random_subset(x, n).to(place)))
            for x, n in zip(splits, sizes, strict=True)
        )
        of_train, of_valid, of_test = (random_subset(y, n) for y, n in zip(self.labels, sizes, strict=True))
        chosen = max(
            SVM_STRENGTHS, key=lambda c: linear_probe(train, of_train, valid, of_valid, strength=c).value
        )
        score = linear_probe(train, of_train, test, of_test, strength=chosen)
        return replace(score, details={"strength": chosen})


@metric(Value("probe", "%", "higher"), name="probe", needs=("labels", "discriminator"), version=2)
@dataclass(frozen=True)
class Probe:
    """Test accuracy of a linear classifier on the features of the discriminator, max-pooled to 4 × 4 (Radford et
    al. 2016, table 1): what a D that never saw a label has learnt of the classes.

    Needs a net "D" of layers one after the other (`ganbench.Sequential`). ± is binomial. Controls under the same
    protocol: "pixels", the examples' own numbers; "untrained", the same D with
    weights as PyTorch draws them. A D that is no better than the latter has learnt nothing of the classes.

    Checked against scikit-learn's standardised LinearSVC (0.5 %).
    """

    n_train: int = 1000  # labelled training examples, at most
    n_test: int = 2000  # test examples, and validation examples that choose the strength of the classifier

    def __call__(self, model: Model, data: Data, reference: PerDevice[float] | None = None) -> Score:
        examples = Examples.of(data, self.n_train, self.n_test)
        net = model.game.nets.get("D") if model.game else None
        if not isinstance(net, Sequential) or not net.hidden:
            raise SampleError("the game has no net D that is a ganbench.Sequential with hidden layers")
        place = next(net.parameters()).device
        score = examples.score(lambda x: discriminator_features(net, x), place)
        controls = {"pixels": (reference or self.reference(data)).on(place)}
        fresh = _reset_copy(net, data.floats(random_subset(data.train, BLOCK)))
        if fresh is not None:
            controls["untrained"] = examples.score(lambda x: discriminator_features(fresh, x), place).value
        return replace(score, controls=controls)

    def reference(self, data: Data) -> PerDevice[float]:
        """What the examples' own numbers score."""
        examples = Examples.of(data, self.n_train, self.n_test)
        return PerDevice(lambda place: examples.score(lambda x: x.flatten(1), place).value)

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        n_train, n_valid, n_test = (
            min(n, len(x))
            for n, x in ((self.n_train, data.train), (self.n_test, data.valid), (self.n_test, data.test))
        )
        return (
            f"all hidden layers of D, without tricks' views, maps max-pooled to {POOLED_SIDE} × {POOLED_SIDE}; standardised; linear "
            f"L2-SVM, one against the rest, trained on {n_train} training examples, C of "
            f"{', '.join(f'{c:g}' for c in SVM_STRENGTHS)} by {n_valid} validation examples; accuracy on {n_test} test "
            "examples; all drawn at random, always the same"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {
            "train": min(self.n_train, len(data.train)),
            "valid": min(self.n_test, len(data.valid)),
            "test": min(self.n_test, len(data.test)),
            "side": POOLED_SIDE,
            "strengths": SVM_STRENGTHS,
        }


def _reset_copy(net: Sequential, x: Tensor) -> Sequential | None:
    """The same net with new weights, and statistics of `x` [n, *shape] in its `BatchNorm`; None where a layer
    does not say how its weights are drawn."""
    fresh = copy.deepcopy(net)
    layers = [layer for layer in fresh.modules() if next(layer.parameters(recurse=False), None) is not None]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for layer in layers:
            if isinstance(layer, BatchNorm):
                layer.weight.fill_(1.0)
                layer.bias.zero_()
            elif callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
            else:
                return None
        fresh.train()(x.to(next(fresh.parameters())))
    for layer in layers:
        if isinstance(layer, BatchNorm) and layer.seen:
            layer.mean.copy_(layer.seen[0])
            layer.var.copy_(layer.seen[1])
    return fresh.eval()
