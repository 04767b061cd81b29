"""The files of users' plugins that a suite names, and values with these files at another place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from .. import registry
from .spec import Suite


def user_files(suite: Suite) -> dict[Path, dict[str, Path]]:
    """For each file of plugins that ganbench does not ship: all files that it needs, by their names relative to its
    folder. These are itself, the neighbours that it imports, and what its plugins say that they read; a name may lead
    out of the folder with `..`. Raises PluginError."""
    methods = [method for method in suite.methods if method.part]
    parts = [dataset.part for dataset in suite.datasets] + [m.part for m in methods if m.part]
    parts += [trick for method in methods for trick in method.tricks] + list(suite.metrics)
    shipped = registry.shipped("baselines"), registry.PACKAGE
    needed: dict[Path, dict[str, Path]] = {}
    for part in parts:
        parts += (
            part.parts.values()
        )  # the list grows while it is read: plugins name others in their parameters
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
    """A value in which every path, also in the text `file.py:Symbol`, is replaced, by the first pair (old path, new
    path) that fits it."""
    if isinstance(value, str | Path):
        text = str(value)
        for old, new in paths:
            if text == old or text.startswith((f"{old}/", f"{old}:")):
                return type(value)(new + text[len(old) :])
        return value
    if is_dataclass(value) and not isinstance(value, type):
        moved = object.__new__(type(value))  # as it was: a cell keeps the keys with which the run began
        for each in fields(value):
            object.__setattr__(moved, each.name, relocate(getattr(value, each.name), paths))
        return moved
    if isinstance(value, Mapping):
        return {relocate(key, paths): relocate(item, paths) for key, item in value.items()}
    return type(value)(relocate(item, paths) for item in value) if isinstance(value, list | tuple) else value
