"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import atexit
import gc
import json
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem, get_completion_class

from .. import __version__
from ..errors import GanbenchError, RequestError, StoreError, SuiteError, did_you_mean

if TYPE_CHECKING:
    from ..api import Measured
    from ..conformance import Check
    from ..contracts import Kind, Record
    from ..registry import Param, Plugin
    from ..suite.load import Suite

F = TypeVar("F", bound=Callable[..., Any])
KINDS = ("methods", "tricks", "divergences", "features", "datasets", "metrics", "suites")
MADE = ("method", "trick", "metric", "dataset", "divergence", "feature")  # by `ganbench new`
FORMATS = ("text", "json", "junit", "markdown")
RUNS = Path("results/runs")
RANKS = {"higher": "higher is better", "lower": "lower is better", "neither": "not ranked"}
_NOTHING_MARKED = "nothing in this file is marked @method, @trick, @divergence, @feature, @metric or @dataset"


class _Main(click.Group):
    """The group of all commands; turns exceptions into messages and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        atexit.register(gc.freeze)  # to look for garbage in the end, among all of PyTorch, takes a second
        try:
            return super().main(*args, **kwargs)
        except KeyboardInterrupt:  # another Ctrl-C, while the first was being answered
            sys.exit(130)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise  # click shows them, and is silent about a closed pipe
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except GanbenchError as error:
            _explain(ctx, _text(error))
            ctx.exit(2)
        except Exception as error:
            _explain(
                ctx,
                f"this is a bug in ganbench: {type(error).__name__}: {error}\n"
                "Please report it with what --debug prints (`ganbench --debug ...`).",
            )
            ctx.exit(1)


def _text(error: GanbenchError) -> str:
    if not isinstance(error, SuiteError):
        return f"error: {error}"
    count = len(error.problems)
    return f"{error}\n{count} {'mistake' if count == 1 else 'mistakes'}; nothing was run."


def _explain(ctx: click.Context, message: str) -> None:
    if ctx.find_root().meta.get("ganbench.debug"):
        click.echo(traceback.format_exc(), err=True, nl=False)
    click.echo(message, err=True)


def _set_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().meta["ganbench.debug"] = True


_debug = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_debug,
    help="Show the traceback of an error.",
)


# ----------------------------------------------------------------------------------------- completion


def _complete_suites(_ctx: click.Context, _param: click.Parameter, text: str) -> list[Any]:
    from ..suite.load import about, shipped_suites

    names = [CompletionItem(n, help=about(p)) for n, p in shipped_suites().items() if n.startswith(text)]
    return [*names, CompletionItem(text, type="file")]


def _complete_names(_ctx: click.Context, _param: click.Parameter, text: str) -> list[Any]:
    from ..registry import catalog
    from ..suite.load import about, shipped_suites

    found = {name: plugin.summary for known in catalog().values() for name, plugin in known.items()}
    found |= {name: about(path) for name, path in shipped_suites().items()}
    return [CompletionItem(name, help=text_) for name, text_ in found.items() if name.startswith(text)]


# ------------------------------------------------------------------------------------------- arguments


class _Shard(click.ParamType):
    """`2/8` as (2, 8)."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        part, _, parts = value.partition("/")
        if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
            self.fail(f"{value!r} is not I/N with 1 ≤ I ≤ N, such as 2/8", param, ctx)
        return int(part), int(parts)


_suite = click.argument("suite", metavar="SUITE", shell_complete=_complete_suites)
_set = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the suite, such as train.steps=100, datasets.0.params.modes=25, methods.*.params.lr=1e-4 or "
    "budget=full; repeatable.",
)
_seeds = click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Seeds 0 to N-1.")
_results = click.argument(
    "results", metavar="RESULTS", type=click.Path(exists=True, file_okay=False, path_type=Path)
)

_tolerance = click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="[METRIC=]LIMIT",
    help="How far a mean may move: 5%, kde_ll=2, kde_ll=1%; repeatable.  [default: 1%]",
)


def _command(name: str | None = None) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of `main`, with --debug."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        return main.command(name)(_debug(function))

    return wrap


