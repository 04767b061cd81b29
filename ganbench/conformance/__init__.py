"""Conformance checks of plugins, as `ganbench test` runs them; a module for each kind of plugin.

In: a file or a plugin. Out: checks, each with its problem and how to fix it.
Not its business: whether a plugin's numbers are good.
"""

from ..contracts import Data
from ..registry import Plugin
from .checks import Check as Check
from .datasets import check_dataset as check_dataset
from .divergences import check_divergence as check_divergence
from .features import check_feature as check_feature
from .fixtures import load_data as load_data
from .fixtures import suitable as suitable
from .methods import check_method as check_method
from .metrics import check_metric as check_metric
from .tricks import check_trick as check_trick


def check(plugin: Plugin, data: Data | None = None) -> list[Check]:
    """All checks of a plugin of any kind; `data` is not used for datasets and divergences."""
    if plugin.kind == "dataset":
        return check_dataset(plugin)
    if plugin.kind == "divergence":
        return check_divergence(plugin)
    functions = {
        "method": check_method,
        "trick": check_trick,
        "feature": check_feature,
        "metric": check_metric,
    }
    return functions[plugin.kind](plugin, data)
