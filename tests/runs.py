"""Runs of suites in tests: in this process, or in one of their own that can be killed."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from ganbench.execution import run as execute
from ganbench.execution import worker
from ganbench.execution.progress import ProgressDir, TaskResult
from ganbench.suite import load

OURS = "./plugins_for_runs.py:"
DATA = "{ring: {n_train: 200, n_valid: 20, n_test: 50}}"


def written(folder: Path, name: str, text: str) -> Path:
    """A suite with the plugins of the tests beside it."""
    shutil.copy(Path(__file__).with_name("plugins_for_runs.py"), folder)
    path = folder / name
    path.write_text(text)
    return path


class Bench:
    """A folder with a suite, and runs of it into `out`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        self.text = ""
        shutil.copy(Path(__file__).with_name("plugins_for_runs.py"), folder)

    def suite(self, *methods: str, metrics: str = "MeanNorm", seeds: int = 2, data: str = DATA) -> Path:
        """Write the suite."""
        path = self.folder / "bench.yaml"
        named = ", ".join(m if m.startswith("{") else OURS + m for m in methods)
        scored = ", ".join(OURS + m for m in metrics.split(" "))
        path.write_text(
            f"name: bench\nseeds: {seeds}\ntrain: {{steps: 20, batch: 8}}\ndatasets: [{data}]\n"
            f"methods: [{named}]\nmetrics: [{scored}]\n"
        )
        return path

    def run(self, *methods: str, out: Path | None = None, **options: Any) -> int:
        """Run the suite in this process; its exit code. What it prints is in `text`."""
        kept = {name: options.pop(name) for name in ("metrics", "seeds", "data") if name in options}
        return self.run_suite(self.suite(*methods, **kept), out, **options)

    def run_suite(self, path: Path, out: Path | None = None, **options: Any) -> int:
        """Run a suite that is written already."""
        loaded = load.load(path)
        file = io.StringIO()
        console = Console(file=file, width=200)
        try:
            return execute.run(loaded, out or self.out, device="cpu", console=console, **options)
        finally:
            self.text = file.getvalue()

    def rows(self, out: Path | None = None) -> list[dict[str, Any]]:
        """The records."""
        lines = ((out or self.out) / "records.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def untimed(self, out: Path | None = None) -> list[dict[str, Any]]:
        """The records without the two columns of seconds."""
        drop = ("seconds", "train_seconds")
        return [{k: v for k, v in row.items() if k not in drop} for row in self.rows(out)]

    def trainings(self) -> dict[str, dict[str, Any]]:
        """What train.json says, by cell label and seed, as in "ring-gan/0"."""
        found = {}
        for path in sorted(self.out.glob("cells/*/seed-*/train.json")):
            cell = path.parts[-3].rpartition("-")[0]
            found[f"{cell}/{path.parts[-2].removeprefix('seed-')}"] = json.loads(path.read_text())
        return found

    def finished(self) -> dict[str, str]:
        """When each training was finished."""
        return {name: training["finished"] for name, training in self.trainings().items()}


def killed_at_birth(times: int, task: worker.Task, progress: ProgressDir, *given: Any) -> None:
    """A worker that is killed before it has begun with its task, the first so many times."""
    marks = progress.folder / "births"
    marks.mkdir(exist_ok=True)
    if len(list(marks.iterdir())) < times:
        (marks / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    worker.worker_main(task, progress, *given)


def idle(task: worker.Task, progress: ProgressDir, *_: Any) -> None:
    """A worker that ends well and has done nothing."""
    progress.write_result(task.number, TaskResult())


MAIN = """
import signal
import sys
from pathlib import Path
from ganbench.execution import local
from ganbench.execution import run as execute
from ganbench.suite import load as suite
if __name__ == "__main__":
    execute.REPORTS, execute._print_tables = (), lambda root, console: None
    local.PRELOAD.remove("sklearn.datasets")  # takes a second, and nothing here uses it
    code = execute.run(suite.load(sys.argv[1]), Path(sys.argv[2]), device="cpu")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C may meet an interpreter that is ending
    sys.exit(code)
"""


def _default_signals() -> None:
    """A child inherits what is ignored: SIGHUP of tests under nohup, SIGINT of those that a script runs with `&`."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def start(bench: Bench, path: Path, **environment: str) -> subprocess.Popen[str]:
    """Run a suite in a process group of its own, with these variables added to the environment."""
    main = bench.folder / "main.py"
    main.write_text(MAIN)
    return subprocess.Popen(
        [sys.executable, str(main), str(path), str(bench.out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_default_signals,
        env={**os.environ, **environment},
    )


def until(condition: Callable[[], object], seconds: float = 600) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def slow(log: Path, seconds: float) -> str:
    """A method that takes its time."""
    return f"{{method: '{OURS}Constant', params: {{log: '{log}', seconds: {seconds}}}}}"
