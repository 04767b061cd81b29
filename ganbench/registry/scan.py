"""Reads the plugins of a file from its source, without running it, so that listing and validating need no torch."""

from __future__ import annotations

import ast
import importlib.util
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeGuard

from ..contracts import Kind, Value, snake
from ..errors import PluginError
from ..search_range import SearchRange

KINDS: tuple[Kind, ...] = ("method", "trick", "divergence", "feature", "metric", "dataset")
# The arguments of a decorator and their types.
DECORATOR = {"name": str, "needs": tuple, "provides": tuple, "values": tuple, "version": int, "reads": tuple}


class _Unknown(Enum):
    """An Enum, so that UNKNOWN is the same object after it has been sent to another process."""

    UNKNOWN = "…"


UNKNOWN = (
    _Unknown.UNKNOWN
)  # a default that is not a literal, so that only running the file would give its value


@dataclass(frozen=True)
class Param:
    """One parameter of a plugin, read from its source."""

    name: str
    annotation: str
    default: Any  # UNKNOWN if it is not a literal
    required: bool
    doc: str  # the comment after it
    search: SearchRange | None = None  # the search range of a `tunable` parameter

    @property
    def is_path(self) -> bool:
        """Whether it names a file or folder: its type is `Path`, or its name is `path`."""
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
    interface: str | None = None  # "game" or "fit", for methods
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    values: tuple[Value, ...] = ()
    version: int = 1
    reads: tuple[str, ...] = ()  # files that its code reads, relative to its own file

    @property
    def summary(self) -> str:
        """First sentence of the docstring, as one line."""
        paragraph = " ".join(self.doc.strip().split("\n\n")[0].split())
        return re.split(r"(?<=\.)(?<!\bal\.)\s+(?=[A-Z])", paragraph, maxsplit=1)[0]

    def param(self, name: str) -> Param | None:
        """The parameter of this name."""
        return next((p for p in self.params if p.name == name), None)


def scan(path: Path) -> list[Plugin]:
    """The plugins of a file, read from its syntax tree. Raises PluginError for a file or mark that cannot be read."""
    source = read_source(path)
    tree = parse(path, source)
    # The lines too, because the tree has no comments, and those after parameters are their documentation.
    lines = importlib.util.decode_source(source).split("\n")
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found = [_plugin(node, path, lines, classes) for node in tree.body]
    return [plugin for plugin in found if plugin]


def read_source(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PluginError(f"{path}: no such file") from None
    except OSError as error:
        raise PluginError(f"{path}: cannot be read ({error.strerror or error})") from None


def parse(path: Path, source: bytes) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python shows them when the file runs
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
        # `@method`, `@method(...)` and `@ganbench.method(...)`, recognised by the name alone: nothing is imported.
        kind = getattr(target, "id", getattr(target, "attr", ""))
        if kind not in KINDS:
            continue
        if isinstance(node, ast.ClassDef):
            family = _family(node, classes)
            params = _fields(family, path, lines)
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
            interface=next((interface for interface in ("game", "fit") if interface in methods), None),
            **mark,
        )
    return None


def _family(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """The base classes of a class that are in the same file, followed by the class itself."""
    bases = [classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
    older = {
        name: one for name, one in classes.items() if one is not node
    }  # a class that inherits from itself ends
    return [*(one for base in bases for one in _family(base, older)), node]


def _mark_arguments(call: ast.Call | None, symbol: str) -> dict[str, Any]:
    """The arguments of a decorator. Raises ValueError or TypeError if they cannot be read from the source."""
    found: dict[str, Any] = {"name": snake(symbol)}
    for argument in call.args if call else ():
        if isinstance(argument, ast.Call):  # Value("modes", "modes", "higher")
            named = {str(keyword.arg): _literal_argument(keyword.value) for keyword in argument.keywords}
            value = Value(*map(_literal_argument, argument.args), **named)
            found["values"] = (*found.get("values", ()), value)
        elif name := _literal_argument(argument):
            found["name"] = name
    for keyword in call.keywords if call else ():
        found[str(keyword.arg)] = _literal_argument(keyword.value)
    found["name"] = found["name"] or snake(symbol)
    for key, kind in DECORATOR.items():
        if not isinstance(found.get(key, kind()), kind):
            raise ValueError(f"{key} must be a {kind.__name__}, got {found[key]!r}")
    if unknown := set(found) - set(DECORATOR):
        raise ValueError(f"there is no argument {min(unknown)!r}")
    return found


def _literal_argument(node: ast.expr) -> Any:
    """The value of a decorator's argument. Raises ValueError if it is not a literal."""
    value = _literal(node)
    if value is UNKNOWN:
        raise ValueError(f"write {ast.unparse(node)!r} as a literal: marks are read without running the file")
    return value


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return UNKNOWN


def _fields(family: list[ast.ClassDef], path: Path, lines: list[str]) -> list[Param]:
    """The fields of a dataclass, inherited ones first; a field that is declared again keeps its place."""
    found: dict[str, Param] = {}
    for item in (item for node in family for item in node.body):
        if not (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)):
            continue
        annotation = ast.unparse(item.annotation)
        init = (_field_keywords(item.value) or {}).get("init")
        # Not parameters: class variables, the marker `_: KW_ONLY`, and `field(init=False)`.
        if re.search(r"\b(ClassVar|KW_ONLY)\b", annotation) or (init is not None and _literal(init) is False):
            continue
        name, value, search = item.target.id, item.value, None
        if is_tunable(value):
            try:
                search = SearchRange(**{str(k.arg): _literal_argument(k.value) for k in value.keywords})
            except (TypeError, ValueError, PluginError) as error:
                raise PluginError(f"{path}:{value.lineno}: tunable of {name}: {error}") from None
            value = value.args[0] if value.args else None
        keywords = _field_keywords(value)
        required = value is None or (
            keywords is not None and not {"default", "default_factory"} & set(keywords)
        )
        default = _literal(value) if value and not required else None
        found[name] = Param(name, annotation, default, required, _comment(item, lines), search)
    return list(found.values())


def is_tunable(node: ast.expr | None) -> TypeGuard[ast.Call]:
    """Whether an expression is `tunable(...)`, the default of a field with its search range."""
    return (
        isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "tunable"
    )


def _field_keywords(value: ast.expr | None) -> dict[str | None, ast.expr] | None:
    """The keywords of `field(...)`; None where the default is something else."""
    if not isinstance(value, ast.Call):
        return None
    called = getattr(value.func, "id", getattr(value.func, "attr", ""))
    return {keyword.arg: keyword.value for keyword in value.keywords} if called == "field" else None


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
    """The comment after a node on its last line, or after its default, since formatters wrap a long line as
    `lr: float = (⏎ 1e-3  # learning rate⏎ )`."""
    for part in (node, node.value if isinstance(node, ast.AnnAssign) else None):
        if part is not None:
            # Columns of `ast` count bytes of UTF-8.
            rest = lines[(part.end_lineno or part.lineno) - 1].encode()[part.end_col_offset :].decode()
            if match := re.match(r"[\s,):]*#+\s*(.*)", rest):
                return match[1].strip()
    return ""
