"""Begin a file of one's own: a working, commented method, fit, trick, metric, dataset, divergence or feature.

The templates are files that work as they are, with `Mine` (`mine` for a dataset) for the name. What each says of
its place in a suite is what `ganbench new` proposes to run.
"""

from __future__ import annotations

import ast
import json
import keyword
import re
import shlex
from pathlib import Path
from typing import Literal

from .contracts import Kind, snake
from .errors import RequestError
from .registry import PACKAGE

Template = Kind | Literal["fit"]  # "fit" is a method with a training loop of its own
TRIAL = ("ganbench", "run", "toy", "--seeds", "2", "--set", "train.steps=500")
IN_A_SUITE = re.compile(r"In a suite beside it:\s+`(\w+): (.+)`")


def write(kind: Template, path: Path) -> list[str]:
    """Write a file of this kind, named after its file (my_gan.py: the class MyGan, `my_gan` in tables); gives the
    commands to go on with. Raises RequestError where the file is there, or the name or folder will not do."""
    template = (PACKAGE / "templates" / f"{kind}.py").read_text(encoding="utf-8")
    symbol = _symbol(kind, path, template)
    text = re.sub(r"\bmine\b(?!\.py)", snake(symbol), template)
    text = text.replace("mine.py", path.name).replace("Mine", symbol)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RequestError(f"{path}: is there already, and is left as it is; choose another name") from None
    except OSError as error:
        folder = "" if path.parent.is_dir() else f"; there is no folder {path.parent}"
        raise RequestError(f"{path}: cannot be written ({error.strerror or error}{folder})") from None
    return [f"ganbench test {shlex.quote(str(path))}", _trial(text, path)]


def _symbol(kind: Template, path: Path, template: str) -> str:
    """The name of the class or function. Raises RequestError where the file's name gives none."""
    if path.suffix != ".py":
        raise RequestError(f"{path}: must end in .py, such as my_{kind}.py")
    words = [word for word in re.split(r"[\W_]+", path.stem) if word]
    joined = ("".join(map(_capitalised, words)), "_".join(map(_capitalised, words)))
    plain = snake("_".join(words)).lower()
    symbol = plain if kind == "dataset" else next((s for s in joined if snake(s) == plain), joined[1])
    if not symbol.isidentifier() or keyword.iskeyword(symbol):
        what = f"{path.stem!r} gives no name in Python; begin with a letter, such as my_{kind}.py"
        raise RequestError(f"{path}: {what}")
    if symbol in _names(template) - {"Mine", "mine"}:
        what = f"{symbol} means something else in the file; choose another name, such as my_{path.name}"
        raise RequestError(f"{path}: {what}")
    return symbol


def _names(source: str) -> set[str]:
    """The names that a file imports or uses."""
    nodes = list(ast.walk(ast.parse(source)))
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    }
    return imported | {node.id for node in nodes if isinstance(node, ast.Name)}


def _capitalised(word: str) -> str:
    return word[0].upper() + word[1:]


def _trial(text: str, path: Path) -> str:
    """The command that runs the file beside baselines, for a moment."""
    place = IN_A_SUITE.search(text)
    if place is None:
        raise RequestError(
            f"the template of {path.name} does not say its place in a suite; reinstall ganbench"
        )
    key, entries = place.groups()
    value = entries.replace(f"./{path.name}", json.dumps(str(path.resolve()), ensure_ascii=False))
    ring = () if key == "datasets" else ("--set", "datasets=[ring]")
    return shlex.join([*TRIAL, *ring, "--set", f"{key}={value}", "--out", f"results/runs/{path.stem}"])
