"""In which arithmetic float32 numbers are multiplied."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import pytest
import torch
from cells import cells, pixels, points

from ganbench.errors import SuiteError
from ganbench.precision import float32_products, set_float32, training_precision
from ganbench.suite.load import load
from ganbench.training import trace
from ganbench.training.loop import train
from ganbench.training.model import model

SWITCHES = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)


def switches() -> list[str]:
    return [switch.fp32_precision for switch in SWITCHES]


def test_the_setting_is_left_as_it_was():
    before = switches()
    try:
        set_float32("tf32")
        with float32_products():
            assert switches() == ["ieee"] * 3
        assert switches() == ["tf32"] * 3
    finally:
        for switch, value in zip(SWITCHES, before, strict=True):
            switch.fp32_precision = value


def test_bf16_rounds_products_and_convolutions_inside_vmap():
    torch.manual_seed(0)
    x, w, images, kernels = (
        torch.randn(*size) for size in ((3, 5, 2), (3, 4, 2), (2, 4, 1, 8, 8), (2, 3, 1, 3, 3))
    )
    functions = [
        (torch.nn.functional.linear, x, w),
        (lambda a, b: a @ b.T, x, w),
        (torch.nn.functional.conv2d, images, kernels),
    ]
    for function, a, b in functions:
        with training_precision("bf16"):
            made = torch.vmap(function)(a, b)
        assert made.dtype == torch.float32
        assert torch.equal(made, made.bfloat16().float())
        exact = torch.vmap(function)(a, b)
        assert 1e-4 < (made - exact).abs().max() < 0.1
        with training_precision("bf16"):
            assert torch.vmap(function)(a.double(), b.double()).dtype == torch.float64


SEES = """
    import torch
    from dataclasses import dataclass
    from ganbench import Adam, Game, Player, method, mlp

    SEEN = []

    @method
    @dataclass(frozen=True)
    class Sees:
        def game(self, data):
            return Game({"G": mlp(2, 2)}, {"G": Player("G", self.loss, Adam(1e-2))}, {"z": (2,)},
                        lambda nets, z: nets.G(z))

        def loss(self, nets, b):
            made = nets.G(b.z)
            SEEN.append((str(made.dtype), torch.backends.cudnn.conv.fp32_precision))
            return (made - b.x).square().mean()
"""


@pytest.mark.parametrize(("precision", "switch"), [("float32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_losses_are_computed_in_the_stated_precision(tmp_path, precision, switch):
    (cell,) = cells(
        tmp_path, "[./mine.py]", train=f"{{steps: 2, batch: 4, precision: {precision}}}", plugins=SEES
    )
    before = switches()
    (one,) = train(cell, points(), [0])
    assert switches() == before
    from ganbench import registry

    seen = registry.load(cell.method.part.plugin).game.__globals__["SEEN"]
    assert set(seen) == {("torch.float32", switch)}
    assert one.dtype == ("float32" if precision == "float32" else f"float32 ({precision})")


@pytest.mark.parametrize("method", ["gan", "{method: gan, params: {net: conv, width: 4}, tricks: [ema]}"])
def test_bf16_trains_float32_parameters_and_scores_in_float32(tmp_path, monkeypatch, method):
    monkeypatch.setattr(trace, "MIN_ROUNDS", 1)  # rounds are recorded
    data = points() if method == "gan" else pixels(8)
    found = []
    for precision in ("float32", "bf16"):
        folder = tmp_path / precision
        folder.mkdir()
        (cell,) = cells(folder, f"[{method}]", train=f"{{steps: 12, batch: 16, precision: {precision}}}")
        (one,) = train(cell, data, [0])
        assert one.status == "ok"
        assert {tensor.dtype for tensor in one.state.values()} == {torch.float32}
        assert {curve.dtype for name, curve in one.curves.items() if name != "step"} == {torch.float32}
        made = model(cell, data, 0, one.state, None).samples(10)
        assert made.dtype == torch.float32
        found.append(made)
    assert 1e-6 < (found[0] - found[1]).abs().max() < 0.3


def test_the_precision_is_part_of_the_key_where_it_is_not_float32(tmp_path):
    keys = {}
    for precision in (None, "float32", "tf32", "bf16"):
        folder = tmp_path / str(precision)
        folder.mkdir()
        more = f", precision: {precision}" if precision else ""
        (cell,) = cells(folder, "[gan]", train=f"{{steps: 2, batch: 4{more}}}")
        keys[precision] = replace(cell, digest="data").train_keys[0]
    assert keys[None] == keys["float32"]
    assert len(set(keys.values())) == 3


def test_float64_has_no_other_precision(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(
        textwrap.dedent("""
        name: t
        train: {dtype: float64, precision: tf32}
        datasets: [ring]
        methods: [gan]
        metrics: [modes]
    """)
    )
    with pytest.raises(SuiteError, match=r"train.precision: applies to float32 only; leave out"):
        load(path)
