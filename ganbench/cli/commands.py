"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import atexit
import gc
import json
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .. import __version__
from ..errors import GanbenchError, RequestError, StoreError, did_you_mean
from ..format import escape_controls, plural
from . import options, text
from .text import RANKS as RANKS

if TYPE_CHECKING:
    from .. import scaffold

F = TypeVar("F", bound=Callable[..., Any])
MADE = ("method", "fit", "trick", "metric", "dataset", "divergence", "feature")  # by `ganbench new`
FORMATS = ("text", "json", "junit", "markdown")
_NOTHING_MARKED = "nothing in this file is marked @method, @trick, @divergence, @feature, @metric or @dataset"


class _Main(click.Group):
    """The group of all commands; turns exceptions into messages and exit codes."""

    chosen: str | None = None  # the command that was invoked

    def main(self, *args: Any, **kwargs: Any) -> Any:
        atexit.register(gc.freeze)  # the last garbage collection, over all of PyTorch, would take a second
        code: int | str | None = 0
        with text.lenient_streams() as errors:
            try:
                # click ends by SystemExit, also after success; the exit code waits until the output is written.
                return super().main(*args, **kwargs)
            except KeyboardInterrupt:  # a second Ctrl-C, while the first is being handled
                code = 130
            except SystemExit as stop:
                code = stop.code
            with suppress(ValueError):  # a stream that a plugin has closed
                sys.stdout.flush()
            if reason := text.unwritten(errors):
                click.echo(
                    f"error: stdout cannot be written ({reason}); part of the output is lost", err=True
                )
                # The result of a run is its folder; the result of any other command is its output.
                code = code or (0 if self.chosen == "run" else 2)
        sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            try:
                return super().invoke(ctx)
            finally:  # also for a command that fails, whose output may be lost as well
                self.chosen = ctx.invoked_subcommand
        except click.MissingParameter as error:
            raise click.MissingParameter(_example(error), error.ctx, error.param) from None
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise  # click shows the first two and ignores a closed pipe
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except GanbenchError as error:
            _explain(ctx, text.error_text(error))
            ctx.exit(2)
        except Exception as error:
            _explain(
                ctx,
                f"this is a bug in ganbench: {type(error).__name__}: {error}\n"
                "Please report it with what --debug prints (`ganbench --debug ...`).",
            )
            ctx.exit(
                2 if ctx.invoked_subcommand == "check" else 1
            )  # exit code 1 of `check`: a table got worse


def _example(error: click.MissingParameter) -> str:
    """The first example in the help of a command that has the arguments which were given."""
    if error.ctx is None:
        return ""
    lines = [line.strip() for line in (error.ctx.command.help or "").splitlines()]
    examples = [line for line in lines if line.startswith(f"{error.ctx.command_path} ")]
    # An example that has what was already typed shows what is left to type.
    given = {str(value) for value in error.ctx.params.values() if value}
    fitting = [line for line in examples if given <= set(line.split())]
    return f"For example: {(fitting or examples)[0]}" if examples else ""


def _explain(ctx: click.Context, message: str) -> None:
    if ctx.find_root().meta.get("ganbench.debug"):
        click.echo(escape_controls(traceback.format_exc()), err=True, nl=False)
    click.echo(escape_controls(message), err=True)


def _command(name: str | None = None) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of `main`, with --debug."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        return main.command(name)(options.debug(function))

    return wrap


# -------------------------------------------------------------------------------------------- commands


# `\b` before a paragraph of a help text: click keeps its line breaks.
@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ganbench")
@options.debug
def main() -> None:
    """Is this GAN better than that one, or did the seed decide?

    ganbench trains every method of a suite on every dataset over many seeds, scores the results, and writes
    tables, plots and a report that say how each number was made.

    \b
    Start with:
      ganbench list                     what there is to compare
      ganbench run quickstart           a first comparison, in a few minutes
      ganbench show gan                 one method, its parameters and its paper
      ganbench score x.npz --dataset ring   samples made by another program

    \b
    Then write a suite, my.yaml, with a method of your own next to it:
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

    \b
    Tab completion, in the start-up file of the shell (zsh_source and fish_source for those shells):
      eval "$(_GANBENCH_COMPLETE=bash_source ganbench)"

    Exit codes: 0 success, 1 some cells failed, 2 the request was wrong, 130 interrupted (finished results are
    kept, and the same command continues from there).
    """


