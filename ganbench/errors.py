"""Everything that ganbench raises on purpose.

GanbenchError
├── RequestError            the request cannot be met as it stands (exit code 2)
│   ├── SuiteError          mistakes in a suite, all of them at once
│   ├── PluginError         a method, trick, metric or dataset file that cannot be used
│   ├── DatasetError        data that is missing, truncated or not what it says it is
│   └── SampleError         samples of the wrong shape, number or values
└── StoreError              a run directory that cannot be read or written

An error's text is what a newcomer reads: what was found, where, what was expected, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class GanbenchError(Exception):
    """Root of the tree; its text is shown to the user without a traceback."""


class RequestError(GanbenchError):
    """The request cannot be met as it stands."""


class PluginError(RequestError):
    """A file of methods, tricks, metrics or datasets that cannot be used."""


class DatasetError(RequestError):
    """Data that is missing, truncated or not what it says it is."""


class SampleError(RequestError):
    """Samples of the wrong shape, number or values."""


class StoreError(GanbenchError):
    """A run directory that cannot be read or written."""


@dataclass(frozen=True)
class SuiteIssue:
    """One mistake in a suite: where it stands, and what would have been right."""

    file: str
    line: int  # counted from 1; 0 where `file` is an option of the command line
    column: int  # counted from 1
    key: str  # the path of keys that leads there, as "methods[2].params.lr"
    message: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {key}{self.message}"


Problem = SuiteIssue  # its name before


class SuiteError(RequestError):
    """All mistakes of one suite, in `issues`, in the order of the file."""

    def __init__(self, issues: Sequence[SuiteIssue]) -> None:
        self.issues = tuple(sorted(issues, key=lambda issue: (issue.file, issue.line, issue.column)))
        super().__init__("\n".join(map(str, self.issues)))

    @property
    def problems(self) -> tuple[SuiteIssue, ...]:
        """`issues` by the name that they had before."""
        return self.issues


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'gan'?`, or the choices when no name is near, to be appended to an error."""
    names = sorted(names)
    by_lower = {known.lower(): known for known in names}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {by_lower[near[0]]!r}?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"; expected one of: {shown}" if names else ""