# -------------------------------------------------------------------------------------------- commands


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ganbench")
@_debug
def main() -> None:
    """Is this GAN better than that one, or did the seed decide?

    ganbench trains every method of a suite on every dataset over many seeds, scores the results, and writes
    tables, plots and a report that say how each number was made.

    \b
    Begin with:
      ganbench list                     what there is to compare
      ganbench run quickstart           a first comparison, in a few minutes
      ganbench show gan                 one method, its parameters and its paper
      ganbench score x.npz --dataset ring   samples that were made elsewhere

    \b
    Then write a suite, my.yaml, with a method of your own beside it:
      seeds: 5
      datasets: [ring, digits]
      methods: [gan, ./my_gan.py]
      metrics: [modes, kde_ll]

    \b
    and:
      ganbench new method my_gan.py
      ganbench test my_gan.py
      ganbench validate my.yaml
      ganbench run my.yaml

    Exit codes: 0 fine, 1 some cells failed, 2 the request was wrong, 130 interrupted (what was finished is
    kept, and the same command goes on from there).
    """


@_command()
@_suite
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="[default: results/runs/<suite>]")
@_set
@_seeds
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Processes of this machine, or the Ray cluster at RAY_ADDRESS.",
)
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes at work at the same time.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MINUTES",
    help="End a task that takes longer.  [default: never]",
)
@click.option("--shard", type=_Shard(), help="Only part I of N of the cells, for N machines on one folder.")
@click.option("--fresh", is_flag=True, help="Run again what has been finished already.")
@click.option("--dry-run", is_flag=True, help="Only print what would run, and what is finished already.")
def run(suite: str, out: Path | None, overrides: tuple[str, ...], seeds: int | None, **settings: Any) -> None:
    """Train, score and report a suite.

    SUITE is a YAML file or the name of a shipped suite. Whatever is finished already is not repeated: the
    same command goes on after an interruption, trains only seeds that were added, and only scores when a
    metric changed.

    \b
    Examples:
      ganbench run quickstart
      ganbench run my.yaml --seeds 10
      ganbench run my.yaml --set train.steps=500 --set datasets.0.params.modes=25 --out /tmp/try
      ganbench run mnist-small --dry-run
      ganbench run toy --shard 2/8          (the second of 8 jobs that share a folder)
      ganbench run toy --executor ray       (on a cluster; see docs/cluster.md)
    """
    from ..suite.load import load, slug

    loaded = load(suite, overrides, seeds)
    from ..execution.local import no_collection, start_server

    if settings["executor"] == "local" and not settings["dry_run"]:
        start_server()  # it imports while we do
    with no_collection():
        from ..execution import run as execute  # after the suite is known to be right: this starts torch

    code = execute.run(loaded, out or RUNS / slug(loaded.name), **settings)
    click.get_current_context().exit(code)


@_command("list")
@click.argument("kinds", type=click.Choice(KINDS), nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of objects.")
def list_(kinds: tuple[str, ...], as_json: bool) -> None:
    """List methods, tricks, divergences, features, datasets, metrics and suites: all, or the named kinds.

    \b
    Examples:
      ganbench list
      ganbench list methods tricks
      ganbench list metrics --json
    """
    chosen = tuple(dict.fromkeys(kinds)) or KINDS
    if as_json:
        rows = [row for name in chosen for row in _rows(name)]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False, default=str))
        return
    click.echo("\n\n".join(_group(name, lines) for name in chosen if (lines := _lines(name))))


@_command()
@click.argument("name", shell_complete=_complete_names)
def show(name: str) -> None:
    """Show one method, trick, divergence, dataset, metric or suite.

    NAME is one that `ganbench list` prints, or a Python file of yours.

    \b
    Examples:
      ganbench show gan
      ganbench show quickstart
      ganbench show ./my_gan.py
    """
    from ..registry import catalog, scan
    from ..suite.load import shipped_suites

    if name.endswith(".py"):
        found = scan(Path(name))
        if not found:
            raise RequestError(f"{name}: {_NOTHING_MARKED}")
    else:
        found = [known[name] for known in catalog().values() if name in known]
    blocks = [_page(plugin) for plugin in found]
    suites = shipped_suites()
    if name in suites and not name.endswith(".py"):
        blocks.append(
            f"{_heading(f'{name} (suite)')}\n{suites[name]}\n\n{suites[name].read_text('utf-8').strip()}"
        )
    if not blocks:
        names = {*suites, *(name for known in catalog().values() for name in known)}
        raise RequestError(f"there is nothing called {name!r}{did_you_mean(name, names)}")
    click.echo("\n\n\n".join(blocks))


