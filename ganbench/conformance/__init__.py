"""Whether a plugin keeps its contract: the checks of `ganbench test`, one kind of plugin after the other.

In: a file or a plugin. Out: checks with what is wrong and how to mend it.
Not its business: whether its numbers are good.
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
    """All checks of a plugin, whatever its kind; `data` for those that need some."""
    if plugin.kind == "dataset":
        return check_dataset(plugin)
    if plugin.kind == "divergence":
        return check_divergence(plugin)
    looks = {
        "method": check_method,
        "trick": check_trick,
        "feature": check_feature,
        "metric": check_metric,
    }
    return looks[plugin.kind](plugin, data)
