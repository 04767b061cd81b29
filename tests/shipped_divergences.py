"""The shipped divergences as classes: their files are plugins, which tests cannot import by name."""

from __future__ import annotations

import sys

from ganbench import registry

NAMES = {
    "KL": "kl",
    "ReverseKL": "reverse-kl",
    "Pearson": "pearson",
    "Neyman": "neyman",
    "SquaredHellinger": "squared-hellinger",
    "Jeffrey": "jeffrey",
    "JensenShannon": "jensen-shannon",
    "GAN": "gan",
    "WeightedJensenShannon": "js-weighted",
    "Alpha": "alpha",
}
(
    KL,
    ReverseKL,
    Pearson,
    Neyman,
    SquaredHellinger,
    Jeffrey,
    JensenShannon,
    GAN,
    WeightedJensenShannon,
    Alpha,
) = (registry.load(registry.find("divergence", name)) for name in NAMES.values())
log_omega = sys.modules[Jeffrey.__module__].log_omega
