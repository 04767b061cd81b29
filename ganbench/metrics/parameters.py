"""Distance of a search from the true parameters of a simulator (Borisyak et al. 2020, section 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..contracts import Data, Model, Score, Simulator, Value, metric
from ..errors import SampleError


def parameter_distance(parameters: Tensor, simulator: Simulator) -> Tensor:
    """Distance [...] of `parameters` [..., P] from the truth: the root mean square over the parameters of the
    differences, each as a fraction of its range `low` to `high`. Raises SampleError if P is another number than the
    simulator has."""
    if parameters.shape[-1:] != (len(simulator.truth),):
        raise SampleError(
            f"parameters have the shape {list(parameters.shape)}; the simulator has {len(simulator.truth)}: "
            + ", ".join(simulator.parameters)
        )
    low, high, truth = (
        torch.tensor(v, dtype=torch.float64) for v in (simulator.low, simulator.high, simulator.truth)
    )
    return ((parameters.double() - truth) / (high - low)).square().mean(-1).sqrt()


@metric(
    Value("parameter_distance", "of range", "lower"),
    Value("parameter_error", "of range", "lower"),
    name="parameter_distance",
    needs=("simulator", "parameters"),
)
@dataclass(frozen=True)
class ParameterDistance:
    """The least distance from the true parameters on the path of a search, and the distance of its answer.

    The first is the score of Borisyak et al. 2020. It is too good for a search that cannot tell which of its points
    is best. Details: "distance" [L], the least distance after "calls" [L] simulator calls (NaN before the first).

    Checked against hand-made places and paths (1e-7).
    """

    def __call__(self, model: Model, data: Data) -> tuple[Score, Score]:
        if data.simulator is None:
            raise SampleError(f"{data.name}: does not come from a simulator, so it has no true parameters")
        if not {"parameters", "path", "calls", "grid"} <= model.state.keys():
            raise SampleError(
                "the method stores no path of parameters; let fit return `ganbench.Search(...).found(place)`"
            )
        least = parameter_distance(model.state["path"], data.simulator).cummin(0).values
        grid = model.state["grid"]
        padded = torch.cat([torch.tensor([math.nan], dtype=least.dtype), least.cpu()])
        passed = padded[torch.searchsorted(model.state["calls"], grid, right=True).cpu()]
        error = parameter_distance(model.state["parameters"], data.simulator)
        return Score(float(least[-1]), details={"calls": grid, "distance": passed}), Score(float(error))

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        names = ", ".join(data.simulator.parameters) if data.simulator else "none"
        return (
            f"root mean square over the parameters ({names}) of the difference from the truth, in units of the "
            "range considered: the least on the path of the search, and that of its answer"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {"parameters": data.simulator.parameters if data.simulator else ()}
