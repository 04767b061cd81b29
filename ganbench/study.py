"""From Python what the command line does: run a suite, read its records, take a trained seed up again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import registry
from .contracts import Data, Model
from .errors import RequestError, StoreError

if TYPE_CHECKING:
    from pandas import DataFrame


def load_data(name: str, **params: Any) -> Data:
    """A dataset by its name (`ring`) or file (`./mine.py`) with these parameters, the same for everybody.
    Raises PluginError, and DatasetError where its files are missing or wrong."""
    from .execution.worker import load_data as load
    from .suite.load import PluginSpec

    return load(PluginSpec(registry.find("dataset", name), params))


def run_suite(
    suite: str | Path,
    out: str | Path,
    *,
    overrides: str | Sequence[str] = (),
    seeds: int | None = None,
    device: str = "auto",
    jobs: int | None = None,
    quiet: bool = False,
) -> DataFrame:
    """Run a suite, as `ganbench run` does, and give its records; see `load_records`.

    suite: a YAML file, or the name of a shipped one
    out: the run directory, where tables, plots and report are written too; what is finished there is not repeated
    overrides: "train.steps=100", as after --set, or several of them
    seeds: 0 to seeds - 1 instead of the suite's own
    device: "auto", "cpu" or "cuda"
    jobs: worker processes; by default one for each core, or on CUDA one for each GPU
    quiet: print nothing

    A seed that failed or diverged is a row with a status. A script that calls this needs the usual
    `if __name__ == "__main__":` around it, since workers are processes; a notebook does not. Raises SuiteError with
    all mistakes of the suite, RequestError, StoreError, and KeyboardInterrupt with what is finished kept.
    """
    from rich.console import Console

    from .execution import run
    from .suite.load import load

    console = Console(quiet=quiet)
    code = run.run(load(suite, overrides, seeds), Path(out), device=device, jobs=jobs, console=console)
    if code == 130:
        raise KeyboardInterrupt
    return load_records(out)


def load_records(out: str | Path) -> DataFrame:
    """The records of a run: a row for each cell, seed and value, the columns of `ganbench.contracts.COLUMNS`;
    `value` and `sem` are NaN where there are none. Raises StoreError where there is no readable run."""
    from .store.results import read_records as load

    return load(Path(out))


def load_model(
    out: str | Path, label: str, seed: int = 0, *, dataset: str | None = None, device: str = "cpu"
) -> Model:
    """A trained seed of a run as metrics see it: `.samples(n)`, and for games `.generate(z)`, `.nets` and `.game`.

    label: of the method in the suite
    seed: one of the suite's
    dataset: label of the dataset, where the method was run on more than one
    device: where it is to compute

    The method and the dataset are made again from the run directory's own copies of their sources. Their code is run:
    load nothing from a directory that you do not trust. Nothing else of the suite is looked at: it does not matter
    whether the file of another method, dataset or metric is still there.

    Raises RequestError for a label or seed that is not there or was not trained (or was trained on other data or by
    other code), StoreError where there is no run, SuiteError where the plugins of this label cannot be read.
    """
    from .execution.worker import load_data as load_part
    from .store import layout
    from .store.rundir import Store
    from .suite.plan import data_digest, read_cell
    from .training.model import model

    store = Store(Path(out), read_only=True)
    path = store.path(layout.SUITE)
    if store.read_text(path) is None:  # also refuses links, and FIFOs, which reading a suite would wait for
        raise StoreError(f"{out}: is not a folder of results (it has no {layout.SUITE})")
    cell = read_cell(path, label, dataset)
    if seed not in cell.seeds:
        raise RequestError(
            f"{out}: {cell.label} has no seed {seed}; its seeds are {', '.join(map(str, cell.seeds))}"
        )
    data = load_part(cell.dataset.part)
    cell = replace(cell, digest=data_digest(data, cell.dataset.part))
    trained = store.training(cell, seed)
    if trained is None or trained.status != "ok":
        found = f"{trained.status} ({trained.error})" if trained else "not trained"
        raise RequestError(f"{out}: seed {seed} of {cell.label} is {found}; run the suite again")
    return model(cell, data, seed, *store.tensors(cell.id, seed), device=device)
