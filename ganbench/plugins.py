"""Find and load methods, tricks, divergences, metrics and datasets, shipped or a user's, by the same code.

`scan` reads a file without running it, so that listing and validating start no torch and run nobody's
code; `load` runs it. A `Plugin` is a reference (file, symbol) and can be sent to another process.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from .contracts import Kind, Value, snake
from .errors import PluginError, did_you_mean

PACKAGE = Path(__file__).parent
KINDS: tuple[Kind, ...] = ("method", "trick", "divergence", "metric", "dataset")
UNKNOWN = object()  # a default that only running the file could tell


def shipped(folder: str) -> Path:
    """A folder that ganbench ships (`baselines`, `suites`, `results/reference`): from the installed
    package, else from the checkout."""
    for root in (PACKAGE / "_shipped", PACKAGE.parent):
        if (root / folder).is_dir():
            return root / folder
    raise PluginError(f"the folder {folder!r} is missing from this installation of ganbench; reinstall it")


@dataclass(frozen=True)
class Param:
    """One parameter of a plugin, as its source states it."""

    name: str
    annotation: str
    default: Any  # UNKNOWN where it is not a literal
    required: bool
    doc: str  # the comment behind it


@dataclass(frozen=True)
class Plugin:
    """A marked class or function in a file."""

    kind: Kind
    name: str
    path: Path
    symbol: str
    doc: str
    params: tuple[Param, ...]
    rung: str | None = None  # "game" or "fit", for methods
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    values: tuple[Value, ...] = ()
    version: int = 1

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return self.doc.strip().split("\n")[0]

    def param(self, name: str) -> Param | None:
        """The parameter of this name."""
        return next((p for p in self.params if p.name == name), None)


# ---------------------------------------------------------------------------------------------- reading


def scan(path: Path) -> list[Plugin]:
    """The plugins of a file, read from its syntax tree. Raises PluginError."""
    tree, lines = _parse(path)
    found = [_plugin(node, path, lines) for node in tree.body]
    return [plugin for plugin in found if plugin]


def _parse(path: Path) -> tuple[ast.Module, list[str]]:
    try:
        source = path.read_text(encoding="utf-8")
        return ast.parse(source, filename=str(path)), source.splitlines()
    except FileNotFoundError:
        raise PluginError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PluginError(f"{path}: cannot be read ({error})") from None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise PluginError(f"{path}:{line}: is not valid Python ({getattr(error, 'msg', error)})") from None


def _plugin(node: ast.stmt, path: Path, lines: list[str]) -> Plugin | None:
    if not isinstance(node, ast.ClassDef | ast.FunctionDef):
        return None
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        target = call.func if call else decorator
        kind = getattr(target, "id", getattr(target, "attr", ""))
        if kind not in KINDS:
            continue
        methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        return Plugin(
            kind=kind,
            path=path,
            symbol=node.name,
            doc=ast.get_docstring(node) or "",
            params=tuple(_fields(node, lines) if isinstance(node, ast.ClassDef) else _arguments(node, lines)),
            rung=next((rung for rung in ("game", "fit") if rung in methods), None),
            **_mark_arguments(call, node.name),
        )
    return None


def _mark_arguments(call: ast.Call | None, symbol: str) -> dict[str, Any]:
    found: dict[str, Any] = {"name": snake(symbol)}
    for argument in call.args if call else ():
        if isinstance(argument, ast.Call):  # Value("modes", "modes", "higher")
            found["values"] = (*found.get("values", ()), _value(argument))
        elif (text := _literal(argument)) is not UNKNOWN and text:
            found["name"] = text
    for keyword in call.keywords if call else ():
        value = _literal(keyword.value)
        if keyword.arg and value is not UNKNOWN:
            found[keyword.arg] = value
    return found


def _value(call: ast.Call) -> Value:
    arguments = [_literal(a) for a in call.args]
    return Value(*arguments, **{k.arg: _literal(k.value) for k in call.keywords if k.arg})


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


def _fields(node: ast.ClassDef, lines: list[str]) -> Iterator[Param]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            default = _literal(item.value) if item.value else None
            doc = _comment(lines, item.lineno, item.end_lineno)
            yield Param(item.target.id, ast.unparse(item.annotation), default, item.value is None, doc)


def _arguments(node: ast.FunctionDef, lines: list[str]) -> Iterator[Param]:
    """All parameters of a dataset function but the first, which is the generator."""
    spec = node.args
    plain = spec.args[1:]
    pad: list[ast.expr | None] = [None] * max(0, len(plain) - len(spec.defaults))
    defaults = pad + list(spec.defaults[len(spec.defaults) - (len(plain) - len(pad)) :])
    pairs = [*zip(plain, defaults, strict=True), *zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    for arg, default in pairs:
        annotation = ast.unparse(arg.annotation) if arg.annotation else "Any"
        doc = _comment(lines, arg.lineno, arg.end_lineno)
        yield Param(arg.arg, annotation, _literal(default) if default else None, default is None, doc)


def _comment(lines: list[str], first: int, last: int | None) -> str:
    match = re.search(r"#\s*(.*)$", lines[(last or first) - 1])
    return match.group(1).strip() if match else ""


# ---------------------------------------------------------------------------------------------- catalog


@cache
def catalog() -> dict[Kind, dict[str, Plugin]]:
    """Everything shipped, by kind and name, sorted by name."""
    files = [
        *sorted(shipped("baselines").rglob("*.py")),
        *sorted((PACKAGE / "metrics").glob("*.py")),
        *sorted((PACKAGE / "datasets").glob("*.py")),
        PACKAGE / "divergences.py",
    ]
    found: dict[Kind, dict[str, Plugin]] = {kind: {} for kind in KINDS}
    for plugin in sorted((p for f in files if f.is_file() for p in scan(f)), key=lambda p: p.name):
        twin = found[plugin.kind].get(plugin.name)
        if twin:
            raise PluginError(f"{plugin.path} and {twin.path} both define the {plugin.kind} {plugin.name!r}")
        found[plugin.kind][plugin.name] = plugin
    return found


def find(kind: Kind, name: str, folder: Path | None = None) -> Plugin:
    """A plugin by its name (`gan`), or by file relative to `folder` (`./my_gan.py`, `./my_gan.py:Second`).
    Raises PluginError with the nearest name."""
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


# ---------------------------------------------------------------------------------------------- running


def load(plugin: Plugin) -> Any:
    """The marked class or function itself. Runs the file. Raises PluginError when that fails."""
    try:
        return getattr(_module(plugin.path), plugin.symbol)
    except Exception as error:
        where = f"{plugin.path}: " if not isinstance(error, PluginError) else ""
        raise PluginError(f"{where}{type(error).__name__} while loading: {error}") from error


def _module(path: Path) -> ModuleType:
    if path.is_relative_to(PACKAGE) and not path.is_relative_to(PACKAGE / "_shipped"):
        return importlib.import_module(
            "ganbench." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        )
    name = f"ganbench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look themselves up there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # a user's file may import its neighbours
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def digest(path: Path) -> str:
    """SHA-256 of the syntax tree of a file and of the neighbouring files it imports: an edited comment or
    `1e-3` for `0.001` changes nothing."""
    trees = {name: ast.dump(_bare(tree)) for name, tree in sorted(_with_neighbours(path.resolve()).items())}
    return hashlib.sha256("\n".join(f"{name}\n{tree}" for name, tree in trees.items()).encode()).hexdigest()


def _with_neighbours(path: Path) -> dict[str, ast.Module]:
    trees, queue = {}, [path]
    while queue:
        file = queue.pop()
        if file.name in trees:
            continue
        trees[file.name] = _parse(file)[0]
        for node in ast.walk(trees[file.name]):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            neighbours = [path.parent / f"{name.split('.')[0]}.py" for name in names]
            queue += [neighbour for neighbour in neighbours if neighbour.is_file()]
    return trees


def _bare(tree: ast.Module) -> ast.Module:
    """The tree without docstrings, which change no number."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree
