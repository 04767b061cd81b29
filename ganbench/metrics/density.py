"""Log-density of samples under the true density of the data, where it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..contracts import Data, Model, Score, Value, metric
from ..errors import SampleError
from .distances import check_samples
from .statistics import standard_error


def data_log_density(samples: Tensor, log_density: Callable[[Tensor], Tensor]) -> Score:
    """Mean log-density (nats) of `samples` [n, *shape] under the true density `log_density`, [n, *shape] -> [n], with
    its standard error over samples. In float64.

    Only samples where data are rare lower it, so that a sampler which repeats the highest peak has the best value.
    Compare it with its value for fresh data, the negative entropy: lower values mean samples off the data, higher ones
    samples that stay at the peaks. Details: "lowest", the least log-density of a sample.

    Raises SampleError for fewer than two samples, samples that are not finite, and samples whose log-density is not
    finite.
    """
    samples = check_samples(samples, "samples", least=2)
    values = log_density(samples.double()).double()
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise SampleError(f"samples: {bad} of {len(samples)} have no finite log-density")
    sem = standard_error(values)
    return Score(values.mean().item(), sem, len(values), {"lowest": values.min().item()})


@metric(Value("data_log_density", "nats", "neither"), name="data_log_density", needs=("log_density",))
@dataclass(frozen=True)
class DataLogDensity:
    """Mean log-density of samples under the true density of the data, to be compared with that of test examples.

    The control "test" is the value of the test examples. Lower values mean samples off the data; higher ones samples
    that stay at the peaks, as those of a collapsed generator do.

    Checked against the entropy of a Gaussian and of the toy mixtures in closed form (4 standard errors).
    """

    n: int = 10_000  # samples

    def __call__(self, model: Model, data: Data, reference: float | None = None) -> Score:
        control = self.reference(data) if reference is None else reference
        score = data_log_density(model.samples(self.n), _known(data))
        return replace(score, controls={"test": control})

    def reference(self, data: Data) -> float:
        """The value of all test examples."""
        return data_log_density(data.floats(data.test), _known(data)).value

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"mean over {self.n} samples of the true log-density of {data.name}; the control over all "
            f"{len(data.test)} test examples"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {"dataset": data.name, "test": len(data.test)}


def _known(data: Data) -> Callable[[Tensor], Tensor]:
    if data.log_density is None:
        raise SampleError(f"{data.name}: its density is not known, so data_log_density cannot be computed")
    return data.log_density
