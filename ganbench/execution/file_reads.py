"""Files that the code of plugins reads although no key watches them.

In: the files that a worker process opens and the modules that it imports while plugins train and score.
Out: a sentence for each such file, since finished results stay as they are when it is edited. Only what Python itself
opens is seen, and only beside the plugins; downloaded weights and files that compiled code reads are not.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import registry
from ..suite.plan import Cell
from ..suite.spec import PluginSpec

_MARKS = ("x", "w", "a", "+")  # in the mode of a file that is not only read
_WRITING = os.O_WRONLY | os.O_RDWR


class Reads:
    """What this process opens while `recording`, and imports; one for the whole process, since an audit hook stays."""

    def __init__(self) -> None:
        self._opened: set[str] = set()
        self._before = set(sys.modules)
        self._recording = False
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not self._recording:
            return
        path, mode, flags = arguments
        if not isinstance(path, str | os.PathLike) or any(mark in (mode or "") for mark in _MARKS):
            return
        if not flags & _WRITING and isinstance(name := os.fspath(path), str):
            self._opened.add(os.path.abspath(name))  # at once: the code may change the working directory

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Around code of plugins that trains or scores; datasets, whose content is hashed, may read what they like."""
        self._recording = True
        try:
            yield
        finally:
            self._recording = False

    def warnings(self, cell: Cell, root: Path) -> list[str]:
        """A sentence for each file beside the cell's own plugins that was read and that no key watches, and for each
        module from elsewhere that is not installed; `root` is the run directory. Raises PluginError."""
        parts = _own_parts(cell)
        if not parts:
            return []
        modules = [sys.modules.get(name) for name in set(sys.modules) - self._before]
        imported = {file for module in modules if isinstance(file := getattr(module, "__file__", None), str)}
        # Installed packages are not edited, and their versions are recorded with the run.
        imported = {file for file in imported if os.path.isabs(file) and not _installed(Path(file))}
        folders = {part.plugin.path.resolve().parent for part in parts}
        data = os.environ.get("GANBENCH_DATA")
        left_out = [Path(folder).resolve() for folder in (root, data) if folder]
        # Unless the plugins themselves lie in one of them.
        left_out = [folder for folder in left_out if not any(own.is_relative_to(folder) for own in folders)]
        opened = {file for file in self._opened if _is_beside(Path(file), folders)}
        # The files on which the keys of results depend: an edit of one of them trains or scores again.
        keyed = [f for part in parts for f in (*registry.neighbours(part.plugin.path), *part.files.values())]
        watched = {file.resolve() for file in keyed}
        found = []
        for file in sorted({Path(file).resolve() for file in imported | opened}):
            if file.is_file() and not any(file.is_relative_to(known) for known in (*watched, *left_out)):
                name = os.path.relpath(file, min(folders))
                found.append(
                    f"{file} is read by a plugin, but no key watches it: after an edit, finished results stay as they "
                    f"are. Name it in the mark of that plugin, such as @method(reads=({name!r},))"
                )
        return found


def _own_parts(cell: Cell) -> list[PluginSpec]:
    """The cell's plugins that ganbench does not ship, those that others name in their parameters too."""
    parts = [*([cell.method.part] if cell.method.part else []), *cell.method.tricks, *cell.metrics]
    for part in parts:
        parts += part.parts.values()  # the list grows while it is read
    shipped = registry.shipped("baselines"), registry.PACKAGE
    return [part for part in parts if not any(part.plugin.path.is_relative_to(folder) for folder in shipped)]


def _is_beside(file: Path, folders: Iterable[Path]) -> bool:
    """Whether it lies in one of these folders, and is no hidden or compiled file."""
    own = [file.relative_to(folder).parts for folder in folders if file.is_relative_to(folder)]
    return any(not any(part.startswith(".") or part == "__pycache__" for part in parts) for parts in own)


def _installed(file: Path) -> bool:
    """Whether a module belongs to ganbench and its baselines, Python, or a package that was installed."""
    # In a checkout the baselines lie outside the package.
    own = {str(registry.PACKAGE), str(registry.shipped("baselines"))}
    places = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *own}
    inside = any(file.is_relative_to(place) for place in places)
    return inside or bool({"site-packages", "dist-packages"} & set(file.parts))