@_command()
@_suite
@_set
@_seeds
def validate(suite: str, overrides: tuple[str, ...], seeds: int | None) -> None:
    """Check a suite without running anything.

    Prints every mistake with its file, line, column and key. Exit code 0 when there is none, else 2.

    \b
    Examples:
      ganbench validate my.yaml
      ganbench validate my.yaml --set train.steps=100
    """
    from ..suite.load import load

    click.echo(_summary(load(suite, overrides, seeds)))


@_command()
@click.argument("kind", type=click.Choice(MADE))
@click.argument("file", type=click.Path(path_type=Path))
def new(kind: Kind, file: Path) -> None:
    """Begin a file of your own: a method, trick, metric, dataset, divergence or feature.

    Writes FILE, which works as it is and says what each line is for; what it marks is named after it. Prints the
    two commands to go on with. A file that is there already is left alone.

    \b
    Examples:
      ganbench new method my_gan.py
      ganbench new metric my_metric.py
    """
    from .. import scaffold as templates

    commands = templates.write(kind, file)
    click.echo("\n".join([f"{file} is written. Next:", *(f"  {command}" for command in commands)]))


@_command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--data", metavar="NAME", help="A dataset to play on, instead of points and small images.")
def test(file: Path, data: str | None) -> None:
    """Check a file of yours: does it keep its side of the contract?

    Plays for a moment with everything that FILE marks, a method, trick, divergence, feature, metric or dataset,
    and says what is wrong and how to mend it. Exit code 0 where all is well, 1 where something is wrong, 2 where
    FILE cannot be read.

    \b
    Examples:
      ganbench test my_gan.py
      ganbench test my_gan.py --data digits
    """
    from ..registry import scan

    found = scan(file.resolve())
    if not found:
        raise RequestError(f"{file}: {_NOTHING_MARKED}")
    from .. import conformance  # after the file is known to be readable: this starts torch

    played = conformance.load_data(data) if data else None
    wrong = 0
    for plugin in found:
        click.echo(_heading(f"{plugin.name} ({plugin.kind})"))
        for check in conformance.check(plugin, played):
            click.echo(_checked(check))
            wrong += not check.ok
    click.echo(f"{_count(wrong, 'thing')} to mend" if wrong else "all is well")
    click.get_current_context().exit(1 if wrong else 0)


def _checked(check: Check) -> str:
    """`✓ losses are finite`, or ✗ (! for advice) with what is wrong below it."""
    if check.problem is None:
        return f"  {click.style('✓', fg='green')} {check.name}"
    sign = click.style("!", fg="yellow") if check.advice else click.style("✗", fg="red")
    text = textwrap.indent("\n".join(textwrap.wrap(check.problem, 96)), "      ")
    return f"  {sign} {check.name}\n{text}"


@_command()
@click.argument("samples", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--dataset",
    required=True,
    metavar="NAME",
    help="The dataset that the samples should be like, or other samples: .npy, .npz, a folder.",
)
@click.option("--metrics", default="", metavar="NAME,...", help="[default: all for which samples are enough]")
@click.option(
    "--set",
    "options",
    multiple=True,
    metavar="NAME.PARAMETER=VALUE",
    help="A parameter of the dataset or of a metric, such as kde_ll.n=5000; repeatable.",
)
@click.option(
    "--n",
    type=click.IntRange(min=1),
    metavar="N",
    help="Samples that every metric takes, whatever its parameter for that is called; --set goes before it.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of objects.")
