"""The arguments that commands share: their types, their completion and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..errors import did_you_mean

KINDS = ("methods", "tricks", "divergences", "features", "datasets", "metrics", "suites")
RUNS = Path("results/runs")


def known_names() -> dict[str, list[str]]:
    """The names of everything shipped, by the kinds of `ganbench list`."""
    from ..registry import catalog
    from ..suite.load import shipped_suites

    plugins = {f"{kind}s": list(names) for kind, names in catalog().items()}
    return {**plugins, "suites": list(shipped_suites())}


# ----------------------------------------------------------------------------------------- completion


def _complete_suites(_ctx: click.Context, _param: click.Parameter, start: str) -> list[Any]:
    from ..suite.load import about, shipped_suites

    suites = shipped_suites().items()
    # Names, and files by the shell itself.
    items = [CompletionItem(name, help=about(path)) for name, path in suites if name.startswith(start)]
    return [*items, CompletionItem(start, type="file")]


def complete_names(_ctx: click.Context, _param: click.Parameter, start: str) -> list[Any]:
    """What `ganbench show` can show."""
    from ..registry import catalog
    from ..suite.load import about, shipped_suites

    helps = {name: plugin.summary for plugins in catalog().values() for name, plugin in plugins.items()}
    helps |= {name: about(path) for name, path in shipped_suites().items()}
    return [CompletionItem(name, help=help_) for name, help_ in helps.items() if name.startswith(start)]


# ----------------------------------------------------------------------------------------------- types


class Shard(click.ParamType):
    """`2/8` as (2, 8)."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Fails for anything else."""
        if isinstance(value, tuple):
            return value
        part, _, parts = value.partition("/")
        if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
            self.fail(f"{value!r} is not I/N with 1 ≤ I ≤ N, such as 2/8", param, ctx)
        return int(part), int(parts)


class KindOfPlugin(click.Choice[str]):
    """A kind of thing to list; `trick` is taken for `tricks`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Fails for anything else; of the name of a plugin or suite it says which command shows it."""
        if f"{value}s" in self.choices:
            return f"{value}s"
        if value not in self.choices:
            names = known_names()
            if kinds := [kind for kind, members in names.items() if value in members]:
                remedy = f"`ganbench show {value}` shows it, `ganbench list {kinds[0]}` lists them all"
                self.fail(f"{value!r} is a {kinds[0][:-1]}; {remedy}", param, ctx)
            near = did_you_mean(
                value, [*self.choices, *(name for members in names.values() for name in members)]
            )
            if "did you mean" in near:
                self.fail(f"there is no kind {value!r}{near}", param, ctx)
        return super().convert(value, param, ctx)


class RunFolder(click.Path):
    """The folder of a run that exists."""

    def __init__(self) -> None:
        super().__init__(exists=True, file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Fails for anything else; for a suite or its name it says where its results are, if there are any."""
        # `ganbench report quickstart` is an easy mistake: without --out the run lies in a folder of this name.
        run = RUNS / Path(value).name.removesuffix(".yaml")
        if not Path(value).is_dir() and run.is_dir():
            self.fail(f"{str(value)!r} is not the folder of a run; did you mean {run}?", param, ctx)
        return super().convert(value, param, ctx)


class CompareTarget(RunFolder):
    """The folder of a run, a Python file with a method, or a file of samples."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Fails for anything else; what is in a file is looked at later."""
        # Without a look at the disk: `my_gan.py:Second` is no path, and a missing file gets a better message later.
        file = str(value).partition(":")[0]
        return Path(value) if file.endswith((".py", ".npy", ".npz")) else super().convert(value, param, ctx)


# --------------------------------------------------------------------------------------------- options


def _set_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().meta["ganbench.debug"] = True


debug = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_debug,
    help="Show the traceback of an error.",
)

suite = click.argument("suite", metavar="SUITE", shell_complete=_complete_suites)
set_key = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the suite, such as train.steps=100, datasets.0.params.modes=25, methods.*.params.lr=1e-4 or "
    "budget=full; repeatable.",
)
seeds = click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Seeds 0 to N-1.")
results = click.argument("results", metavar="RESULTS", type=RunFolder())

tolerance = click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="[METRIC=]LIMIT",
    help="How far a mean may move: 5%, kde_ll=2, kde_ll=1%; repeatable.  [default: 1%]",
)
