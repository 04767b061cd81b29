"""The catalogue of shipped plugins; finding plugins by name or file; loading them, which runs their file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ..contracts import Kind
from ..errors import PluginError, did_you_mean
from .scan import KINDS, Plugin, scan

PACKAGE = Path(__file__).parent.parent


def shipped(folder: str) -> Path:
    """A folder that ganbench ships (`baselines`, `suites`, `results/reference`): from the installed
    package, else from the checkout."""
    # In a wheel these folders lie inside the package, in a checkout next to it.
    for root in (PACKAGE / "_shipped", PACKAGE.parent):
        if (root / folder).is_dir():
            return root / folder
    raise PluginError(f"the folder {folder!r} is missing from this installation of ganbench; reinstall it")


@cache
def catalog() -> dict[Kind, dict[str, Plugin]]:
    """Everything shipped, by kind and name, sorted by name."""
    files = [
        *sorted(shipped("baselines").rglob("*.py")),
        *sorted((PACKAGE / "metrics").glob("*.py")),
        *sorted((PACKAGE / "datasets").glob("*.py")),
    ]
    plugins: dict[Kind, dict[str, Plugin]] = {kind: {} for kind in KINDS}
    for plugin in sorted((p for f in files if f.is_file() for p in scan(f)), key=lambda p: p.name):
        twin = plugins[plugin.kind].get(plugin.name)
        if twin:
            raise PluginError(f"{plugin.path} and {twin.path} both define the {plugin.kind} {plugin.name!r}")
        plugins[plugin.kind][plugin.name] = plugin
    return plugins


def find(kind: Kind, name: str, folder: Path | None = None) -> Plugin:
    """A plugin by its name (`gan`), or by file relative to `folder` (`./my_gan.py`, `./my_gan.py:Second`). Raises
    PluginError, with the nearest name, if there is none."""
    # The ending tells files from names, so a file in the working directory never hides a shipped plugin.
    file, _, symbol = name.partition(":")
    if not file.endswith(".py"):
        known = catalog()[kind]
        if name not in known:
            raise PluginError(f"there is no {kind} {name!r}{did_you_mean(name, known)}")
        return known[name]
    path = ((folder or Path.cwd()) / Path(file).expanduser()).resolve()
    marked = [plugin for plugin in scan(path) if plugin.kind == kind]
    chosen = [plugin for plugin in marked if symbol in ("", plugin.symbol, plugin.name)]
    if not marked:
        raise PluginError(f"{path}: nothing in this file is marked @{kind}")
    if not chosen:
        raise PluginError(f"{path}: no {kind} {symbol!r}{did_you_mean(symbol, [p.symbol for p in marked])}")
    if len(chosen) > 1:
        choices = " or ".join(f"{file}:{plugin.symbol}" for plugin in chosen)
        raise PluginError(f"{path}: has {len(chosen)} {kind}s; say which: {choices}")
    return chosen[0]


def named(reference: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and parameters from the value of a parameter that names another plugin: `kl`, `{alpha: {alpha: 0.5}}`.
    Raises PluginError for a mapping with more than one name."""
    if isinstance(reference, str):
        return reference, {}
    if len(reference) != 1:
        raise PluginError(f"expected one name with its parameters, got {len(reference)}: {dict(reference)}")
    ((name, params),) = reference.items()
    return name, dict(params or {})


def load(plugin: Plugin) -> Any:
    """The marked class or function itself. Runs its file; raises PluginError if that fails."""
    try:
        return getattr(_module(plugin.path), plugin.symbol)
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        # The line of the plugin, since the traceback of the import is not shown.
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(plugin.path)
        ]
        where = f"{plugin.path}:{lines[-1]}" if lines else str(plugin.path)
        raise PluginError(f"{where}: {type(error).__name__} while loading: {error}") from error


def build(plugin: Plugin, params: Mapping[str, Any]) -> Any:
    """An instance of the marked class with these parameters. Raises PluginError if its file fails, or if its class
    rejects the parameters with a TypeError or ValueError."""
    marked = load(plugin)
    try:
        return marked(**params)
    except (TypeError, ValueError) as error:
        raise PluginError(f"{plugin.path}: {plugin.name}: {error}") from error


def find_divergence(reference: Any) -> Any:
    """The divergence that a parameter of a method names: shipped (`kl`), in a file (`./my.py`), with parameters
    (`{"alpha": {"alpha": 0.5}}`), or a divergence itself, which is returned unchanged.

    Annotate the parameter `str | Divergence`. Then a suite resolves file names relative to its own folder, reports
    mistakes before anything runs, and trains again when the file changes. Raises PluginError if there is no such
    divergence.
    """
    return _build_named("divergence", reference)


def find_feature(reference: Any) -> Any:
    """The feature function that a parameter of a trick names, as `find_divergence` does for divergences; annotate it
    `str | Feature`. Raises PluginError if there is no such feature."""
    return _build_named("feature", reference)


def _build_named(kind: Kind, reference: Any) -> Any:
    if not isinstance(reference, str | Mapping):
        return reference
    name, params = named(reference)
    return build(find(kind, name), params)


def _module(path: Path) -> ModuleType:
    if path.is_relative_to(PACKAGE) and not path.is_relative_to(PACKAGE / "_shipped"):
        return importlib.import_module(
            "ganbench." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        )
    # The path is in the name, since two folders may each have a `my_gan.py`.
    name = f"ganbench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, since dataclasses look up their module there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # a user's file may import its neighbours
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
