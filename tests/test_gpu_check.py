"""scripts/gpu-check, tried on the CPU and on the pretend GPU."""

from __future__ import annotations

import json
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pretend_cuda import NAME, pretend_cuda

from ganbench.precision import float32_products

SCRIPT = Path(__file__).parent.parent / "scripts" / "gpu-check"


@pytest.fixture
def check(monkeypatch) -> ModuleType:
    """The script; with a few methods and metrics, since the others take long."""
    loader = SourceFileLoader("gpu_check", str(SCRIPT))
    spec = spec_from_loader("gpu_check", loader)
    assert spec
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)
    loader.exec_module(module)
    monkeypatch.setattr(module, "GAMES", {name: module.GAMES[name] for name in ("gan", "dcgan")})
    monkeypatch.setattr(module, "TRICKS", {})
    monkeypatch.setattr(module, "ON", {"modes": "ring", "variational_bound": "line"})
    monkeypatch.setattr(module, "SPEEDS", module.SPEEDS[:1])
    monkeypatch.setattr(module, "SECONDS", dict.fromkeys(module.SECONDS, 600))  # of a busy machine
    return module


def run(check: ModuleType, out: Path, *words: str) -> tuple[int, list[dict[str, Any]]]:
    with float32_products():  # which the script sets for good
        code = check.main([*words, "--quick", "--out", str(out)])
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert (out / "summary.md").read_text().count("\n") == len(lines) + 2
    return code, lines


def test_on_the_cpu(check, tmp_path):
    code, lines = run(check, tmp_path, "--device", "cpu", "--only", "machine,rounds,metrics,repeats,speed")
    assert code == 0
    tried = {line["what"] for line in lines if line["ok"]}
    assert {"gan", "dcgan", "modes", "variational_bound", "MLP", "convolutions"} <= tried
    (speed,) = (line for line in lines if line["section"] == "speed" and "tflop_s" in line)
    assert speed["seeds_x_rounds_s"] > 0
    assert speed["gb_s"] > 0


def test_on_the_pretend_gpu(check, tmp_path):
    with pretend_cuda():
        code, lines = run(check, tmp_path, "--only", "machine,rounds,metrics,memory,speed")
    assert [line for line in lines if line["ok"] is False] == []
    assert code == 0
    assert lines[0]["what"] == NAME
    (memory,) = (line for line in lines if line["section"] == "memory" and line["ok"])
    assert memory["stack"] == 8
    eager, graph = (line for line in lines if line["section"] == "speed" and "tflop_s" in line)
    assert graph["what"].endswith("graph")
    assert min(eager["seeds_x_rounds_s"], graph["seeds_x_rounds_s"]) > 0


def test_what_is_wrong_is_said_and_a_section_ends_at_its_deadline(check, tmp_path, monkeypatch):
    right = check.played

    def wrong(cell: Any, data: Any, device: str, debug: bool = False) -> Any:
        found = right(cell, data, device, debug)
        return found if device == "cpu" else [one + 1e-6 for one in found]

    def broken(metric: str, *args: Any) -> Any:
        raise RuntimeError("no kernel image is available")

    def forever(job: Any) -> None:
        while True:
            pass

    monkeypatch.setattr(check, "played", wrong)
    monkeypatch.setattr(check, "scored", broken)
    monkeypatch.setitem(check.SECTIONS, "speed", forever)
    monkeypatch.setitem(check.SECONDS, "speed", 0.1)
    with pretend_cuda():
        code, lines = run(check, tmp_path, "--only", "rounds,metrics,speed")
    assert code == 1
    bad = {line["what"]: line for line in lines if line["ok"] is False}
    assert bad["gan"]["apart"] > 1e-8
    assert "no kernel image" in bad["modes"]["error"]
    assert any("its time is over" in line["what"] for line in lines if line["section"] == "speed")


def test_a_section_and_a_device_must_be_there(check, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        check.main(["--only", "sped", "--device", "cpu"])
    assert "there is no section 'sped'; there are machine, rounds" in capsys.readouterr().err
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        check.main([])
    assert "--device cpu tries the script without" in capsys.readouterr().err


@pytest.mark.slow
def test_the_table_on_the_cpu(check, tmp_path):
    _, lines = run(check, tmp_path, "--device", "cpu", "--only", "table")
    (ran,) = (line for line in lines if "ganbench run" in line["what"])
    assert ran["ok"] in (True, None), (tmp_path / "run.txt").read_text()  # None: a busy machine was too slow
