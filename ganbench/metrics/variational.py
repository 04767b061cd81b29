"""A divergence estimated from samples alone: the variational bound of a discriminator trained for it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Generator, Tensor, device, nn
from torch.nn.functional import softplus

from ..contracts import Data, Divergence, Model, Score, Value, metric
from ..errors import SampleError
from ..nets import Sequential, mlp
from ..registry import find_divergence
from .distances import check_samples, nearest
from .extractors import extractor, extractor_fields, identity
from .kde import log_densities
from .per_device import PerDevice
from .subset import random_subset
from .two_sample import c2st

NETS_PER_HALF = 3
KERNEL_SCALES = 6  # bandwidths
HIDDEN_UNITS = 64  # in each of the two hidden layers
MAX_STEPS = 400  # minibatches
BATCH_SIZE = 128  # real examples, and as many samples
LEARNING_RATE = 3e-3  # of Adam
CHECK_INTERVAL = 20  # minibatches between two evaluations of the bound on the validation part
PATIENCE_STEPS = 100  # minibatches without improvement after which training stops
MAX_INPUT = 10.0  # standard deviations of real examples; larger inputs of the net are clipped
BANDWIDTH_EXAMPLES = 500  # real examples whose neighbour distances set the smallest bandwidth
MAX_P_VALUE = 1e-3  # of the two-sample test, for a warning if the bound is zero
DIVERGENCES = ("jensen-shannon", "kl", "reverse-kl", "jeffrey", "squared-hellinger", "pearson", "neyman")


def variational_divergence(
    samples: Tensor, test: Tensor, divergence: Divergence, *, generator: Generator | None = None
) -> Score:
    """A lower bound, in nats, on D_f(P‖Q) of the distributions P of `test` [m, *shape] and Q of `samples`
    [n, *shape]: E_P[T] − E_Q[f*(T)] with T = f'(u) (Nowozin et al. 2016, eq. 4; Nguyen et al. 2010), where u is an
    estimate of the density ratio. No u makes the expectation larger than the divergence.

    Both sets are split into two halves, and each half is evaluated by nets trained on the other. The value is the mean
    of both and may be negative. log u is a net with two hidden layers of 64 ELU units that maximises the bound of the
    Jensen–Shannon divergence, for which T is a logit (Goodfellow et al. 2014, eq. 3), whatever `divergence` is. Its
    inputs are an example's numbers and, for small scales, its log-density under kernels on real examples and the
    difference from that under kernels on samples, at 6 bandwidths from the distance of neighbours up (`log_densities`);
    all are standardised by the real examples of the training half. The kernels are centred on other examples than those
    that a net is fitted to. There are 3 nets with different initial weights. Each is taken from the step at which the
    bound on the validation part (a fifth of its half), minus half a standard error, is highest; nets whose bound is
    never above zero there are left out. The log u of the others are averaged; if none is left, u = 1, whose bound is
    zero. u is limited to 1/n to n, since n examples cannot show a higher ratio.

    ± combines the standard error over all examples with that of the training: the spread between the values of the nets
    of one half or, if that is larger, the part of the difference between the halves that the examples do not explain.
    Details: "start_values", a list for each half; "sem_training". There is a `warning` if the value is within two
    standard errors of zero although a two-sample test (`c2st`) tells samples from data.

    The bound is what these nets find, which is little for few examples of many numbers. The bound of Jensen–Shannon has
    the least spread; those with a power or an exponential of u (KL, Pearson, Neyman, Jeffrey) are too low for
    divergences above a few nats, or have a large spread. `generator`, on the CPU, draws the halves, the weights and the
    minibatches; None: a fixed seed. Raises SampleError for fewer than 16 examples, different shapes and values that are
    not finite.
    """
    test = check_samples(test, "test", least=16)
    samples = check_samples(samples, "samples", like=test, least=16)
    generator = generator or torch.Generator().manual_seed(0)
    pair = Pair(test, samples).each(
        lambda z: z[torch.randperm(len(z), generator=generator).to(z.device)].flatten(1)
    )
    first, second = (pair.each(lambda z, i=i: z.tensor_split(2)[i]) for i in range(2))
    halves = ((first, second), (second, first))
    folds = [_fold(train, held_out, divergence, generator) for train, held_out in halves]
    value = sum(fold.value for fold in folds) / 2
    over_examples = math.hypot(folds[0].sem, folds[1].sem) / 2
    over_starts = math.sqrt(sum(fold.starts.var().item() for fold in folds) / NETS_PER_HALF) / 2
    # All nets of a half may fail together: the difference between the halves that the examples do not explain.
    over_halves = math.sqrt(max(0.0, (folds[0].value - folds[1].value) ** 2 / 4 - over_examples**2))
    training = max(over_starts, over_halves)
    sem = math.hypot(over_examples, training)
    details = {"start_values": [fold.starts.tolist() for fold in folds], "sem_training": training}
    warning = None
    if value <= divergence.minimum + 2 * sem:
        two_sample = c2st(samples, test, generator=generator)
        if two_sample.details["p_value"] < MAX_P_VALUE:
            warning = (
                f"the nets find no divergence, but a two-sample test tells samples from data with an accuracy of "
                f"{two_sample.value:.3g}: the true divergence is above zero; take more examples"
            )
    return Score(value, sem, len(test) + len(samples), details, warning=warning)


class Pair(NamedTuple):
    """Tensors of real examples [..., n, ·] and of samples [..., m, ·]."""

    real: Tensor
    fake: Tensor

    def each(self, function: Callable[[Tensor], Tensor]) -> Pair:
        return Pair(function(self.real), function(self.fake))


class _Fold(NamedTuple):
    """The bound on one half by nets that were trained on the other."""

    value: float
    sem: float  # over the half's examples
    starts: Tensor  # [NETS_PER_HALF], float64: the value of each net alone


def _fold(train: Pair, held_out: Pair, f: Divergence, generator: Generator) -> _Fold:
    """The bound on `held_out` by nets trained on `train`, examples [n, d]."""
    standardise, varied = _standardise(train.real)
    train, held_out = train.each(standardise), held_out.each(standardise)
    # A validation part, and two parts that the nets are fitted to: the kernels for one are centred on the other.
    valid = train.each(lambda z: z[: max(2, len(z) // 5)])
    one, two = (train.each(lambda z, i=i: z[max(2, len(z) // 5) + i :: 2]) for i in range(2))
    bandwidths = _bandwidths(train.real, varied)
    parts = [part.each(lambda z, k=k: _inputs(z, k, bandwidths)) for part, k in ((one, two), (two, one))]
    fitted = Pair(torch.cat([part.real for part in parts]), torch.cat([part.fake for part in parts]))
    standardise, _ = _standardise(fitted.real)
    fitted = fitted.each(standardise)
    # Examples outside the two parts are evaluated with the kernels of both: [2, n, d].
    valid, held_out = (
        pair.each(
            lambda z: torch.stack([standardise(_inputs(z, kernels, bandwidths)) for kernels in (one, two)])
        )
        for pair in (valid, held_out)
    )
    log_ratios = [_train(fitted, valid, held_out, f, generator) for _ in range(NETS_PER_HALF)]
    starts = [_bound(log_ratio, f)[0] for log_ratio in log_ratios]
    # A net that was never better than its start has log u = 0 everywhere.
    trained = [one for one in log_ratios if one.real.any() or one.fake.any()] or log_ratios[:1]
    mean = Pair(*(torch.stack(side).mean(0) for side in zip(*trained, strict=True)))
    return _Fold(*_bound(mean, f), torch.tensor(starts, dtype=torch.float64))


def _standardise(real: Tensor) -> tuple[Callable[[Tensor], Tensor], int]:
    """A function that standardises by the mean and deviation of `real` [n, d], and the number of columns that vary."""
    deviation, mean = torch.std_mean(real.double(), dim=0)
    scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    return lambda z: ((z - mean) / scale).clamp(-MAX_INPUT, MAX_INPUT).float(), int((deviation > 0).sum())


def _bandwidths(real: Tensor, varied: int) -> list[float]:
    """Kernel bandwidths for standardised examples [n, d] with `varied` columns that are not constant: evenly spaced on
    a log scale from the distance of neighbours, per dimension, to 1 or 4 times that distance."""
    near = nearest(real[:BANDWIDTH_EXAMPLES], real, 2)[0][:, 1]  # the nearest is the example itself
    near = near[near > 0]
    least = near.median().item() / math.sqrt(max(varied, 1)) if len(near) else 0.01
    ratio = max(1.0, 4 * least) / least
    return [least * ratio ** (i / (KERNEL_SCALES - 1)) for i in range(KERNEL_SCALES)]


def _inputs(x: Tensor, kernels: Pair, bandwidths: list[float]) -> Tensor:
    """The inputs of a net for examples [n, d]: their numbers, their log-density under kernels on real examples, and its
    difference from that under kernels on samples: [n, d + 2·KERNEL_SCALES]."""
    real, fake = (log_densities(z, x, bandwidths).T for z in kernels)
    reach = math.log(len(kernels[0]))  # n examples cannot show a larger difference
    return torch.cat([x, real.float(), (real - fake).clamp(-reach, reach).float()], 1)


def _train(fitted: Pair, valid: Pair, held_out: Pair, f: Divergence, generator: Generator) -> Pair:
    """log u of `held_out` by a net that maximises the bound of the Jensen–Shannon divergence on `fitted`, taken from
    the step at which the bound on `valid` was highest."""
    net = _initial_net(fitted[0].shape[1], generator).to(fitted[0].device)
    optimiser = torch.optim.Adam(net.parameters(), LEARNING_RATE)
    best, best_state, best_step = -math.inf, copy.deepcopy(net.state_dict()), 0
    rows = torch.empty(0, 2, BATCH_SIZE)
    for step in range(MAX_STEPS + 1):
        if step % CHECK_INTERVAL == 0:
            value, sem = _bound(_log_ratio(net, valid), f)
            # Less half an error, since the best of many evaluations is partly luck.
            if value - sem / 2 > best:
                best, best_state, best_step = value - sem / 2, copy.deepcopy(net.state_dict()), step
            elif step - best_step >= PATIENCE_STEPS:
                break
            # The rows of all steps until the next evaluation, so that the CPU waits for a GPU once.
            sizes = [len(z) for _ in range(min(CHECK_INTERVAL, MAX_STEPS + 1 - step)) for z in fitted]
            drawn = torch.stack([torch.randint(n, (BATCH_SIZE,), generator=generator) for n in sizes])
            rows = drawn.view(-1, 2, BATCH_SIZE).to(fitted.real.device)
        p, q = (net(z[row]) for z, row in zip(fitted, rows[step % CHECK_INTERVAL], strict=True))
        optimiser.zero_grad()
        (softplus(-p).mean() + softplus(q).mean()).backward()
        optimiser.step()
    net.load_state_dict(best_state)
    return _log_ratio(net, held_out)


def _log_ratio(net: nn.Module, pair: Pair) -> Pair:
    """log u [n] of examples [2, n, d]: the mean over the inputs with the kernels of either part."""
    with torch.no_grad():
        return pair.each(lambda z: net(z).double()[..., 0].mean(0))


def _bound(log_ratio: Pair, f: Divergence) -> tuple[float, float]:
    """The bound and its standard error from log u of real examples [n] and of samples [m], with u limited to the range
    that so many examples can show: T = f'(u), and f*(T) = u f'(u) - f(u)."""
    low, high = -math.log(len(log_ratio.fake)), math.log(len(log_ratio.real))
    u, w = log_ratio.each(lambda z: z.clamp(low, high).exp())
    gain, cost = f.slope(u), w * f.slope(w) - f.f(w)
    sem = (gain.var() / len(gain) + cost.var() / len(cost)).sqrt().item()
    return (gain.mean() - cost.mean()).item(), sem


def _initial_net(d: int, generator: Generator) -> Sequential:
    """A net with the output log u = 0 everywhere, the best constant: its bound is f(1)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31 - 1, (), generator=generator)))
        net = mlp(d, HIDDEN_UNITS, HIDDEN_UNITS, 1, activation=nn.ELU)
    *_, weight, bias = net.parameters()
    nn.init.zeros_(weight)
    nn.init.zeros_(bias)
    return net


