"""Do directions in latent space have a meaning? Counted over many sums of latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..contracts import Data, Draw, Model, Score, Value, metric
from ..errors import SampleError
from .latent import CLASS_NEIGHBOURS, CONCEPT_LATENTS, _classes, _generate, draw_latents
from .statistics import standard_error

MOST_CLASSES = 10  # those with the most samples, so that a sum is made for at most 90 pairs
FLOOR_SUMS = 90  # at least so many directions without a meaning, also where there are few pairs
NEIGHBOURS = 8  # of the result of a sum, as in the paper
SPREAD = 0.25  # they differ from it by uniform numbers in [-SPREAD, SPREAD)


@metric(Value("arithmetic", "%", "higher"), name="arithmetic", needs=("generator", "labels", "pixels"))
@dataclass(frozen=True)
class LatentArithmetic:
    """How often does arithmetic with latents give what its terms say (Radford et al. 2016, section 6.3.2)?

    For every pair of classes a and b: bright samples of a - dark samples of a + dark samples of b, each term the mean
    of three latents, the result and eight neighbours that differ from it by uniform numbers in [-0.25, 0.25). A result
    counts if it has the class of b and is brighter than the samples of b are on average. The paper judges by eye. Here
    brightness (the mean pixel) is the attribute, and an image has a class if its three nearest training images have
    it, all images scaled to the same norm. Terms are the three brightest and the three darkest samples of a class
    among `candidates`; at most the ten classes with the most samples take part, and those with fewer than six do not.

    Controls: "floor", from dark b a step as long as that of the sum, in the direction from one random latent to
    another, which has no meaning; "pixels", the same sums of the images themselves in the place of their latents.
    ± is over the pairs. Where fewer than two classes have samples enough, no sum can be made and all are 0. Details:
    "kept" and "brighter", the percentages that pass each test; "pairs".

    Checked against a generator that is linear in class and brightness (all results count), and one whose latents are
    classes in a random order (no better than the floor).
    """

    candidates: int = 500  # samples among which those of a sum are chosen

    def __call__(self, model: Model, data: Data) -> Score:
        if model.latent is None or data.labels is None or data.scale is None:
            raise SampleError("arithmetic needs a generator of images, and data with labels")
        # Candidates, with their classes and brightness.
        generator, like = model.generator("arithmetic"), model.samples(1)
        train, labels = data.floats(data.train).to(like.device), data.labels.train.to(like.device)
        z = draw_latents(model.latent, self.candidates, like, generator)
        images = _generate(model.generate, z)
        classes, light = _classes(images, train, labels).cpu(), _light(images).cpu()
        terms = _terms(classes, light)
        pairs = list(permutations(terms, 2))
        if not pairs:
            return Score(0.0, None, 0, {"pairs": 0}, {"floor": 0.0, "pixels": 0.0})
        # Which samples each sum has as bright a, dark a and dark b: [pairs, 3, CONCEPT_LATENTS].
        chosen = torch.stack([torch.stack([terms[a][1], terms[a][0], terms[b][0]]) for a, b in pairs])
        wanted = torch.tensor([b for _, b in pairs])
        mean_light = torch.stack([light[classes == b].mean() for _, b in pairs])
        near = Draw.uniform(*model.latent.shape, low=-SPREAD, high=SPREAD)

        def tests(results: Tensor) -> Tensor:
            """Which results [sums, r, *shape] have the class of b, and are bright: [2, sums, r]."""
            times, flat, shape = len(results) // len(pairs), results.flatten(0, 1), results.shape[:2]
            kept = _classes(flat, train, labels).cpu().view(shape) == wanted.repeat(times)[:, None]
            bright = _light(flat).cpu().view(shape) > mean_light.repeat(times)[:, None]
            return torch.stack([kept, bright])

        def sums(results: Tensor) -> Tensor:
            """The same for latents [sums, *latent], with their neighbours."""
            apart = draw_latents(near, len(results) * NEIGHBOURS, z, generator)
            around = results[:, None] + apart.unflatten(0, (len(results), -1))
            latents = torch.cat([results[:, None], around], 1)
            return tests(_generate(model.generate, latents.flatten(0, 1)).unflatten(0, latents.shape[:2]))

        # The sums; the same with steps as long in directions of random latents; and with images.
        means = z[chosen.to(z.device)].mean(2)  # [pairs, 3, *latent]
        steps = means[:, 0] - means[:, 1]
        own = sums(steps + means[:, 2])
        times = -(-FLOOR_SUMS // len(pairs))
        one, other = draw_latents(model.latent, 2 * times * len(pairs), z, generator).chunk(2)
        lengths = steps.flatten(1).norm(dim=1).repeat(times)[:, None]
        random = (F.normalize((one - other).flatten(1), dim=1) * lengths).view_as(one)
        floor = sums(random + torch.cat([means[:, 2]] * times))
        pixels = images[chosen.to(images.device)].mean(2)
        blends = tests((pixels[:, 0] - pixels[:, 1] + pixels[:, 2]).clamp(*data.scale)[:, None])
        shares = 100 * own.all(0).double().mean(1)  # % of the results of each pair
        details = {"kept": _percent(own[0]), "brighter": _percent(own[1]), "pairs": len(pairs)}
        controls = {"floor": _percent(floor.all(0)), "pixels": _percent(blends.all(0))}
        return Score(shares.mean().item(), standard_error(shares), len(pairs), details, controls)

    def protocol(self, data: Data) -> str:
        """How the values are measured, in a sentence."""
        return (
            f"bright a - dark a + dark b for all pairs of up to {MOST_CLASSES} classes, each the mean of "
            f"{CONCEPT_LATENTS} latents among {self.candidates}, with {NEIGHBOURS} neighbours within {SPREAD:g}; % of "
            f"results of the class of b (its {CLASS_NEIGHBOURS} nearest of {len(data.train)} training images, all of "
            "the same norm) that are brighter than samples of b on average"
        )

    def protocol_fields(self, data: Data) -> Mapping[str, Any]:
        """What the protocol takes from the data and from constants; hashed with name, version and parameters."""
        constants = (MOST_CLASSES, FLOOR_SUMS, CONCEPT_LATENTS, NEIGHBOURS, SPREAD, CLASS_NEIGHBOURS)
        return {"train": len(data.train), "constants": list(constants)}


def _terms(classes: Tensor, light: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
    """For each class that takes part, the samples that are its darkest and its brightest. `classes` [n], -1 for none;
    `light` [n]."""
    order = light.argsort(stable=True)
    counts = classes[classes >= 0].bincount(minlength=1)
    found = {}
    for one in counts.argsort(descending=True, stable=True)[:MOST_CLASSES].tolist():
        if counts[one] >= 2 * CONCEPT_LATENTS:
            members = order[classes[order] == one]
            found[one] = members[:CONCEPT_LATENTS], members[-CONCEPT_LATENTS:]
    return found


def _light(images: Tensor) -> Tensor:
    """The mean pixel of each image [n, *shape] -> [n]."""
    return images.flatten(1).mean(1)


def _percent(chosen: Tensor) -> float:
    return 100 * chosen.double().mean().item()
