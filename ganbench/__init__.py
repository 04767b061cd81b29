"""ganbench: is this GAN better than that one, or did the seed decide?

The names below are all that authors of methods, tricks, metrics and datasets need. They are imported on first use, so
that `import ganbench` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "contracts": """Batch Budget Data Divergence Draw Feature Game Labels Memory Modes Nets Player Record Score
                    Simulator Value dataset divergence feature method metric trick""",
    "errors": "DatasetError GanbenchError PluginError RequestError SampleError SuiteError",
    "nets": """BatchNorm Dropout Maxout Rescale Sequential Squash adversaries bce_fake bce_real
               conv_discriminator conv_generator gradient_norm mlp orthogonal""",
    "optim": "SGD Adam RMSprop",
    "registry": "find_divergence find_feature",
    "search_range": "tunable",
    "api": "load_data load_model load_records run_suite",
    "simulator_search": "BoostedDivergence Search",
    "metrics.ais": "ais_log_likelihood",
    "metrics.kde": "kde_log_likelihood kde_log_likelihood_folds kde_log_likelihood_scales",
    "metrics.prdc": "prdc",
    "metrics.transport": "sliced_wasserstein",
    "metrics.features": "frechet_distance kernel_distance",
    "metrics.two_sample": "c2st",
    "metrics.copying": "authenticity data_copying near_duplicates",
    "metrics.probe": "discriminator_features linear_probe",
    "metrics.sampled_classifier": "nearest_neighbour_error",
    "metrics.variational": "variational_divergence",
    "metrics.density": "data_log_density",
    "metrics.diversity": "birthday_collisions pairwise_diversity",
    "metrics.modes": "mode_coverage mode_kl",
    "metrics.classifier": "classifier",
    "metrics.classifier_score": "classifier_score",
    "metrics.class_coverage": "class_coverage",
    "metrics.extractors": "extractor",
    "metrics.memorisation": "memorisation",
    "metrics.reconstruction": "reconstruction_error",
    "metrics.subset": "random_subset",
    "metrics.latent": "latent_arithmetic latent_walk",
    "analysis.check": "check",
    "analysis.compare": "compare",
    "analysis.standings": "load_standings",
}
_WHERE = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'ganbench' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
