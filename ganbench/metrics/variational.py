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

NETS_PER_HALF = 3  # nets for each half
KERNEL_SCALES = 6  # kernel bandwidths
HIDDEN_UNITS = 64  # ELU units of both hidden layers
MAX_STEPS = 400  # minibatches at most
BATCH_SIZE = 128  # examples of either side in one
LEARNING_RATE = 3e-3  # of Adam
CHECK_INTERVAL = 20  # minibatches after which the bound on the part set aside is looked at
PATIENCE_STEPS = 100  # minibatches without a better one that end the training
MAX_INPUT = 10.0  # standard deviations of real examples: no input of the net is further out
BANDWIDTH_EXAMPLES = 500  # real examples whose neighbours set the smallest bandwidth
MAX_P_VALUE = 1e-3  # p-value of the two-sample test below which a bound of zero needs a warning
DIVERGENCES = ("jensen-shannon", "kl", "reverse-kl", "jeffrey", "squared-hellinger", "pearson", "neyman")


def variational_divergence(
    samples: Tensor, test: Tensor, divergence: Divergence, *, generator: Generator | None = None
) -> Score:
    """A lower bound, in nats, on D_f(P‖Q) of the distributions P of `test` [m, *shape] and Q of `samples`
    [n, *shape]: E_P[T] − E_Q[f*(T)] with T = f'(u) (Nowozin et al. 2016, eq. 4; Nguyen et al. 2010), where u is an
    estimate of the density ratio. No u makes the expectation larger than the divergence.

    Both sets are cut in two, and each half is judged by what was trained on the other; the value is the mean of both,
    and may come out negative. log u is a net of 64 ELU units twice that ascends the bound of the Jensen–Shannon
    divergence, for which T is a logit (Goodfellow et al. 2014, eq. 3), whatever `divergence` is. It sees an example's
    numbers and, for small scales, its log-density under kernels on real examples, and the difference from that under
    kernels on samples, at 6 bandwidths from the distance of neighbours up (`log_densities`); all standardised by the
    real examples of the training half. Kernels stand on other examples than those that a net is fitted to. Of 3 nets
    with other weights, each is taken as it was where the bound on a fifth of its half, set aside, less half a standard
    error is highest; those that are never above zero there are left out, the others' log u averaged, and u = 1,
    which gives zero, where none is left. u is kept between 1/n and n: n examples show no higher ratio.

    ± holds the standard error over all examples and the part of the training: the spread between the values of one
    half's nets or, where that is more, what the examples leave unexplained of the difference between the halves.
    Details: "start_values", a list for each half; "sem_training", that part. There is a `warning` where the value is
    within two standard errors of zero although a two-sample test (`c2st`) tells samples from data.

    It says how much these nets find, which for few examples of many numbers is little. The bound of
    Jensen–Shannon has the least spread; those with a power or an exponential of u (KL, Pearson, Neyman, Jeffrey)
    fall short of divergences above a few nats, or are lost in their spread. `generator`, on the CPU, draws the
    halves, the weights and the minibatches; None: a fixed seed. Raises SampleError for fewer than 16 examples,
    different shapes and values that are not finite.
    """
    test = check_samples(test, "test", least=16)
    samples = check_samples(samples, "samples", like=test, least=16)
    generator = generator or torch.Generator().manual_seed(0)
    pair = Pair(test, samples).each(
        lambda z: z[torch.randperm(len(z), generator=generator).to(z.device)].flatten(1)
    )
    first, second = (pair.each(lambda z, i=i: z.tensor_split(2)[i]) for i in range(2))
    folds = [_fold(known, held, divergence, generator) for known, held in ((first, second), (second, first))]
    value = sum(fold.value for fold in folds) / 2
    over_examples = math.hypot(folds[0].sem, folds[1].sem) / 2
    over_starts = math.sqrt(sum(fold.starts.var().item() for fold in folds) / NETS_PER_HALF) / 2
    # What examples leave unexplained of the difference between the halves: nets of one may have failed together.
    over_halves = math.sqrt(max(0.0, (folds[0].value - folds[1].value) ** 2 / 4 - over_examples**2))
    training = max(over_starts, over_halves)
    sem = math.hypot(over_examples, training)
    details = {"start_values": [fold.starts.tolist() for fold in folds], "sem_training": training}
    warning = None
    if value <= divergence.minimum + 2 * sem:
        seen = c2st(samples, test, generator=generator)
        if seen.details["p_value"] < MAX_P_VALUE:
            warning = (
                f"the nets find no divergence, but a two-sample test tells samples from data with an accuracy of "
                f"{seen.value:.3g}: the true divergence is above zero; take more examples"
            )
    return Score(value, sem, len(test) + len(samples), details, warning=warning)


