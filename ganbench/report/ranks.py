"""Which method comes nearest to each single image: ranks of the reconstruction errors (Metz et al. 2017, table 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..analysis import stats
from ..store.results import Cell

COLUMNS = (
    "label", "images", "n", "rank", "rank_low", "rank_high", "best_pct", "best_low", "best_high",
    "best_of_means_pct",
)  # fmt: skip


def per_image(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks [M, ..., I] of M methods on each of I images, 1 for the least of `errors` [M, ..., I], and the share
    of each image [M, ..., I] that a method wins. Ties share: the mean of their ranks, equal parts of the image."""
    from scipy.stats import rankdata

    won = errors == errors.min(axis=0)
    return rankdata(errors, axis=0), won / won.sum(axis=0)


def ranks(cells: Sequence[Cell]) -> pd.DataFrame:
    """Ranks of the methods of one dataset over the images that all of them were to reconstruct; a row each.

    Columns: label, `images`, `n` (seeds that ended well for all methods); `rank`, the mean over images and seeds,
    and `best_pct`, the percentage of images of which a method has the least error, each with the 95 % t interval over
    seeds (NaN for a single one), cut to the values that are possible; a seed of one method against the same seed of
    the others;
    `best_of_means_pct`, the percentage where errors are averaged over seeds first, so that each image is won once
    (the shares in Metz et al. are whole numbers of their 1280 images, of 5 seeds).

    A method of which a seed's reconstruction is not valid has no rank. Empty where fewer than two methods have errors,
    or where they have no seed or not all images in common.
    """
    found = {cell.label: own for cell in cells if not _invalid(cell) and (own := _errors(cell))}
    seeds = sorted(set.intersection(*map(set, found.values()))) if len(found) > 1 else []
    alike = {(targets.tobytes(), len(errors)) for own in found.values() for targets, errors in own.values()}
    if not seeds or len(alike) > 1:
        return pd.DataFrame(columns=pd.Index(COLUMNS))
    errors = np.stack([[own[seed][1] for seed in seeds] for own in found.values()])  # [M, S, I]
    places, won = per_image(errors)
    mean, best = places.mean(axis=2), 100 * won.mean(axis=2)
    pooled = 100 * per_image(errors.mean(axis=1))[1].mean(axis=1)
    columns = [list(found), errors.shape[2], len(seeds)]
    for values, least, most in ((mean, 1, len(found)), (best, 0, 100)):
        columns += [values.mean(axis=1), *(np.clip(end, least, most) for end in stats.mean_interval(values))]
    return pd.DataFrame(dict(zip(COLUMNS, [*columns, pooled], strict=True)))


def _invalid(cell: Cell) -> bool:
    """Whether the control of a seed's reconstruction failed."""
    scores = [score for seed in cell.ok for score in seed.scores if "all_errors" in score.details]
    return any("invalid" in score.details for score in scores)


def _errors(cell: Cell) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Of each seed some of the targets, to tell whether they are the same, and the errors of all [I]; those below
    1e-12, where the search stops, as equal."""
    scores = {seed.number: seed.details("all_errors") for seed in cell.ok}
    return {
        number: (found["targets"], np.maximum(found["all_errors"], 1e-12))
        for number, found in scores.items()
        if found
    }