class Control(NamedTuple):
    """Features of the test examples, and the value of training examples against them."""

    test: Tensor  # [n, d]
    value: float


@metric(Value("estimated_divergence", "nats", "lower"), name="estimated_divergence", version=2)
@dataclass(frozen=True)
class EstimatedDivergence:
    """A lower bound on an f-divergence of data and samples, by discriminators that are trained only for the metric and
    evaluated on held-out examples (Nowozin et al. 2016, eq. 4). It needs no densities.

    The nets are the same for all methods. "jensen-shannon" is twice the Jensen–Shannon divergence, at most 1.386.
    Control "train": training examples in the place of samples.

    Checked against the divergence of two Gaussians by quadrature, from below (0.15 nats), and of a ring and a grid
    with noise by quadrature (0.08 nats).
    """

    n: int = 5000  # samples, and as many test examples; at most the size of the test split
    divergence: Literal[
        "jensen-shannon", "kl", "reverse-kl", "jeffrey", "squared-hellinger", "pearson", "neyman"
    ] = "jensen-shannon"  # of data from samples
    features: str = "pixels"  # inputs of the nets: "pixels", or the features of an extractor

    def __call__(self, model: Model, data: Data, reference: PerDevice[Control] | None = None) -> Score:
        samples = check_samples(model.samples(self._size(data)), "samples", least=16)
        control = (reference or self.reference(data)).on(samples.device)
        features = extractor(self.features, data, samples.device)(samples)
        score = variational_divergence(features, control.test, self._f())
        return replace(score, controls={"train": control.value})

    def reference(self, data: Data) -> PerDevice[Control]:
        """Features of the test examples, and the value of as many training examples."""
        return PerDevice(lambda place: self._control(data, place))

    def _control(self, data: Data, place: device) -> Control:
        extract = extractor(self.features, data, place)
        parts = (random_subset(split, self._size(data)) for split in (data.train, data.test))
        train, test = (extract(data.floats(part).to(place)) for part in parts)
        return Control(test, variational_divergence(train, test, self._f()).value)

    def _size(self, data: Data) -> int:
        return min(self.n, len(data.test))

    def _f(self) -> Divergence:
        if self.divergence not in DIVERGENCES:
            raise SampleError(
                f"divergence: expected one of {', '.join(DIVERGENCES)}; got {self.divergence!r}"
            )
        return find_divergence(self.divergence)

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        n = self._size(data)
        return (
            f"bound on {self.divergence}(data ‖ samples) by nets with two layers of {HIDDEN_UNITS} ELU units on "
            f"standardised numbers and kernel log-densities at {KERNEL_SCALES} bandwidths; logistic loss, Adam "
            f"{LEARNING_RATE:g}, minibatches of {BATCH_SIZE}, at most {MAX_STEPS}; {n} samples and {n} random test "
            f"examples in two halves, each evaluated by {NETS_PER_HALF} nets trained on the other, a fifth of which is "
            "for validation; ± over examples and nets; "
            f"{identity(self.features, data)}"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        n = self._size(data)
        return {
            "samples": n,
            "test": n,
            "width": HIDDEN_UNITS,
            "scales": KERNEL_SCALES,
            "rate": LEARNING_RATE,
            "batch": BATCH_SIZE,
            "steps": MAX_STEPS,
            "starts": NETS_PER_HALF,
            "space": extractor_fields(self.features, data),
        }
