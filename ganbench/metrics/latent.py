"""Walks and arithmetic in latent space: does a generator change smoothly, and do directions mean something?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from ..contracts import Data, Draw, Model, Score, Value, metric
from ..errors import SampleError
from .distances import check_samples, nearest
from .statistics import standard_error

Generate = Callable[[Tensor], Tensor]  # latents [n, *latent] -> samples [n, *shape], each by itself
BLOCK = 256  # latents that are generated at a time
ROWS = 8  # walks, and chains from coarse to fine, in the picture
EXAMPLES = 3  # latents of which a concept is the mean, as in Radford et al.
KIN = 3  # nearest training images that must be of one class for a sample to be of it


class Arithmetic(NamedTuple):
    """What the pictures of latent arithmetic show."""

    concepts: Tensor  # [3, k + 1, *shape]: the samples of a, b and c, and last what their mean gives
    results: Tensor  # [1 + n, *shape]: at mean a - mean b + mean c, then at its neighbours


def latent_walk(generate: Generate, stops: Tensor, steps: int = 10) -> Tensor:
    """Samples along the straight lines between successive latents: `stops` [n, *latent] -> [n - 1, steps, *shape],
    both ends included. Radford et al. 2016, figure 4, walks between nine.

    Raises SampleError for fewer than two stops or steps, and for samples that are not finite.
    """
    if len(stops) < 2 or steps < 2:
        raise SampleError(f"a walk needs at least 2 stops and 2 steps; got {len(stops)} and {steps}")
    part = torch.linspace(0, 1, steps, dtype=stops.dtype, device=stops.device)
    part = part.view(1, -1, *[1] * (stops.ndim - 1))
    z = stops[:-1, None] * (1 - part) + stops[1:, None] * part  # [n - 1, steps, *latent]
    return _generated(generate, z.flatten(0, 1)).unflatten(0, (-1, steps))


def latent_arithmetic(
    generate: Generate,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    neighbours: int = 8,
    spread: float = 0.25,
    generator: Generator | None = None,
) -> Arithmetic:
    """a - b + c in latent space, where each is the mean of some latents [k, *latent] whose samples have something
    in common. Radford et al. 2016, section 6.3.2 and figure 7: three latents each, and beside the result eight
    neighbours, which differ from it by uniform numbers in [-`spread`, `spread`).

    Raises SampleError for sets of different sizes, and for samples that are not finite.
    """
    if not a.shape == b.shape == c.shape or len(a) == 0:
        raise SampleError(
            "a, b and c must hold equally many latents, one at least; "
            f"their shapes are {list(a.shape)}, {list(b.shape)}, {list(c.shape)}"
        )
    concepts = torch.stack([torch.cat([z, z.mean(0, keepdim=True)]) for z in (a, b, c)])
    means = concepts[:, -1]
    result = means[0] - means[1] + means[2]
    near = draw_latents(Draw.uniform(*result.shape, low=-spread, high=spread), neighbours, result, generator)
    pictures = _generated(generate, torch.cat([concepts.flatten(0, 1), result[None], result + near]))
    n = len(a) + 1
    return Arithmetic(pictures[: 3 * n].unflatten(0, (3, n)), pictures[3 * n :])


def _generated(generate: Generate, z: Tensor) -> Tensor:
    with torch.no_grad():
        return check_samples(torch.cat([generate(part) for part in z.split(BLOCK)]), "generate(z)")


def draw_latents(latent: Draw, n: int, like: Tensor, generator: Generator | None) -> Tensor:
    """n latents [n, *latent.shape], with the device and dtype of `like`."""
    shape, device = (n, *latent.shape), generator.device if generator else like.device
    if latent.low is None or latent.high is None:
        return torch.randn(shape, generator=generator, device=device).to(like)
    uniform = torch.rand(shape, generator=generator, device=device)
    return (latent.low + (latent.high - latent.low) * uniform).to(like)


# ---------------------------------------------------------------------------------------------- the metric


@metric(
    Value("walk_distance", "ratio", "neither"),
    Value("walk_step", "ratio", "neither"),
    name="latent",
    needs=("generator", "pixels"),
)
@dataclass(frozen=True)
class Latent:
    """Walks between random latents (Radford et al. 2016, section 6.1): do they stay near the data, and are they smooth?

    `walk_distance` is the mean distance to the nearest training image inside a walk, divided by that at its ends: 1
    where what lies between two samples is as good as they are. `walk_step` is the longest step of a walk divided
    by its mean step: 1 for an even walk, the number of steps for a jump from one image to another; walks that do
    not move at all count as 1. Both are means over the walks ± their standard error. The pictures: walks;
    arithmetic (section 6.3.2), where the data have labels: bright samples of one class - dark ones of it + dark
    ones of another, each from the mean of three latents, and the result with its neighbours, where a sample is of a
    class if its three nearest training images are, all at the same length; what a generator makes on the way from
    coarse to fine, where it has stages.

    Checked against a linear generator, which walks evenly along lines (1e-5), one that jumps, and one that does
    not move.
    """

    n: int = 32  # walks, each from the end of the one before
    steps: int = 10  # images of a walk, with both ends
    candidates: int = 500  # samples among which those for the arithmetic are sought

    def __call__(self, model: Model, data: Data) -> tuple[Score, Score]:
        if model.latent is None:
            raise SampleError("latent needs a generator; these are samples alone")
        generator, like = model.generator("latent"), model.samples(1)
        train = data.floats(data.train).to(like.device)
        walk = latent_walk(
            model.generate, draw_latents(model.latent, self.n + 1, like, generator), self.steps
        )
        details = {
            "walk": walk[:ROWS],
            **self._chain(model, draw_latents(model.latent, ROWS, like, generator)),
        }
        if data.labels is not None:
            z = draw_latents(model.latent, self.candidates, like, generator)
            details |= self._arithmetic(model, data, train, z, data.labels.train.to(like.device), generator)
        distance = nearest(walk.flatten(0, 1), train)[0].view(self.n, self.steps)
        inside, ends = distance[:, 1:-1].mean(1), distance[:, [0, -1]].mean(1)
        steps = (walk[:, 1:] - walk[:, :-1]).flatten(2).norm(dim=2).double()
        return _mean(_ratio(inside, ends), details), _mean(_ratio(steps.amax(1), steps.mean(1)))

    def _chain(self, model: Model, z: Tensor) -> dict[str, Any]:
        """ "chain" [ROWS, stages, *shape], all blown up to the size of the last, and "chain_sides" [stages]."""
        with torch.no_grad():
            stages = model.stages(z)
        if not stages:
            return {}
        size = stages[-1].shape[-2:]
        return {
            "chain": torch.stack([F.interpolate(stage, size=size) for stage in stages], 1),
            "chain_sides": [stage.shape[-1] for stage in stages],  # pixels
        }

    def _arithmetic(
        self, model: Model, data: Data, train: Tensor, z: Tensor, labels: Tensor, generator: Generator
    ) -> dict[str, Any]:
        """Bright a - dark a + dark b, for the two classes of which there are most samples."""
        images = _generated(model.generate, z)
        found = _classes(images, train, labels)
        counts = found[found >= 0].bincount(minlength=2)
        a, b = (int(one) for one in counts.topk(2).indices)
        if int(counts[b]) < 2 * EXAMPLES:
            return {
                "arithmetic_none": f"fewer than {2 * EXAMPLES} of {len(z)} samples resemble a second class"
            }
        light = images.flatten(1).mean(1)
        order = light.argsort(stable=True)
        dark_a, dark_b = (order[found[order] == one][:EXAMPLES] for one in (a, b))
        bright_a = order[found[order] == a][-EXAMPLES:]
        parts = (z[bright_a], z[dark_a], z[dark_b])
        pictures = latent_arithmetic(model.generate, *parts, generator=generator)
        classes = _classes(pictures.results, train, labels)
        brighter = pictures.results.flatten(1).mean(1) > light[dark_b].mean()
        names = [data.classes[one] if data.classes else str(one) for one in (a, b)]
        return {
            "arithmetic_concepts": pictures.concepts,
            "arithmetic_results": pictures.results,
            "arithmetic_terms": [f"bright {names[0]}", f"dark {names[0]}", f"dark {names[1]}"],
            "arithmetic_kept": int((classes == b).sum()),  # results that resemble the class of c
            "arithmetic_brighter": int(brighter.sum()),  # results that are brighter than the samples of c
        }

    def protocol(self, data: Data) -> str:
        """What defines the numbers."""
        return (
            f"{self.n} straight walks of {self.steps} images between random latents; Euclidean distance to the nearest "
            f"of {len(data.train)} training images, mean inside a walk over mean at its ends; longest step over mean "
            "step; means over the walks"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from these data and from the constants of this file."""
        return {"train": len(data.train)}


def _classes(images: Tensor, train: Tensor, labels: Tensor) -> Tensor:
    """The class of which the nearest training images are [n]; -1 where they are of several.

    All at the same length: otherwise thin strokes, which are near to everything, would be nearest to too much.
    """
    images, train = (F.normalize(x.flatten(1), dim=1) for x in (images, train))
    near = labels[nearest(images, train, min(KIN, len(train)))[1]]  # [n, KIN]
    return torch.where((near == near[:, :1]).all(1), near[:, 0], -1)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below, 1 where both are 0."""
    return torch.where((above == 0) & (below == 0), 1.0, above / below)


def _mean(values: Tensor, details: dict[str, Any] | None = None) -> Score:
    n = len(values)
    sem = standard_error(values) if n > 1 else None
    return Score(values.mean().item(), sem, n, details or {})
