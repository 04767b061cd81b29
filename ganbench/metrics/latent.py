"""Walks and arithmetic in latent space: is a generator smooth, and do directions have a meaning?"""

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

Generate = Callable[
    [Tensor], Tensor
]  # latents [n, *latent] -> samples [n, *shape], none depending on another
BLOCK = 256  # latents at a time
PICTURE_ROWS = 8  # walks, and chains from coarse to fine, in the figure
CONCEPT_LATENTS = 3  # a concept is the mean of so many latents, as in Radford et al.
CLASS_NEIGHBOURS = 3  # a sample has a class if so many nearest training images agree on it


class Arithmetic(NamedTuple):
    """The images of latent arithmetic."""

    concepts: Tensor  # [3, k + 1, *shape]: the samples of a, b and c, and last that of their mean
    results: Tensor  # [1 + n, *shape]: of mean a - mean b + mean c, then of its neighbours


def latent_walk(generate: Generate, stops: Tensor, steps: int = 10) -> Tensor:
    """Samples along the straight lines between successive latents: `stops` [n, *latent] -> [n - 1, steps, *shape],
    including both ends. Radford et al. 2016, figure 4, with nine stops.

    Raises SampleError for fewer than two stops or steps, and for samples that are not finite.
    """
    if len(stops) < 2 or steps < 2:
        raise SampleError(f"a walk needs at least 2 stops and 2 steps; got {len(stops)} and {steps}")
    part = torch.linspace(0, 1, steps, dtype=stops.dtype, device=stops.device)
    part = part.view(1, -1, *[1] * (stops.ndim - 1))
    z = stops[:-1, None] * (1 - part) + stops[1:, None] * part  # [n - 1, steps, *latent]
    return _generate(generate, z.flatten(0, 1)).unflatten(0, (-1, steps))


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
    """a - b + c in latent space, where each is the mean of latents [k, *latent] whose samples have something in common.
    Radford et al. 2016, section 6.3.2 and figure 7: three latents each, and eight neighbours of the result, which
    differ from it by uniform numbers in [-`spread`, `spread`).

    Raises SampleError for sets of different sizes, and for samples that are not finite.
    """
    if not a.shape == b.shape == c.shape or len(a) == 0:
        raise SampleError(
            "a, b and c must have the same number of latents, at least one; "
            f"their shapes are {list(a.shape)}, {list(b.shape)}, {list(c.shape)}"
        )
    concepts = torch.stack([torch.cat([z, z.mean(0, keepdim=True)]) for z in (a, b, c)])
    means = concepts[:, -1]
    result = means[0] - means[1] + means[2]
    near = draw_latents(Draw.uniform(*result.shape, low=-spread, high=spread), neighbours, result, generator)
    pictures = _generate(generate, torch.cat([concepts.flatten(0, 1), result[None], result + near]))
    n = len(a) + 1
    return Arithmetic(pictures[: 3 * n].unflatten(0, (3, n)), pictures[3 * n :])


def _generate(generate: Generate, z: Tensor) -> Tensor:
    with torch.no_grad():
        return check_samples(torch.cat([generate(part) for part in z.split(BLOCK)]), "generate(z)")


