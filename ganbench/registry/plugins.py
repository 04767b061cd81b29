"""Find and load methods, tricks, divergences, features, metrics and datasets, shipped or a user's, by the same code.

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
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ..contracts import Kind, Value, snake
from ..errors import PluginError, did_you_mean

PACKAGE = Path(__file__).parent.parent
# What marks say.
MARK = {"name": str, "needs": tuple, "provides": tuple, "values": tuple, "version": int, "reads": tuple}
KINDS: tuple[Kind, ...] = ("method", "trick", "divergence", "feature", "metric", "dataset")


class _Unknown(Enum):
    """An Enum, since a plugin is sent to other processes and must find the same object there."""

    UNKNOWN = "…"


UNKNOWN = _Unknown.UNKNOWN  # a default that only running the file could tell


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

    @property
    def is_path(self) -> bool:
        """Whether it names a file or folder: a `Path`, or what is called `path`."""
        return self.name == "path" or re.search(r"\bPath\b", self.annotation) is not None


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
    reads: tuple[str, ...] = ()  # files that its code reads, relative to its own

    @property
    def summary(self) -> str:
        """First sentence of the docstring, as one line."""
        paragraph = " ".join(self.doc.strip().split("\n\n")[0].split())
        return re.split(r"(?<=\.)(?<!\bal\.)\s+(?=[A-Z])", paragraph, maxsplit=1)[0]

    def param(self, name: str) -> Param | None:
        """The parameter of this name."""
        return next((p for p in self.params if p.name == name), None)


# ---------------------------------------------------------------------------------------------- reading


def scan(path: Path) -> list[Plugin]:
    """The plugins of a file, read from its syntax tree. Raises PluginError."""
    source = _read(path)
    tree = _parse(path, source)
    lines = importlib.util.decode_source(source).split("\n")
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found = [_plugin(node, path, lines, classes) for node in tree.body]
    return [plugin for plugin in found if plugin]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PluginError(f"{path}: there is no such file") from None
    except OSError as error:
        raise PluginError(f"{path}: cannot be read ({error.strerror or error})") from None


def _parse(path: Path, source: bytes) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python says them again when the file runs
            return ast.parse(source, filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        reason = getattr(error, "msg", error) or "too deeply nested"
        raise PluginError(f"{path}:{line}: is not valid Python ({reason})") from None


def _plugin(node: ast.stmt, path: Path, lines: list[str], classes: dict[str, ast.ClassDef]) -> Plugin | None:
    if not isinstance(node, ast.ClassDef | ast.FunctionDef):
        return None
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        target = call.func if call else decorator
        kind = getattr(target, "id", getattr(target, "attr", ""))
        if kind not in KINDS:
            continue
        if isinstance(node, ast.ClassDef):
            family = _family(node, classes)
            params = _fields(family, lines)
            methods = {item.name for one in family for item in one.body if isinstance(item, ast.FunctionDef)}
        else:
            params, methods = list(_arguments(node, lines)), set()
        try:
            mark = _mark_arguments(call, node.name)
        except (TypeError, ValueError) as error:
            raise PluginError(f"{path}:{decorator.lineno}: @{kind} of {node.name}: {error}") from None
        return Plugin(
            kind=kind,
            path=path,
            symbol=node.name,
            doc=ast.get_docstring(node) or "",
            params=tuple(params),
            rung=next((rung for rung in ("game", "fit") if rung in methods), None),
            **mark,
        )
    return None


def _family(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """The class after the classes of the same file that it extends."""
    bases = [classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
    older = {name: one for name, one in classes.items() if one is not node}
    return [*(one for base in bases for one in _family(base, older)), node]


def _mark_arguments(call: ast.Call | None, symbol: str) -> dict[str, Any]:
    """What the decorator says. Raises ValueError or TypeError where it cannot be read from the source."""
    found: dict[str, Any] = {"name": snake(symbol)}
    for argument in call.args if call else ():
        if isinstance(argument, ast.Call):  # Value("modes", "modes", "higher")
            found["values"] = (*found.get("values", ()), _value(argument))
        elif name := _written(argument):
            found["name"] = name
    for keyword in call.keywords if call else ():
        found[str(keyword.arg)] = _written(keyword.value)
    found["name"] = found["name"] or snake(symbol)
    for key, kind in MARK.items():
        if not isinstance(found.get(key, kind()), kind):
            raise ValueError(f"{key} must be a {kind.__name__}, got {found[key]!r}")
    if unknown := set(found) - set(MARK):
        raise ValueError(f"there is no argument {min(unknown)!r}")
    return found


def _value(call: ast.Call) -> Value:
    return Value(*map(_written, call.args), **{str(k.arg): _written(k.value) for k in call.keywords})


def _written(node: ast.expr) -> Any:
    """An argument of a mark, which is read without running the file."""
    value = _literal(node)
    if value is UNKNOWN:
        raise ValueError(f"write {ast.unparse(node)!r} out: marks are read without running the file")
    return value


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return UNKNOWN


def _fields(family: list[ast.ClassDef], lines: list[str]) -> list[Param]:
    """The fields of a dataclass, inherited ones first; a field that is declared again keeps its place."""
    found: dict[str, Param] = {}
    for item in (item for node in family for item in node.body):
        if not (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)):
            continue
        annotation = ast.unparse(item.annotation)
        if re.search(r"\b(ClassVar|KW_ONLY)\b", annotation) or _is_no_argument(item.value):
            continue
        name, required = item.target.id, item.value is None or _lacks_default(item.value)
        default = _literal(item.value) if item.value and not required else None
        found[name] = Param(name, annotation, default, required, _comment(item, lines))
    return list(found.values())


def _field_keywords(value: ast.expr | None) -> dict[str | None, ast.expr] | None:
    """The keywords of `field(...)`; None where the default is something else."""
    if not isinstance(value, ast.Call):
        return None
    called = getattr(value.func, "id", getattr(value.func, "attr", ""))
    return {keyword.arg: keyword.value for keyword in value.keywords} if called == "field" else None


def _is_no_argument(value: ast.expr | None) -> bool:
    init = (_field_keywords(value) or {}).get("init")
    return init is not None and _literal(init) is False


def _lacks_default(value: ast.expr) -> bool:
    keywords = _field_keywords(value)
    return keywords is not None and not {"default", "default_factory"} & set(keywords)


def _arguments(node: ast.FunctionDef, lines: list[str]) -> Iterator[Param]:
    """All parameters of a dataset function but the first, which is the generator."""
    spec = node.args
    plain = [*spec.posonlyargs, *spec.args]
    defaults = [None] * (len(plain) - len(spec.defaults)) + spec.defaults
    pairs = [*zip(plain, defaults, strict=True), *zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    for arg, default in pairs[1:]:
        annotation = ast.unparse(arg.annotation) if arg.annotation else "Any"
        known = _literal(default) if default else None
        yield Param(arg.arg, annotation, known, default is None, _comment(default or arg, lines))


def _comment(node: ast.stmt | ast.expr | ast.arg, lines: list[str]) -> str:
    """The comment that follows a node on its last line."""
    behind = lines[(node.end_lineno or node.lineno) - 1].encode()[node.end_col_offset :].decode()
    match = re.match(r"[\s,):]*#+\s*(.*)", behind)
    return match[1].strip() if match else ""


# ---------------------------------------------------------------------------------------------- catalog


@cache
def catalog() -> dict[Kind, dict[str, Plugin]]:
    """Everything shipped, by kind and name, sorted by name."""
    files = [
        *sorted(shipped("baselines").rglob("*.py")),
        *sorted((PACKAGE / "metrics").glob("*.py")),
        *sorted((PACKAGE / "datasets").glob("*.py")),
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


def named(reference: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the parameters in a parameter that names another plugin: `kl`, `{alpha: {alpha: 0.5}}`.
    Raises PluginError."""
    if isinstance(reference, str):
        return reference, {}
    if len(reference) != 1:
        raise PluginError(f"expected one name with its parameters, got {len(reference)}: {dict(reference)}")
    ((name, params),) = reference.items()
    return name, dict(params or {})


