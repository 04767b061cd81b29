"""The files of users' plugins that a suite names, and suites with the paths of these files replaced."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from .. import registry
from .spec import Suite


def user_files(suite: Suite) -> dict[Path, dict[str, Path]]:
    """For each plugin file that ganbench does not ship: all files that it needs, by their paths relative to its folder.
    These are the file itself, the modules next to it that it imports, and the files that its plugins list under
    `reads`; a path may leave the folder with `..`. Raises PluginError for a file that cannot be read."""
    methods = [method for method in suite.methods if method.part]
    parts = [dataset.part for dataset in suite.datasets] + [m.part for m in methods if m.part]
    parts += [trick for method in methods for trick in method.tricks] + list(suite.metrics)
    shipped = registry.shipped("baselines"), registry.PACKAGE
    needed: dict[Path, dict[str, Path]] = {}
    for part in parts:
        parts += (
            part.parts.values()
        )  # plugins in parameters, appended to the list that this loop goes through
        path = part.plugin.path
        if any(path.is_relative_to(folder) for folder in shipped):
            continue
        files = [path.parent / name for name in part.plugin.reads]
        files += [file for folder in files if folder.is_dir() for file in sorted(folder.rglob("*"))]
        files += registry.neighbours(path)
        own = needed.setdefault(path, {})
        own |= {os.path.relpath(file, path.parent): file for file in files if file.is_file()}
    return needed


def relocate(value: Any, paths: list[tuple[str, str]]) -> Any:
    """A value with every path replaced, also in a string `file.py:Symbol`, by the first pair (old path, new path) that
    matches it."""
    if isinstance(value, str | Path):
        text = str(value)
        for old, new in paths:
            if text == old or text.startswith((f"{old}/", f"{old}:")):
                return type(value)(new + text[len(old) :])
        return value
    if is_dataclass(value) and not isinstance(value, type):
        moved = object.__new__(
            type(value)
        )  # without __post_init__: a cell keeps the keys of the start of the run
        for each in fields(value):
            object.__setattr__(moved, each.name, relocate(getattr(value, each.name), paths))
        return moved
    if isinstance(value, Mapping):
        return {relocate(key, paths): relocate(item, paths) for key, item in value.items()}
    return type(value)(relocate(item, paths) for item in value) if isinstance(value, list | tuple) else value
