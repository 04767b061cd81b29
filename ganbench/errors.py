"""Everything that ganbench raises on purpose.

GanbenchError
├── RequestError            the request is wrong or cannot be met (exit code 2)
│   ├── SuiteError          mistakes in a suite, all of them at once
│   ├── PluginError         a method, trick, metric or dataset file that cannot be used
│   ├── DatasetError        data that are missing, truncated or not as declared
│   └── SampleError         samples of the wrong shape, number or values
└── StoreError              a run directory that cannot be read or written

An error message is written for newcomers: what is wrong and where, what was expected, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class GanbenchError(Exception):
    """Root of the tree; its text is shown to the user without a traceback."""


class RequestError(GanbenchError):
    """The request is wrong or cannot be met."""


class PluginError(RequestError):
    """A file of methods, tricks, metrics or datasets that cannot be used."""


class DatasetError(RequestError):
    """Data that are missing, truncated or not as declared."""


class SampleError(RequestError):
    """Samples of the wrong shape, number or values."""


class StoreError(GanbenchError):
    """A run directory that cannot be read or written."""


@dataclass(frozen=True)
class SuiteIssue:
    """One mistake in a suite: its position, and what was expected."""

    file: str
    line: int  # counted from 1; 0 if `file` is an option of the command line
    column: int  # counted from 1
    key: str  # the path of keys to it, such as "methods[2].params.lr"
    message: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {key}{self.message}"


class SuiteError(RequestError):
    """All mistakes of one suite, in `issues`, in the order of the file."""

    def __init__(self, issues: Sequence[SuiteIssue]) -> None:
        self.issues = tuple(sorted(issues, key=lambda issue: (issue.file, issue.line, issue.column)))
        super().__init__("\n".join(map(str, self.issues)))

    @property
    def problems(self) -> tuple[SuiteIssue, ...]:
        """`issues` under their former name."""
        return self.issues


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'gan'?`, or the choices if no name is similar, to be appended to an error message."""
    names = sorted(names)
    by_lower = {known.lower(): known for known in names}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {by_lower[near[0]]!r}?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"; expected one of: {shown}" if names else ""