class Pair(NamedTuple):
    """Something of both sides, [..., n, ·] and [..., m, ·]."""

    real: Tensor
    made: Tensor

    def each(self, function: Callable[[Tensor], Tensor]) -> Pair:
        return Pair(function(self.real), function(self.made))


class _Fold(NamedTuple):
    """The bound of one half by nets that were trained on the other."""

    value: float
    sem: float  # over the half's examples
    starts: Tensor  # [NETS_PER_HALF], float64: the value of each net alone


def _fold(known: Pair, held: Pair, f: Divergence, generator: Generator) -> _Fold:
    """Trains on `known`, examples [n, d], and judges by `held`."""
    standard, varied = _standardise(known.real)
    known, held = known.each(standard), held.each(standard)
    # The part set aside, and two parts that the nets are fitted to: kernels on one make the inputs of the other.
    aside = known.each(lambda z: z[: max(2, len(z) // 5)])
    one, two = (known.each(lambda z, i=i: z[max(2, len(z) // 5) + i :: 2]) for i in range(2))
    bandwidths = _bandwidths(known.real, varied)
    parts = [part.each(lambda z, k=k: _inputs(z, k, bandwidths)) for part, k in ((one, two), (two, one))]
    fitted = Pair(torch.cat([part.real for part in parts]), torch.cat([part.made for part in parts]))
    standard, _ = _standardise(fitted.real)
    fitted = fitted.each(standard)
    aside, held = (
        pair.each(
            lambda z: torch.stack([standard(_inputs(z, kernels, bandwidths)) for kernels in (one, two)])
        )
        for pair in (aside, held)
    )
    found = [_train(fitted, aside, held, f, generator) for _ in range(NETS_PER_HALF)]
    starts = [_bound(log_ratio, f)[0] for log_ratio in found]
    moved = [log_ratio for log_ratio in found if log_ratio.real.any() or log_ratio.made.any()] or found[:1]
    mean = Pair(*(torch.stack(side).mean(0) for side in zip(*moved, strict=True)))
    return _Fold(*_bound(mean, f), torch.tensor(starts, dtype=torch.float64))


def _standardise(real: Tensor) -> tuple[Callable[[Tensor], Tensor], int]:
    """A map that takes the mean of `real` [n, d] to 0 and its deviation to 1, and how many columns have one."""
    deviation, mean = torch.std_mean(real.double(), dim=0)
    scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    return lambda z: ((z - mean) / scale).clamp(-MAX_INPUT, MAX_INPUT).float(), int((deviation > 0).sum())


def _bandwidths(real: Tensor, varied: int) -> list[float]:
    """Kernel bandwidths for standardised examples [n, d], `varied` columns of which are not constant: evenly on a
    log scale from the distance of neighbours, per dimension, to 1 or 4 times that."""
    near = nearest(real[:BANDWIDTH_EXAMPLES], real, 2)[0][:, 1]  # the nearest is the example itself
    near = near[near > 0]
    least = near.median().item() / math.sqrt(max(varied, 1)) if len(near) else 0.01
    ratio = max(1.0, 4 * least) / least
    return [least * ratio ** (i / (KERNEL_SCALES - 1)) for i in range(KERNEL_SCALES)]


def _inputs(x: Tensor, kernels: Pair, bandwidths: list[float]) -> Tensor:
    """What a net sees of examples [n, d]: themselves, their log-density under kernels on real examples, and how much
    larger it is than that under kernels on samples: [n, d + 2·KERNEL_SCALES]."""
    real, made = (log_densities(z, x, bandwidths).T for z in kernels)
    reach = math.log(len(kernels[0]))  # so many examples show no larger difference
    return torch.cat([x, real.float(), (real - made).clamp(-reach, reach).float()], 1)


def _train(fitted: Pair, aside: Pair, held: Pair, f: Divergence, generator: Generator) -> Pair:
    """log u of `held` by a net that ascends the bound of the Jensen–Shannon divergence on `fitted`, as it was when the
    bound on `aside` was highest."""
    net = _initial_net(fitted[0].shape[1], generator).to(fitted[0].device)
    optimiser = torch.optim.Adam(net.parameters(), LEARNING_RATE)
    best, chosen, when = -math.inf, copy.deepcopy(net.state_dict()), 0
    rows = torch.empty(0, 2, BATCH_SIZE)
    for step in range(MAX_STEPS + 1):
        if step % CHECK_INTERVAL == 0:
            value, sem = _bound(_log_ratio(net, aside), f)
            if value - sem / 2 > best:  # of many looks the best one is easily luck
                best, chosen, when = value - sem / 2, copy.deepcopy(net.state_dict()), step
            elif step - when >= PATIENCE_STEPS:
                break
            # The rows of all steps until the next look, so that a GPU is waited for once.
            sizes = [len(z) for _ in range(min(CHECK_INTERVAL, MAX_STEPS + 1 - step)) for z in fitted]
            drawn = torch.stack([torch.randint(n, (BATCH_SIZE,), generator=generator) for n in sizes])
            rows = drawn.view(-1, 2, BATCH_SIZE).to(fitted.real.device)
        p, q = (net(z[row]) for z, row in zip(fitted, rows[step % CHECK_INTERVAL], strict=True))
        optimiser.zero_grad()
        (softplus(-p).mean() + softplus(q).mean()).backward()
        optimiser.step()
    net.load_state_dict(chosen)
    return _log_ratio(net, held)


def _log_ratio(net: nn.Module, pair: Pair) -> Pair:
    """log u of examples [2, n, d], which are seen with kernels on either part: the mean of both, [n]."""
    with torch.no_grad():
        return pair.each(lambda z: net(z).double()[..., 0].mean(0))


def _bound(log_ratio: Pair, f: Divergence) -> tuple[float, float]:
    """The bound and its standard error by log u of real examples [n] and of samples [m], u kept in reach of so many
    examples: T = f'(u), and f*(T) = u f'(u) - f(u)."""
    low, high = -math.log(len(log_ratio.made)), math.log(len(log_ratio.real))
    u, w = log_ratio.each(lambda z: z.clamp(low, high).exp())
    gain, cost = f.slope(u), w * f.slope(w) - f.f(w)
    sem = (gain.var() / len(gain) + cost.var() / len(cost)).sqrt().item()
    return (gain.mean() - cost.mean()).item(), sem


def _initial_net(d: int, generator: Generator) -> Sequential:
    """A net whose output is everywhere log u = 0, where the bound of a constant is highest: f(1)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31 - 1, (), generator=generator)))
        net = mlp(d, HIDDEN_UNITS, HIDDEN_UNITS, 1, activation=nn.ELU)
    *_, weight, bias = net.parameters()
    nn.init.zeros_(weight)
    nn.init.zeros_(bias)
    return net


class Control(NamedTuple):
    """The test examples as the net sees them, and what training examples score against them."""

    test: Tensor  # [n, d]
    value: float


@metric(Value("estimated_divergence", "nats", "lower"), name="estimated_divergence", version=2)
@dataclass(frozen=True)
class EstimatedDivergence:
    """A lower bound on an f-divergence of data and samples, by a discriminator that is trained for it alone and
    judged by what it was not trained on (Nowozin et al. 2016, eq. 4): for where densities are not known.

    The same nets for all methods, whatever they were trained by. "jensen-shannon" is twice the Jensen–Shannon
    divergence, at most 1.386. Control "train": training examples in the place of samples.

    Checked against the divergence of two Gaussians by quadrature, from below (0.15 nats), and of a ring and a grid
    with noise by quadrature (0.08 nats).
    """

    n: int = 5000  # samples, and test examples, at most as many as there are of the latter
    divergence: Literal[
        "jensen-shannon", "kl", "reverse-kl", "jeffrey", "squared-hellinger", "pearson", "neyman"
    ] = "jensen-shannon"  # which one; of data from samples
    features: str = "pixels"  # what the net sees: the numbers themselves, or what an extractor makes of them

    def __call__(self, model: Model, data: Data, reference: PerDevice[Control] | None = None) -> Score:
        samples = check_samples(model.samples(self._size(data)), "samples", least=16)
        control = (reference or self.reference(data)).on(samples.device)
        seen = extractor(self.features, data, samples.device)(samples)
        score = variational_divergence(seen, control.test, self._f())
        return replace(score, controls={"train": control.value})

    def reference(self, data: Data) -> PerDevice[Control]:
        """The test examples, and what as many training examples score."""
        return PerDevice(lambda place: self._control(data, place))

    def _control(self, data: Data, place: device) -> Control:
        seen = extractor(self.features, data, place)
        parts = (random_subset(split, self._size(data)) for split in (data.train, data.test))
        train, test = (seen(data.floats(part).to(place)) for part in parts)
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
            f"bound on {self.divergence}(data ‖ samples) by nets of {HIDDEN_UNITS} ELU units twice on standardised numbers "
            f"and kernel log-densities at {KERNEL_SCALES} bandwidths; logistic loss, Adam {LEARNING_RATE:g}, minibatches of {BATCH_SIZE}, at "
            f"most {MAX_STEPS}; {n} samples and {n} random test examples in two halves, each judged by {NETS_PER_HALF} nets "
            f"trained on the other, a fifth of which is set aside to stop; ± over examples and nets; "
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
