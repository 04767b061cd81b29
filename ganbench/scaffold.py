"""Creates plugin files from templates: a method, fit, trick, metric, dataset, divergence or feature.

The templates are working files, in which the plugin is named `Mine` (`mine` for a dataset). The entry for a suite in
each template is used for the command that `ganbench new` proposes.
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

Template = Kind | Literal["fit"]  # "fit" is a method with its own training loop
TRIAL = ("ganbench", "run", "toy", "--seeds", "2", "--set", "train.steps=500")
IN_A_SUITE = re.compile(r"In a suite beside it:\s+`(\w+): (.+)`")


def write(kind: Template, path: Path) -> list[str]:
    """Write a plugin file of this kind, with names after its file name (my_gan.py: the class MyGan, `my_gan` in
    tables); returns the commands to run next. Raises RequestError if the file exists, or for a name or folder that
    cannot be used."""
    template = (PACKAGE / "templates" / f"{kind}.py").read_text(encoding="utf-8")
    symbol = _symbol(kind, path, template)
    # "mine" is the name in tables, "Mine" the class, "mine.py" the file, each as a whole word.
    text = re.sub(r"\bmine\b(?!\.py)", snake(symbol), template)
    text = text.replace("mine.py", path.name).replace("Mine", symbol)
    try:
        with path.open(
            "x", encoding="utf-8"
        ) as file:  # x: never over an existing file, whoever made it meanwhile
            file.write(text)
    except FileExistsError:
        raise RequestError(f"{path}: exists already and is not overwritten; choose another name") from None
    except OSError as error:
        folder = "" if path.parent.is_dir() else f"; the folder {path.parent} does not exist"
        raise RequestError(f"{path}: cannot be written ({error.strerror or error}{folder})") from None
    return [f"ganbench test {shlex.quote(str(path))}", _trial(text, path)]


def _symbol(kind: Template, path: Path, template: str) -> str:
    """The name of the class or function. Raises RequestError if the file name gives no valid one."""
    if path.suffix != ".py":
        raise RequestError(f"{path}: must end in .py, such as my_{kind}.py")
    words = [word for word in re.split(r"[\W_]+", path.stem) if word]
    joined = ("".join(map(_capitalise, words)), "_".join(map(_capitalise, words)))
    plain = snake("_".join(words)).lower()
    symbol = plain if kind == "dataset" else next((s for s in joined if snake(s) == plain), joined[1])
    if not symbol.isidentifier() or keyword.iskeyword(symbol):
        what = f"{path.stem!r} gives no valid Python name; start with a letter, such as my_{kind}.py"
        raise RequestError(f"{path}: {what}")
    # A name that the file imports or uses itself would be shadowed.
    nodes = list(ast.walk(ast.parse(template)))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {
        alias.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    }
    if symbol in names - {"Mine", "mine"}:
        what = f"{symbol} already has a meaning in the file; choose another name, such as my_{path.name}"
        raise RequestError(f"{path}: {what}")
    return symbol


def _capitalise(word: str) -> str:
    return word[0].upper() + word[1:]


def _trial(text: str, path: Path) -> str:
    """The command of a short run of the file together with baselines."""
    place = IN_A_SUITE.search(text)
    if place is None:
        raise RequestError(f"the template of {path.name} has no entry for a suite; reinstall ganbench")
    key, entries = place.groups()
    value = entries.replace(f"./{path.name}", json.dumps(str(path.resolve()), ensure_ascii=False))
    ring = () if key == "datasets" else ("--set", "datasets=[ring]")
    return shlex.join([*TRIAL, *ring, "--set", f"{key}={value}", "--out", f"results/runs/{path.stem}"])