@_command()
@options.suite
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="[default: results/runs/<suite>]")
@options.set_key
@options.seeds
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Processes of this machine, or the Ray cluster at RAY_ADDRESS.",
)
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Number of worker processes.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MINUTES",
    help="End a task that takes longer.  [default: never]",
)
@click.option(
    "--shard", type=options.Shard(), help="Only part I of N of the cells, for N machines on one folder."
)
@click.option("--fresh", is_flag=True, help="Also repeat what is finished already.")
@click.option("--dry-run", is_flag=True, help="Only print what would run and what is finished already.")
def run(suite: str, out: Path | None, overrides: tuple[str, ...], seeds: int | None, **settings: Any) -> None:
    """Train, score and report a suite.

    SUITE is a YAML file or the name of a shipped suite. What is finished already is not repeated: the same
    command continues after an interruption, trains only the seeds that were added, and only scores again
    where just a metric changed.

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

    # A mistake in the suite is reported at once, before the seconds that torch takes to import.
    loaded = load(suite, overrides, seeds)
    from ..execution.local import no_collection, start_server

    if settings["executor"] == "local" and not settings["dry_run"]:
        start_server()  # it imports torch while this process does
    with no_collection():
        from ..execution import run as execute  # only once the suite is valid: this imports torch

    code = execute.run(loaded, out or options.RUNS / slug(loaded.name), **settings)
    # click ignores what a command returns, so exit codes are set in this way throughout.
    click.get_current_context().exit(code)


@_command("list")
@click.argument("kinds", metavar="[KIND]...", type=options.KindOfPlugin(options.KINDS), nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of objects.")
def list_(kinds: tuple[str, ...], as_json: bool) -> None:
    """List methods, tricks, divergences, features, datasets, metrics and suites: all, or the named kinds.

    \b
    Examples:
      ganbench list
      ganbench list methods tricks
      ganbench list metrics --json
    """
    chosen = tuple(dict.fromkeys(kinds)) or options.KINDS
    if as_json:
        rows = [row for name in chosen for row in text.list_rows(name)]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False, default=str))
        return
    click.echo(
        "\n\n".join(text.list_text(name, lines) for name in chosen if (lines := text.list_lines(name)))
    )


@_command()
@click.argument("name", shell_complete=options.complete_names)
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
    blocks = [text.plugin_text(plugin) for plugin in found]
    # A suite may have the name of a method: both are shown.
    suites = shipped_suites()
    if name in suites and not name.endswith(".py"):
        blocks.append(
            f"{text.heading(f'{name} (suite)')}\n{suites[name]}\n\n{suites[name].read_text('utf-8').strip()}"
        )
    if not blocks:
        if kinds := [kind for kind in options.KINDS if name in (kind, kind.removesuffix("s"))]:
            raise RequestError(f"{name!r} is a kind, not a name; `ganbench list {kinds[0]}` lists them all")
        names = {member for members in options.known_names().values() for member in members}
        raise RequestError(f"no plugin or suite named {name!r}{did_you_mean(name, names)}")
    click.echo("\n\n\n".join(blocks))


@_command()
@options.suite
@options.set_key
@options.seeds
def validate(suite: str, overrides: tuple[str, ...], seeds: int | None) -> None:
    """Check a suite without running anything.

    Prints every mistake with its file, line, column and key. Exit code 0 when there is none, else 2.

    \b
    Examples:
      ganbench validate my.yaml
      ganbench validate my.yaml --set train.steps=100
    """
    from ..suite.load import load

    click.echo(text.suite_text(load(suite, overrides, seeds)))


@_command()
@click.argument("kind", metavar="KIND", type=click.Choice(MADE))
@click.argument("file", type=click.Path(path_type=Path))
def new(kind: scaffold.Template, file: Path) -> None:
    """Create a file of your own: a method, trick, metric, dataset, divergence or feature.

    `fit` is also a method, but with its own training loop, for code that you do not want to rewrite.

    Writes FILE, a working example in which comments explain each line; the plugin in it is named after FILE. Prints
    the two commands to run next. An existing file is never overwritten.

    \b
    Examples:
      ganbench new method my_gan.py
      ganbench new fit my_fit.py
      ganbench new trick my_trick.py
      ganbench new metric my_metric.py
      ganbench new dataset my_data.py
      ganbench new divergence my_divergence.py
      ganbench new feature my_feature.py
    """
    from .. import scaffold

    commands = scaffold.write(kind, file)
    click.echo("\n".join([f"{file} is written. Next:", *(f"  {command}" for command in commands)]))


@_command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--data", metavar="NAME", help="A dataset to test with, instead of points and small images.")
def test(file: Path, data: str | None) -> None:
    """Check that a file of yours, or a shipped plugin by its name, meets its contract.

    Runs every method, trick, divergence, feature, metric and dataset in FILE briefly, and says what is wrong and how
    to fix it. Exit code 0 if all checks pass, 1 if one fails, 2 if FILE cannot be read.

    \b
    Examples:
      ganbench test my_gan.py
      ganbench test my_gan.py --data digits
    """
    from ..registry import catalog, scan

    shipped = [known[str(file)] for known in catalog().values() if str(file) in known]
    # A file is meant before a shipped plugin of the same name.
    plugins = shipped if shipped and not file.exists() else scan(file.resolve())
    if not plugins:
        raise RequestError(f"{file}: {_NOTHING_MARKED}")
    from .. import conformance  # only once the file has been read: this imports torch

    trial_data = conformance.load_data(data) if data else None
    failed = 0
    for plugin in plugins:
        click.echo(text.heading(f"{plugin.name} ({plugin.kind})"))
        for check in conformance.check(plugin, trial_data):
            click.echo(text.check_text(check))
            failed += not check.ok
    click.echo(f"{plural(failed, 'check')} failed" if failed else "all checks passed")
    click.get_current_context().exit(1 if failed else 0)


@_command()
@click.argument("samples", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--dataset",
    required=True,
    metavar="NAME",
    help="The dataset to compare the samples with, or other samples: .npy, .npz, a folder.",
)
@click.option("--metrics", default="", metavar="NAME,...", help="[default: all that need only samples]")
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
    help="Number of samples for every metric, whatever its own parameter for it is called; --set overrides it.",
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
    """Score samples made by another program.

    SAMPLES is an .npy or .npz file (its array `samples`, or its only one), or a folder of PNG, JPEG, BMP or WebP
    images. Floats are in the data's scale, 0 to 1 for images; bytes are pixels. [N, H, W, C] is transposed to
    [N, C, H, W]. Each metric takes as many samples as its protocol says, in a fixed random order. If there are
    fewer, the metric is not scored, and the --set that would allow it is printed. The first lines say how samples
    and data were read (on stderr with --json). Exit code 1 if a metric was not scored.

    \b
    Examples:
      ganbench score mine.npz --dataset mnist
      ganbench score mine.npy --dataset ring --metrics modes,kde_ll --set kde_ll.n=5000
      ganbench score pictures/ --dataset digits --n 300
      ganbench score pictures/ --dataset digits --json
      ganbench score mine.npz --dataset theirs.npz
    """
    # `options` is --set here, not the module. Scores are made by the Python API, so both give the same numbers.
    from .. import api

    names = [name.strip() for name in metrics.split(",") if name.strip()]
    asked = api.request(dataset, names, options, n)
    found, rows = [], []

    # Each metric is printed as soon as it is done. With --json only the objects go to stdout, which programs read.
    def report(line: str) -> None:
        click.echo(textwrap.fill(line, 100, subsequent_indent="  "), err=as_json)

    for one in api.score_samples(samples, asked, device, report):
        found.append(one)
        if as_json:
            rows += [text.score_row(record, one) for record in one.records]
        elif any(record.value is not None for record in one.records):
            click.echo(text.score_text(one))
    unscored = [one for one in found if any(record.value is None for record in one.records)]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif unscored:
        click.echo(text.unscored_text(unscored, len(found)))
    click.get_current_context().exit(1 if unscored else 0)


@_command()
@options.results
def table(results: Path) -> None:
    """Rebuild the tables of a run from its records.

    RESULTS is the folder of a run. Prints the paths of the files: CSV, Markdown, LaTeX and HTML.

    \b
    Example:
      ganbench table results/runs/quickstart
    """
    from ..report import tables

    for path in tables.write(results):
        click.echo(path)


@_command()
@options.results
@click.option(
    "--against",
    metavar="REF.csv",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A reference table; the report then also shows the result of `check` against it.",
)
@options.tolerance
def report(results: Path, against: Path | None, tolerances: tuple[str, ...]) -> None:
    """Rebuild the report of a run from its records.

    RESULTS is the folder of a run. Prints the path of the report, one self-contained HTML page.

    \b
    Examples:
      ganbench report results/runs/quickstart
      ganbench report results/runs/quickstart --against quickstart.csv
    """
    # A tolerance without a table would be ignored in silence.
    if tolerances and not against:
        raise RequestError("--tolerance needs a table to compare with; give --against REF.csv too")
    from ..analysis.check import check as compare
    from ..report import page as reports

    click.echo(reports.write(results, compare(results, against, tolerances) if against else None))


@_command()
@options.results
@click.option(
    "--against",
    required=True,
    metavar="REF.csv",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A reference: an earlier tables/summary.csv of the same suite.",
)
@options.tolerance
@click.option(
    "--alpha", default=0.05, show_default=True, help="Probability of a false alarm anywhere in the table."
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="[default: stdout]"
)
def check(
    results: Path, against: Path, tolerances: tuple[str, ...], alpha: float, form: str, output: Path | None
) -> None:
    """Fail if a table got worse.

    Compares the run in RESULTS with a reference table, row by row. A row has regressed if its mean is worse by more
    than the tolerance and by more than the variation between training seeds explains. Rows that are missing, that
    were measured by another protocol or that have fewer successful seeds fail too. Exit code 0 if all rows pass, 1
    if one fails, 2 if the two tables cannot be compared.

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
        raise RequestError(
            f"{output}: the folder {output.parent} does not exist; create it, or give another --output"
        )
    if (
        output and output.exists() and not output.is_file()
    ):  # the atomic write would replace the device by a file
        raise RequestError(f"{output}: is a pipe or a device; expected a file, or no --output for stdout")
    # Only text on stdout is fitted to the terminal; a file has the same bytes wherever it is written.
    verdict = compare(results, against, tolerances, alpha)
    document = check_formats.FORMATS[form](verdict)
    if output:
        from ..atomic import write_atomic

        click.echo(f"{verdict.headline}\n{write_atomic(output, document.encode())}")
    elif form == "text":
        click.echo(check_formats.as_text(verdict, _width(), sys.stdout.isatty()), nl=False)
    else:
        click.echo(document, nl=False)
    click.get_current_context().exit(0 if verdict.ok else 1)


@_command()
@click.argument(
    "results",
    metavar="RESULTS...",
    nargs=-1,
    required=True,
    type=options.CompareTarget(),
)
@click.option(
    "--baseline", "baselines", multiple=True, metavar="LABEL", help="A method to compare with; repeatable."
)
@click.option("--method", "methods", multiple=True, metavar="LABEL", help="A method to compare; repeatable.")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="Compare by this metric only; repeatable."
)
@click.option(
    "--on",
    metavar="NAME",
    help="Compare with the shipped standings of a dataset or a suite, such as digits.  "
    "[default: ring, for a file; none, for a run]",
)
@click.option(
    "--tune", is_flag=True, help="For a file: search its settings as those of the standings were searched."
)
@click.option(
    "--retrain",
    metavar="LABEL",
    help="Also train this method of the standings here, to see whether this machine agrees.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="For a file: its run directory.  [default: results/runs/<method>-on-<name>]",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: one object.")
def compare(
    results: tuple[Path, ...],
    baselines: tuple[str, ...],
    methods: tuple[str, ...],
    metrics: tuple[str, ...],
    on: str | None,
    tune: bool,
    retrain: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Is one method better than another, or did the seed decide?

    RESULTS are folders of runs, whose seeds are pooled. On each dataset the first method is the baseline of the
    others. A --method alone or a --baseline alone is compared with all other methods; of two --method alone, the
    first is compared with the second. Differences are paired by seed, and p-values are corrected for all comparisons
    made: choose the metrics that matter before you look. Writes tables/compare.csv and .md and the
    critical-difference diagrams into the first folder. Exit code 0 whatever the result.

    RESULTS can also be a Python file with a method, or samples, a file for each seed. They are compared with the
    shipped standings: the method is trained on their data, for their budget, with their seeds, metrics and sizes of
    nets, and ranked among their methods. A run with --on is compared in the same way. What was trained or measured in
    another way is refused. report.html shows the new method among the others.

    \b
    Examples:
      ganbench compare results/runs/quickstart
      ganbench compare results/runs/mine --method my_gan
      ganbench compare results/runs/mine --method my_gan --method gan
      ganbench compare results/runs/mine --method my_gan --baseline gan --metric modes --metric kde_ll
      ganbench compare results/runs/mine results/runs/more-seeds --json

    \b
    With the standings:
      ganbench compare my_gan.py
      ganbench compare my_gan.py --on digits --tune --retrain gan
      ganbench compare seed-0.npz seed-1.npz seed-2.npz --on digits
      ganbench compare results/runs/mine --on points
    """
    if on or not all(path.is_dir() for path in results):
        _compare_with_standings(
            results, baselines, methods, metrics, on or "ring", tune, retrain, out, as_json
        )
        return
    if tune or retrain or out:
        raise RequestError(
            "--tune, --retrain and --out are of a comparison with the standings of a file: my_gan.py"
        )
    from ..analysis import compare as comparing
    from ..report import comparison as formats

    compared = comparing.compare(results, baselines, methods, metrics)
    try:
        written = formats.write(results[0], compared)
    except StoreError as error:  # the folder may be read-only, such as somebody else's results
        written = []
        click.echo(f"the comparison was not saved: {error}", err=True)
    _print_result(formats, compared, written, as_json)


def _print_result(formats: Any, result: Any, written: Sequence[Path], as_json: bool) -> None:
    """A comparison as text with the paths of its files, or as one JSON object that has them."""
    if as_json:
        click.echo(formats.as_json(result, written), nl=False)
        return
    click.echo(formats.as_text(result, _width(), sys.stdout.isatty()))
    for path in written:
        click.echo(path)


def _width() -> int:
    """Columns of the terminal, at most 100."""
    return min(shutil.get_terminal_size((100, 24)).columns, 100)


def _compare_with_standings(
    results: tuple[Path, ...],
    baselines: tuple[str, ...],
    methods: tuple[str, ...],
    metrics: tuple[str, ...],
    on: str,
    tune: bool,
    retrain: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train what is a file, then rank it, or the methods of a run, among the standings."""
    # Options that are of runs only, or of files only, are refused rather than ignored.
    files = [path for path in results if not path.is_dir()]
    if baselines:
        raise RequestError("--baseline is of a run; the standings have their own methods to compare with")
    if files and methods:
        raise RequestError(f"--method is of a run; of several in a file choose with {files[0]}:NAME")
    if files and len(files) < len(results):
        raise RequestError(f"{files[0]}: expected files alone, or folders of runs alone")
    from rich.console import Console

    from ..analysis.standings import locate

    kept, datasets = locate(on)  # a wrong --on is an error before the report's modules are imported
    from .. import standings
    from ..report import page
    from ..report import standings as formats

    run, notes = results[0], ()
    if files:
        targets = [str(path) for path in files]
        entry = standings.entry(targets, kept, datasets, tune=tune, retrain=retrain)
        run, notes = out or options.RUNS / standings.folder_name(entry.label, kept, datasets), entry.notes
        from ..execution.local import no_collection, start_server

        start_server()  # it imports torch while this process does
        with no_collection():
            code = standings.train(entry, run, console=Console(stderr=as_json))
        if code == 130:  # interrupted: there is nothing to compare yet
            click.get_current_context().exit(code)
    elif len(results) > 1:
        raise RequestError(f"{results[1]}: expected one run to be compared with the standings")
    elif tune or out:
        raise RequestError(f"{run}: is a run already; --tune and --out are of a file with a method")
    found = standings.outcome(
        run, kept, datasets, methods=methods, metrics=metrics, retrain=retrain, notes=notes
    )
    try:
        written = [page.write(run, outcome=found)]
    except StoreError as error:  # somebody else's results, to be read only
        written = []
        click.echo(f"not kept: {error}", err=True)
    _print_result(formats, found, written, as_json)