def draw_latents(latent: Draw, n: int, like: Tensor, generator: Generator | None) -> Tensor:
    """`n` random latents [n, *latent.shape], with the device and dtype of `like`."""
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

    `walk_distance` is the mean distance to the nearest training image inside a walk, divided by that at its ends: 1 if
    the images between two samples are as good as the samples. `walk_step` is the longest step of a walk divided by its
    mean step: 1 for an even walk, the number of steps for a jump from one image to another; walks that do not move
    count as 1. Both are means over the walks ± their standard error. Figures: walks; arithmetic (section 6.3.2), if the
    data have labels: bright samples of one class - dark ones of it + dark ones of another, each from the mean of three
    latents, and the result with its neighbours (a sample has a class if its three nearest training images have it, all
    images scaled to the same norm); the stages of a generator from coarse to fine, if it has stages.

    Checked against a linear generator, which walks evenly along lines (1e-5), one that jumps, and one that does
    not move.
    """

    n: int = 32  # walks, each from the end of the previous one
    steps: int = 10  # images of a walk, including both ends
    candidates: int = 500  # samples from which those for the arithmetic are chosen

    def __call__(self, model: Model, data: Data) -> tuple[Score, Score]:
        if model.latent is None:
            raise SampleError("latent needs a generator, but only samples are available")
        generator, like = model.generator("latent"), model.samples(1)
        train = data.floats(data.train).to(like.device)
        walk = latent_walk(
            model.generate, draw_latents(model.latent, self.n + 1, like, generator), self.steps
        )
        details = {
            "walk": walk[:PICTURE_ROWS],
            **self._chain(model, draw_latents(model.latent, PICTURE_ROWS, like, generator)),
        }
        if data.labels is not None:
            z = draw_latents(model.latent, self.candidates, like, generator)
            details |= self._arithmetic(model, data, train, z, data.labels.train.to(like.device), generator)
        distance = nearest(walk.flatten(0, 1), train)[0].view(self.n, self.steps)
        inside, ends = distance[:, 1:-1].mean(1), distance[:, [0, -1]].mean(1)
        steps = (walk[:, 1:] - walk[:, :-1]).flatten(2).norm(dim=2).double()
        return _mean(_ratio(inside, ends), details), _mean(_ratio(steps.amax(1), steps.mean(1)))

    def _chain(self, model: Model, z: Tensor) -> dict[str, Any]:
        """ "chain" [PICTURE_ROWS, stages, *shape], all enlarged to the size of the last, and "chain_sides" [stages]."""
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
        """Bright a - dark a + dark b, for the two classes with the most samples."""
        images = _generate(model.generate, z)
        predicted = _classes(images, train, labels)
        counts = predicted[predicted >= 0].bincount(minlength=2)
        a, b = (int(one) for one in counts.topk(2).indices)
        if int(counts[b]) < 2 * CONCEPT_LATENTS:
            return {
                "arithmetic_none": f"fewer than {2 * CONCEPT_LATENTS} of {len(z)} samples resemble a second class"
            }
        light = images.flatten(1).mean(1)
        order = light.argsort(stable=True)
        dark_a, dark_b = (order[predicted[order] == one][:CONCEPT_LATENTS] for one in (a, b))
        bright_a = order[predicted[order] == a][-CONCEPT_LATENTS:]
        parts = (z[bright_a], z[dark_a], z[dark_b])
        pictures = latent_arithmetic(model.generate, *parts, generator=generator)
        classes = _classes(pictures.results, train, labels)
        brighter = pictures.results.flatten(1).mean(1) > light[dark_b].mean()
        names = [data.classes[one] if data.classes else str(one) for one in (a, b)]
        return {
            "arithmetic_concepts": pictures.concepts,
            "arithmetic_results": pictures.results,
            "arithmetic_terms": [f"bright {names[0]}", f"dark {names[0]}", f"dark {names[1]}"],
            "arithmetic_kept": int((classes == b).sum()),  # results of the class of c
            "arithmetic_brighter": int(brighter.sum()),  # results brighter than the samples of c
        }

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"{self.n} straight walks of {self.steps} images between random latents; Euclidean distance to the nearest "
            f"of {len(data.train)} training images, mean inside a walk over mean at its ends; longest step over mean "
            "step; means over the walks"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        return {"train": len(data.train)}


def _classes(images: Tensor, train: Tensor, labels: Tensor) -> Tensor:
    """The common class of the nearest training images [n]; -1 if they have several classes.

    All images are scaled to the same norm: otherwise images with thin strokes, which have small norms, would be the
    nearest to too many.
    """
    images, train = (F.normalize(x.flatten(1), dim=1) for x in (images, train))
    near = labels[nearest(images, train, min(CLASS_NEIGHBOURS, len(train)))[1]]  # [n, CLASS_NEIGHBOURS]
    return torch.where((near == near[:, :1]).all(1), near[:, 0], -1)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below; 1 if both are 0."""
    return torch.where((above == 0) & (below == 0), 1.0, above / below)


def _mean(values: Tensor, details: dict[str, Any] | None = None) -> Score:
    n = len(values)
    sem = standard_error(values) if n > 1 else None
    return Score(values.mean().item(), sem, n, details or {})
