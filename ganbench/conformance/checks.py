"""The `Check` type, running the checks of a plugin, and explaining their exceptions."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from .. import registry
from ..contracts import Kind
from ..errors import GanbenchError
from ..registry import Plugin
from ..suite.plan import Cell
from ..suite.spec import DatasetSpec, MethodSpec, PluginSpec, TrainSettings

SETTINGS = TrainSettings(steps=3, batch=8, dtype="float64", snapshots=1)
RTOL = 1e-8  # between numbers in float64 that should be equal


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    problem: str | None = None
    advice: bool = False  # whether the problem is only a recommendation

    @property
    def ok(self) -> bool:
        """Whether the check passed; it does with advice."""
        return self.problem is None or self.advice


Checks = Iterator[Check]
Target = Plugin | str | Path | type | Callable[..., Any]


def as_plugin(kind: Kind, target: Target) -> Plugin:
    """A plugin, its name or file, or the decorated class itself, as a `Plugin`. Raises PluginError if there is none."""
    if isinstance(target, Plugin):
        return target
    if isinstance(target, str | Path):
        return registry.find(kind, str(target))
    return registry.find(kind, f"{inspect.getsourcefile(target)}:{target.__name__}")


def documentation(plugin: Plugin) -> Checks:
    """The checks of a plugin's documentation: its source, and its parameters."""
    cited = bool(re.search(r"\b(19|20)\d\d\b", plugin.summary))
    advice = (
        "start its docstring with one line on its source and what it is, such as `Goodfellow et al. 2014, "
        "Algorithm 1: a generator against a discriminator`; `ganbench list` prints that line"
    )
    if plugin.kind in ("method", "trick"):
        yield Check("the docstring begins with its source and year", None if cited else advice, advice=True)
    bare = [param.name for param in plugin.params if not param.doc]
    yield Check(
        "every parameter is explained",
        f"write a comment after {' and '.join(bare)}, on the same line: `lr: float = 1e-3  # learning rate`"
        if bare
        else None,
    )


class CheckFailed(Exception):
    """A check failed, and the remaining ones depend on it. Arguments: those of `Check`."""


def run_checks(part: PluginSpec, checks: Callable[[], Checks]) -> list[Check]:
    """The checks of the documentation, then `checks`, up to the first that raises."""
    results = list(documentation(part.plugin))
    # A plugin is run with its defaults: nobody here can guess the value of a required parameter.
    required = [
        param.name for param in part.plugin.params if param.required and param.name not in part.params
    ]
    if required:
        text = f"it has not been run; give {' and '.join(required)} a default, so that it can be"
        return [*results, Check("it can be made without parameters", text, advice=True)]
    # A checker must not fail itself: whatever the plugin raises is its result.
    try:
        results.append(_dataclass_check(registry.load(part.plugin), part.plugin))
        results.extend(checks())
    except CheckFailed as error:
        results.append(Check(*error.args))
    except GanbenchError as error:
        results.append(Check("it runs", str(error)))
    except Exception as error:
        results.append(Check("it runs", explain(error)))
    return results


def _dataclass_check(loaded: Any, plugin: Plugin) -> Check:
    """Whether parameters are dataclass fields, since a suite can set nothing else."""
    fields = isinstance(loaded, type) and not is_dataclass(loaded)
    wrong = fields and (plugin.params or "__init__" in vars(loaded))
    text = (
        f"write @dataclass(frozen=True) below @{plugin.kind}, and parameters as fields, `lr: float = 1e-3  # learning "
        "rate`, instead of an __init__: a suite sets the fields of a dataclass"
    )
    return Check("its parameters are fields of a dataclass", text if wrong else None)


def merge(first: list[Check], second: list[Check], where: str) -> list[Check]:
    """The merged checks of one plugin on two kinds of data; a problem that only the second has is prefixed by
    `where`."""
    # The same problem on both kinds of data is shown once, without saying where.
    met = {check.name for check in first if check.problem}
    results = {check.name: check for check in first}
    for check in second:
        if check.problem and check.name not in met:
            results[check.name] = replace(check, problem=f"{where}: {check.problem}")
        else:
            results.setdefault(check.name, check)
    return list(results.values())


# Part of a message of PyTorch -> what to write instead. The messages speak of transforms, of which the author of a loss
# need not know.
HINTS = {
    "functorch transform": "inside a loss, torch.autograd.grad, .backward() and requires_grad_() do not work: for the "
    "norm of a gradient take ganbench.gradient_norm(net, x), for others torch.func.grad",
    "does not require grad": "inside a loss, torch.autograd.grad does not work: for the norm of a gradient take "
    "ganbench.gradient_norm(net, x), for others torch.func.grad",
    "called random operation": "do not draw random numbers inside a loss: declare them as draws of the game, "
    "`draws={'noise': (2,)}`, and read b.noise (for nn.Dropout, multiply by a mask made from a draw)",
    ".item()": "inside a loss there are no numbers, only tensors: no .item(), float(x), or `if` on a value "
    "(use torch.where)",
    "data-dependent control flow": "inside a loss, `if` cannot depend on a tensor's value: use torch.where",
    "in-place": "inside a loss, do not write into tensors (x += 1, x[0] = 1): create new ones; instead of nn.BatchNorm "
    "use ganbench.BatchNorm, which has no running statistics",
    "same dtype": "create constants in the dtype of the tensors they are combined with, as b.x.new_ones(3) or "
    "torch.ones_like(x): games are played in float32 and in float64, and numpy's numbers are float64",
}


def explain(error: Exception) -> str:
    """An exception with the line of the plugin that raised it, and hints on frequent mistakes."""
    text = f"{type(error).__name__}: {error}".strip()
    hints = [hint for sign, hint in HINTS.items() if sign in text]
    # The last line of the user's own code, not where torch or ganbench noticed the mistake.
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not Path(frame.filename).is_relative_to(registry.PACKAGE) and "torch" not in frame.filename
    ]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return "\n".join([text.split("\n")[0] + where, *hints])


def trial_cell(part: PluginSpec, *tricks: PluginSpec) -> Cell:
    """A cell for `train`; its dataset is a placeholder, since the data are passed separately."""
    entry = MethodSpec(part.name, part, tricks, (), {}, None)
    nowhere = DatasetSpec(part, "data", {})
    return Cell("conformance", nowhere, entry, (0, 1, 2), SETTINGS, ())