def score(
    samples: Path,
    dataset: str,
    metrics: str,
    options: tuple[str, ...],
    n: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Score samples that were made elsewhere.

    SAMPLES is an .npy or .npz file (its array `samples`, or its only one), or a folder of PNG, JPEG, BMP or WebP
    images. Numbers are in the data's scale, 0 to 1 for images; bytes are pixels. [N, H, W, C] is transposed to
    [N, C, H, W]. Metrics take as many samples as their protocol says, in a random order that is always the same.
    Where there are fewer, the metric is not scored, and what to --set is printed. The first lines say how samples
    and data were read (with --json on stderr). Exit code 1 where a metric was not scored.

    \b
    Examples:
      ganbench score mine.npz --dataset mnist
      ganbench score mine.npy --dataset ring --metrics modes,kde_ll --set kde_ll.n=5000
      ganbench score pictures/ --dataset digits --n 300
      ganbench score pictures/ --dataset digits --json
      ganbench score mine.npz --dataset theirs.npz
    """
    from .. import api

    names = [name.strip() for name in metrics.split(",") if name.strip()]
    asked = api.request(dataset, names, options, n)
    found, rows = [], []

    def report(line: str) -> None:
        click.echo(textwrap.fill(line, 100, subsequent_indent="  "), err=as_json)

    for one in api.score(samples, asked, device, report):
        found.append(one)
        if as_json:
            rows += [_scored_row(record, one) for record in one.records]
        else:
            click.echo(_scored_text(one))
    unscored = [one for one in found if any(record.value is None for record in one.records)]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif unscored:
        click.echo(_scored_summary(unscored, len(found)))
    click.get_current_context().exit(1 if unscored else 0)


def _scored_summary(unscored: list[Measured], count: int) -> str:
    """Which metrics have no value or lack one, why, and what would give it."""
    lines = [f"{count - len(unscored)} of {_count(count, 'metric')} scored; not scored:"]
    for one in unscored:
        errors = dict.fromkeys(record.error for record in one.records if record.error)
        advice = f": --set {one.shortage.setting}" if one.shortage and one.shortage.setting else ""
        lines.append(f"  {one.metric}  {'; '.join(errors)}{advice}")
    short = [one.shortage for one in unscored if one.shortage]
    if short:
        lines.append(
            f"--n {short[0].at_hand} lets all metrics take the samples at hand; their protocols differ then."
        )
    return "\n".join(lines)


def _scored_row(record: Record, found: Measured) -> dict[str, Any]:
    """What `score --json` says of one value."""
    names = (
        "dataset",
        "metric",
        "value",
        "sem",
        "n",
        "unit",
        "better",
        "status",
        "error",
        "protocol",
        "invalid",
    )
    row = {name: getattr(record, name) for name in names}
    said = {"verdict": found.verdict, "warning": found.warning}
    said["set"] = found.shortage.setting if found.shortage else None
    return {**row, "protocol_text": found.sentence, "controls": found.controls, **said}


def _scored_text(found: Measured) -> str:
    """What `score` prints of one metric: its values, and below them how they were made."""
    lines = [_scored_line(record) for record in found.records if record.error is None]
    controls = ", ".join(f"{name} {value:.5g}" for name, value in found.controls.items())
    errors = list(dict.fromkeys(record.error for record in found.records if record.error))
    if errors:
        names = ", ".join(record.metric for record in found.records if record.error)
        lines.append(f"{_heading(names)}  {click.style('; '.join(errors), fg='red')}")
    notes = [f"verdict: {found.verdict}"] if found.verdict else []
    notes += [f"protocol {found.records[0].protocol}: {found.sentence}"] if not found.shortage else []
    notes += [f"beside it: {controls}"] if controls else []
    notes += [f"warning: {found.warning}"] if found.warning else []
    invalid = dict.fromkeys(record.invalid for record in found.records if record.invalid)
    notes += [f"not valid: {sentence}" for sentence in invalid]
    wrapped = [textwrap.fill(note, 100, initial_indent="    ", subsequent_indent="      ") for note in notes]
    return "\n".join([*lines, *wrapped])


def _scored_line(record: Record) -> str:
    """`kde_ll  243.1 ± 2.1 nats  (higher is better)`"""
    sem = f" ± {record.sem:.2g}" if record.sem is not None else ""
    return f"{_heading(record.metric)}  {record.value:.5g}{sem} {record.unit}  ({RANKS[record.better]})"


@_command()
@_results
def table(results: Path) -> None:
    """Write the tables of a run again, from its records.

    RESULTS is the folder of a run. Prints the files: CSV, Markdown, LaTeX and HTML.

    \b
    Example:
      ganbench table results/runs/quickstart
    """
    from ..report import tables

    for path in tables.write(results):
        click.echo(path)


@_command()
@_results
@click.option(
    "--against",
    metavar="REF.csv",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A kept table; what `check` says of the run is then shown too.",
)
@_tolerance
def report(results: Path, against: Path | None, tolerances: tuple[str, ...]) -> None:
    """Write the report of a run again, from its records.

    RESULTS is the folder of a run. Prints the file: one HTML page that needs no other.

    \b
    Examples:
      ganbench report results/runs/quickstart
      ganbench report results/runs/quickstart --against quickstart.csv
    """
    if tolerances and not against:
        raise RequestError("--tolerance is of what --against compares; expected --against REF.csv too")
    from ..analysis.check import check as compare
    from ..report import page as reports

    click.echo(reports.write(results, compare(results, against, tolerances) if against else None))


@_command()
@_results
@click.option(
    "--against",
    required=True,
    metavar="REF.csv",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A kept tables/summary.csv of the same suite.",
)
@_tolerance
@click.option("--alpha", default=0.05, show_default=True, help="Chance of a false alarm in the whole table.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="[default: stdout]"
)
def check(
    results: Path, against: Path, tolerances: tuple[str, ...], alpha: float, form: str, output: Path | None
) -> None:
    """Fail where a table got worse.

    Compares the run in RESULTS with a kept table, row by row. A row has regressed where its mean is worse by more
    than the tolerance and by more than training seeds vary by themselves. Rows that are missing, that were
    measured in another way or that have fewer good seeds fail too. Exit code 0 where nothing is wrong, 1 where
    something is, 2 where the two cannot be compared.

    \b
    Examples:
      ganbench check results/runs/quickstart --against quickstart.csv
      ganbench check results/runs/quickstart --against quickstart.csv --tolerance 5%
      ganbench check results/runs/mine --against kept.csv --tolerance 5% --tolerance kde_ll=0.5
      ganbench check results/runs/mine --against kept.csv --format junit --output check.xml
    """
    from ..analysis.check import check as compare
    from ..report import check as check_formats

    if output and not output.absolute().parent.is_dir():
        raise RequestError(f"{output}: there is no folder {output.parent} to write it in")
    verdict = compare(results, against, tolerances, alpha)
    text = check_formats.FORMATS[form](verdict)
    if output:
        from ..atomic import write_atomic

        click.echo(f"{verdict.headline}\n{write_atomic(output, text.encode())}")
    elif form == "text":
        width = min(shutil.get_terminal_size((100, 24)).columns, 100)
        click.echo(check_formats.as_text(verdict, width, sys.stdout.isatty()), nl=False)
    else:
        click.echo(text, nl=False)
    click.get_current_context().exit(0 if verdict.ok else 1)


@_command()
@click.argument(
    "results",
    metavar="RESULTS...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--baseline", "baselines", multiple=True, metavar="LABEL", help="What to compare with; repeatable."
)
@click.option("--method", "methods", multiple=True, metavar="LABEL", help="What to compare; repeatable.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only by this metric; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one object.")
def compare(
    results: tuple[Path, ...],
    baselines: tuple[str, ...],
    methods: tuple[str, ...],
    metrics: tuple[str, ...],
    as_json: bool,
) -> None:
    """Is one method better than another, or did the seed decide?

    RESULTS are folders of runs, whose seeds are joined. On each dataset the first method is the baseline of the
    others; a --method alone is compared with all others, a --baseline alone with all others too. Differences are
    paired by seed, and p-values corrected for all comparisons made: ask for the metrics that matter before you
    look. Writes tables/compare.csv and .md and the critical-difference diagrams into the first folder. Exit code 0
    whatever comes out.

    \b
    Examples:
      ganbench compare results/runs/quickstart
      ganbench compare results/runs/mine --method my_gan
      ganbench compare results/runs/mine --method my_gan --baseline gan --metric modes --metric kde_ll
      ganbench compare results/runs/mine results/runs/more-seeds --json
    """
    from ..analysis import compare as comparing
    from ..report import comparison as formats

    compared = comparing.compare(results, baselines, methods, metrics)
    try:
        written = formats.write(results[0], compared)
    except StoreError as error:  # somebody else's results, to be read only
        written = []
        click.echo(f"not kept: {error}", err=True)
    if as_json:
        click.echo(formats.as_json(compared, written), nl=False)
        return
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    click.echo(formats.as_text(compared, width, sys.stdout.isatty()))
    for path in written:
        click.echo(path)


@_command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the set-up of tab completion for your shell.

    Commands, options, suites and names are completed.

    \b
    For good, in the start-up file of the shell:
      bash   echo 'eval "$(ganbench completion bash)"' >> ~/.bashrc
      zsh    echo 'eval "$(ganbench completion zsh)"' >> ~/.zshrc
      fish   ganbench completion fish > ~/.config/fish/completions/ganbench.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise RequestError(f"click, which draws the command line, knows no completion for {shell}")
    click.echo(found(main, {}, "ganbench", "_GANBENCH_COMPLETE").source())


# ---------------------------------------------------------------------------------------------- output


def _plugins(kind: str) -> list[Plugin]:
    from ..registry import catalog

    return [plugin for one, known in catalog().items() if f"{one}s" == kind for plugin in known.values()]


def _rows(kind: str) -> list[dict[str, Any]]:
    """What `list --json` says of each member of a kind."""
    from ..suite.load import about, shipped_suites

    if kind == "suites":
        found = shipped_suites()
        return [{"kind": "suite", "name": n, "about": about(p), "path": str(p)} for n, p in found.items()]
    return [_row(plugin) for plugin in _plugins(kind)]


def _lines(kind: str) -> list[tuple[str, str, str]]:
    """What `list` says of each member of a kind: its name, what it is, its parameters."""
    from ..suite.load import about, shipped_suites

    if kind == "suites":
        return [(name, about(path), "") for name, path in shipped_suites().items()]
    return [
        (plugin.name, plugin.summary, ", ".join(f"{p.name}={_default(p)}" for p in plugin.params))
        for plugin in _plugins(kind)
    ]


def _row(plugin: Plugin) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": plugin.kind, "name": plugin.name, "about": plugin.summary}
    row["params"] = [_param(param) for param in plugin.params]
    if plugin.kind == "metric":
        row["values"] = [vars(value) for value in plugin.values]
        row["needs"] = list(plugin.needs)
    if plugin.kind == "dataset":
        row["provides"] = list(plugin.provides)
    if plugin.kind == "method":
        row["rung"] = plugin.rung
    return {**row, "path": str(plugin.path)}


def _param(param: Param) -> dict[str, Any]:
    """A parameter; its default is None too where only running the file could tell it."""
    from ..registry import UNKNOWN

    default = None if param.default is UNKNOWN else param.default
    names = ("name", "type", "required", "default", "doc")
    return dict(zip(names, (param.name, param.annotation, param.required, default, param.doc), strict=True))


def _default(param: Param) -> str:
    """The default of a parameter as a reader wants it."""
    from ..registry import UNKNOWN

    if param.required or param.default is UNKNOWN:
        return "required" if param.required else "…"
    if isinstance(param.default, str):
        return param.default
    return json.dumps(param.default, ensure_ascii=False, default=str)


def _group(kind: str, rows: list[tuple[str, str, str]]) -> str:
    width = max(len(name) for name, _, _ in rows)
    lines = [_heading(kind)]
    for name, what, params in rows:
        lines.append(_fitted(f"  {name:<{width}}  {what}".rstrip()))
        if params:
            lines.append(click.style(_fitted(f"  {'':<{width}}  {params}"), dim=True))
    return "\n".join(lines)


def _fitted(line: str) -> str:
    """The line, cut to the terminal where there is one."""
    width = shutil.get_terminal_size().columns
    return line if not sys.stdout.isatty() or len(line) <= width else line[: width - 1] + "…"


def _heading(text: str) -> str:
    return click.style(text, bold=True)


def _page(plugin: Plugin) -> str:
    """What `show` prints of a plugin."""
    blocks = [f"{_heading(f'{plugin.name} ({plugin.kind})')}\n{plugin.path}", plugin.doc.strip()]
    if plugin.params:
        rows = [(p.name, p.annotation, _default(p), p.doc) for p in plugin.params]
        blocks.append("\n".join([_heading("Parameters"), *_columns(rows)]))
    if plugin.values:
        rows = [(value.name, value.unit, RANKS[value.better]) for value in plugin.values]
        blocks.append("\n".join([_heading("Values"), *_columns(rows)]))
    if plugin.needs:
        blocks.append(f"{_heading('Needs')}  {', '.join(plugin.needs)}")
    if plugin.provides:
        blocks.append(f"{_heading('Provides')}  {', '.join(plugin.provides)}")
    if plugin.rung == "fit":
        blocks.append("It trains by itself (fit), one seed after the other, and takes no tricks.")
    return "\n\n".join(block for block in blocks if block)


def _columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        ("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]


def _summary(suite: Suite) -> str:
    """What a suite that is right comes to, and which of its metrics measure nothing."""
    from ..suite.plan import resolve

    cells = resolve(suite).cells
    parts = [
        _count(len(suite.datasets), "dataset"),
        _count(len(suite.methods), "method"),
        _count(len(cells), "cell"),
        _count(sum(len(cell.seeds) for cell in cells), "training"),
    ]
    idle = [metric for metric in suite.metrics if not any(metric in cell.metrics for cell in cells)]
    notes = [
        f"note: {metric.name!r} applies to none of its cells: it needs {' and '.join(metric.plugin.needs)}"
        for metric in idle
    ]
    return "\n".join([f"{suite.path}: {suite.name!r} is right: {', '.join(parts)}", *notes])


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