# ---------------------------------------------------------------------------------------------- running


def load(plugin: Plugin) -> Any:
    """The marked class or function itself. Runs the file. Raises PluginError when that fails."""
    try:
        return getattr(_module(plugin.path), plugin.symbol)
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(plugin.path)
        ]
        where = f"{plugin.path}:{lines[-1]}" if lines else str(plugin.path)
        raise PluginError(f"{where}: {type(error).__name__} while loading: {error}") from error


def find_divergence(reference: Any) -> Any:
    """The divergence that a parameter of a method names: shipped (`kl`), in a file (`./my.py`), with
    parameters (`{"alpha": {"alpha": 0.5}}`), or a divergence itself, which is given back.

    Annotate the parameter `str | Divergence`: in a suite its files then lie beside the suite, mistakes are
    told before anything runs, and what is edited in the file is trained again. Raises PluginError.
    """
    return _made("divergence", reference)


def find_feature(reference: Any) -> Any:
    """The feature function that a parameter of a trick names, as `find_divergence`; annotate it `str | Feature`.
    Raises PluginError."""
    return _made("feature", reference)


def _made(kind: Kind, reference: Any) -> Any:
    if not isinstance(reference, str | Mapping):
        return reference
    name, params = named(reference)
    return load(find(kind, name))(**params)


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
    `1e-3` for `0.001` changes nothing, nor does another version of Python."""
    files = sorted(_with_neighbours(path.resolve()).items())
    forms = ", ".join(f"({name!r}, {content.form})" for name, content in files)
    return hashlib.sha256(f"[{forms}]".encode()).hexdigest()


def neighbours(path: Path) -> list[Path]:
    """A file, and the files beside it, or in folders beside it, that it or they import. Raises PluginError."""
    return [path.parent / name for name in sorted(_with_neighbours(path))]


def _with_neighbours(path: Path) -> dict[str, Content]:
    """The file and all files beside it, or in folders beside it, that it or they import, by relative name."""
    found: dict[str, Content] = {}
    queue = [path]
    while queue:
        file = queue.pop()
        name = file.relative_to(path.parent).as_posix()
        if name in found:
            continue
        found[name] = _content(file, _read(file))
        for package in found[name].imported - {"ganbench"}:
            queue += [path.parent / f"{package}.py"] if (path.parent / f"{package}.py").is_file() else []
            queue += sorted((path.parent / package).rglob("*.py"))
    return found


class Content(NamedTuple):
    """What a file comes to."""

    imported: set[str]  # first parts of names of modules
    form: str  # of its syntax tree without docstrings


@cache  # many metrics share a file
def _content(path: Path, source: bytes) -> Content:
    tree = _parse(path, source)
    return Content(_imported(tree), repr(_form(_bare(tree))))


def _form(node: Any) -> Any:
    """A tree as nested lists. Empty fields are left out: versions of Python differ in which ones there are,
    and in what `ast.dump` and `ast.unparse` write."""
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields)
        given = [[name, _form(value)] for name, value in fields if value is not None and value != []]
        return [type(node).__name__, *given]
    return [_form(item) for item in node] if isinstance(node, list) else node


def _imported(tree: ast.Module) -> set[str]:
    """First parts of the names of the modules that are imported, by an absolute name or as `from .x import`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level <= 1:
            names.add(node.module.split(".")[0])
    return names


def _bare(tree: ast.Module) -> ast.Module:
    """The tree without docstrings, which change no number."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree
