"""The output of the commands, as text and as rows of JSON, and the streams that it is printed on."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from ..errors import GanbenchError, SuiteError
from ..format import escape_controls, plural

if TYPE_CHECKING:
    from ..api import Measured
    from ..conformance import Check
    from ..contracts import Record
    from ..registry import Param, Plugin
    from ..suite.load import Suite


RANKS = {"higher": "higher is better", "lower": "lower is better", "neither": "not ranked"}


@contextmanager
def lenient_streams() -> Iterator[list[OSError]]:
    """Let a command continue when its output cannot be written; yields the write errors of stdout.

    A closed pipe, a full disk or an encoding without `±` must not end a run or change the meaning of its exit code.
    Characters that the encoding lacks are escaped. Descriptors 0 to 2 are reopened if the caller closed them: the
    next file to be opened, one in the run directory, would get such a number, and output would be printed into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is `number`
    before = sys.stdout, sys.stderr
    errors: list[OSError] = []
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not None and (not _has_descriptor(stream, number) or isinstance(stream, _LenientStream)):
            continue  # replaced by a test or a notebook
        raw = _LenientFile(number, errors if name == "stdout" else [])
        encoding = stream.encoding if stream else "utf-8"
        lines = raw.isatty() or name == "stderr"
        setattr(
            sys,
            name,
            _LenientStream(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=lines),
        )
    try:
        yield errors
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, _LenientStream):
                stream.flush()
        sys.stdout, sys.stderr = before


class _LenientFile(io.FileIO):
    """A file descriptor that records failed writes and drops them."""

    def __init__(self, number: int, errors: list[OSError]) -> None:
        super().__init__(number, "w", closefd=False)
        self.errors = errors

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.errors.append(error)
            return memoryview(data).nbytes


class _LenientStream(io.TextIOWrapper):
    """stdout or stderr on a `_LenientFile`."""


def _has_descriptor(stream: Any, number: int) -> bool:
    with suppress(OSError, AttributeError, ValueError):
        return stream.fileno() == number
    return False


def unwritten(errors: list[OSError]) -> str | None:
    """Why output was lost; None if nothing was, or if the reader closed the pipe (`| head`)."""
    lost = [error for error in errors if error.errno not in (errno.EPIPE, errno.EBADF)]
    return (lost[0].strerror or str(lost[0])) if lost else None


def error_text(error: GanbenchError) -> str:
    """An error as the command line shows it."""
    if not isinstance(error, SuiteError):
        return f"error: {error}"
    # Each line of a SuiteError begins with its file and line, which editors and terminals turn into links.
    number = len(error.issues)
    return f"{error}\n{plural(number, 'mistake')}; nothing was run."


def check_text(check: Check) -> str:
    """`✓ losses are finite`, or ✗ (! for advice) followed by the problem."""
    if check.problem is None:
        return f"  {click.style('✓', fg='green')} {check.name}"
    sign = click.style("!", fg="yellow") if check.advice else click.style("✗", fg="red")
    text = textwrap.indent("\n".join(textwrap.wrap(escape_controls(check.problem), 96)), "      ")
    return f"  {sign} {check.name}\n{text}"


def unscored_text(unscored: list[Measured], total: int) -> str:
    """Which metrics have no value or lack one, why, and which options would let them be scored."""
    lines = [f"{total - len(unscored)} of {plural(total, 'metric')} scored; not scored:"]
    for one in unscored:
        errors = dict.fromkeys(record.error for record in one.records if record.error)
        advice = f": --set {one.shortage.setting}" if one.shortage and one.shortage.setting else ""
        reason = click.style(escape_controls("; ".join(errors)), fg="red")
        lines.append(f"  {one.metric}  {reason}{advice}")
    short = [one.shortage for one in unscored if one.shortage]
    if short:
        lines.append(
            f"--n {short[0].at_hand} scores all metrics with the available samples; this changes their protocols."
        )
    return "\n".join(lines)


def score_row(record: Record, found: Measured) -> dict[str, Any]:
    """The object that `score --json` prints for one value."""
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


def score_text(found: Measured) -> str:
    """The lines that `score` prints for one metric: its values, and below them its protocol and controls. Why others
    have no value stands at the end (`unscored_text`)."""
    lines = [_score_line(record) for record in found.records if record.error is None]
    controls = ", ".join(f"{name} {value:.5g}" for name, value in found.controls.items())
    notes = [f"verdict: {found.verdict}"] if found.verdict else []
    notes += [f"protocol {found.records[0].protocol}: {found.sentence}"]
    notes += [f"controls: {controls}"] if controls else []
    notes += [f"warning: {found.warning}"] if found.warning else []
    invalid = dict.fromkeys(record.invalid for record in found.records if record.invalid)
    notes += [f"not valid: {sentence}" for sentence in invalid]
    notes += [
        f"{record.metric} is no better than the floor, {record.floor:.5g}, which a trivial sampler reaches"
        for record in found.records
        if _at_floor(record)
    ]
    wrapped = [textwrap.fill(note, 100, initial_indent="    ", subsequent_indent="      ") for note in notes]
    return "\n".join([*lines, *wrapped])


def _at_floor(record: Record) -> bool:
    """Whether a value is no better than what a trivial sampler scores."""
    if record.value is None or record.floor is None:
        return False
    return (record.value - record.floor) * (-1.0 if record.better == "lower" else 1.0) <= 0


def _score_line(record: Record) -> str:
    """`kde_ll  243.1 ± 2.1 nats  (higher is better)`"""
    sem = f" ± {record.sem:.2g}" if record.sem is not None else ""
    return f"{heading(record.metric)}  {record.value:.5g}{sem} {record.unit}  ({RANKS[record.better]})"


def _plugins_of(kind: str) -> list[Plugin]:
    from ..registry import catalog

    return [plugin for one, known in catalog().items() if f"{one}s" == kind for plugin in known.values()]


def list_rows(kind: str) -> list[dict[str, Any]]:
    """The objects that `list --json` prints for the plugins of one kind."""
    from ..suite.load import about, shipped_suites

    if kind == "suites":
        found = shipped_suites()
        return [{"kind": "suite", "name": n, "about": about(p), "path": str(p)} for n, p in found.items()]
    return [_plugin_row(plugin) for plugin in _plugins_of(kind)]


def list_lines(kind: str) -> list[tuple[str, str, str]]:
    """Name, summary and parameters of each plugin of one kind, as `list` prints them."""
    from ..suite.load import about, shipped_suites

    if kind == "suites":
        return [(name, about(path), "") for name, path in shipped_suites().items()]
    return [
        (plugin.name, plugin.summary, ", ".join(f"{p.name}={_default_text(p)}" for p in plugin.params))
        for plugin in _plugins_of(kind)
    ]


def _plugin_row(plugin: Plugin) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": plugin.kind, "name": plugin.name, "about": plugin.summary}
    row["params"] = [_param_row(param) for param in plugin.params]
    if plugin.kind == "metric":
        row["values"] = [vars(value) for value in plugin.values]
        row["needs"] = list(plugin.needs)
    if plugin.kind == "dataset":
        row["provides"] = list(plugin.provides)
    if plugin.kind == "method":
        row["interface"] = plugin.interface
    return {**row, "path": str(plugin.path)}


def _param_row(param: Param) -> dict[str, Any]:
    """A parameter; its default is also None if it could only be known by running the file."""
    from ..registry import UNKNOWN

    default = None if param.default is UNKNOWN else param.default
    names = ("name", "type", "required", "default", "doc", "search")
    known = vars(param.search).items() if param.search else ()
    search = {kind: value for kind, value in known if value is not None} or None
    values = (param.name, param.annotation, param.required, default, param.doc, search)
    return dict(zip(names, values, strict=True))


def _default_text(param: Param) -> str:
    """The default of a parameter as text."""
    from ..registry import UNKNOWN

    if param.required or param.default is UNKNOWN:
        return "required" if param.required else "…"
    if isinstance(param.default, str):
        return param.default
    return json.dumps(param.default, ensure_ascii=False, default=str)


def list_text(kind: str, rows: list[tuple[str, str, str]]) -> str:
    width = max(len(name) for name, _, _ in rows)
    lines = [heading(kind)]
    for name, what, params in rows:
        lines.append(_fit_to_terminal(f"  {name:<{width}}  {what}".rstrip()))
        if params:
            lines.append(click.style(_fit_to_terminal(f"  {'':<{width}}  {params}"), dim=True))
    return "\n".join(lines)


def _fit_to_terminal(line: str) -> str:
    """The line, cut to the terminal where there is one."""
    # A pipe gets the whole line, for grep and the like.
    width = shutil.get_terminal_size().columns
    return line if not sys.stdout.isatty() or len(line) <= width else line[: width - 1] + "…"


def heading(text: str) -> str:
    return click.style(text, bold=True)


def plugin_text(plugin: Plugin) -> str:
    """The text that `show` prints for a plugin."""
    blocks = [f"{heading(f'{plugin.name} ({plugin.kind})')}\n{plugin.path}", plugin.doc.strip()]
    if plugin.params:
        rows = [(p.name, p.annotation, _default_text(p), p.doc) for p in plugin.params]
        blocks.append("\n".join([heading("Parameters"), *_columns(rows)]))
    if ranges := [(p.name, str(p.search)) for p in plugin.params if p.search]:
        blocks.append("\n".join([heading("Searched by `tune`"), *_columns(ranges)]))
    if plugin.values:
        rows = [(value.name, value.unit, RANKS[value.better]) for value in plugin.values]
        blocks.append("\n".join([heading("Values"), *_columns(rows)]))
    if plugin.needs:
        blocks.append(f"{heading('Needs')}  {', '.join(plugin.needs)}")
    if plugin.provides:
        blocks.append(f"{heading('Provides')}  {', '.join(plugin.provides)}")
    if plugin.interface == "fit":
        blocks.append(
            "It has its own training loop (fit): seeds are trained one after the other, without tricks."
        )
    return "\n\n".join(block for block in blocks if block)


def _columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        ("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]


def suite_text(suite: Suite) -> str:
    """The size of a valid suite, and which of its metrics apply to none of its cells."""
    from ..suite.plan import make_cells

    cells = make_cells(suite)
    parts = [
        plural(len(suite.datasets), "dataset"),
        plural(len(suite.methods), "method"),
        plural(len(cells), "cell"),
        plural(sum(len(cell.seeds) for cell in cells), "training"),
    ]
    # Not a mistake: a suite may have metrics for some of its datasets only. But for none of them is worth a note.
    idle = [metric for metric in suite.metrics if not any(metric in cell.metrics for cell in cells)]
    notes = [
        f"note: {metric.name!r} applies to none of its cells: it needs {' and '.join(metric.plugin.needs)}"
        for metric in idle
    ]
    return "\n".join([f"{suite.path}: {suite.name!r} is valid: {', '.join(parts)}", *notes])
