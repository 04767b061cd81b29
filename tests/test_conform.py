"""Conformance: everything that is shipped passes, and every broken file is told what is wrong with it."""

from __future__ import annotations

import textwrap

import pytest
from click.testing import CliRunner

from ganbench import PluginError
from ganbench import conformance as conform
from ganbench.cli.commands import main
from ganbench.conformance import fixtures
from ganbench.registry import catalog

SMALL = {"kde_ll_cv": {"n": 500}, "ais_ll": {"steps": 50}}  # metrics that take their time by default
PLAYABLE = ("digits", "grid", "mixture1d", "ring", "swiss_roll")  # datasets that need no files


# They take a second or more each, or are played in other quick tests too.
SLOW = {"metz_2017", "estimated_divergence", "kde_ll_scales", "kde_ll_folds", "kde_ll", "kde_ll_cv"} | {
    *("sliced_wasserstein", "ais_ll", "class_coverage"),
    *("dcgan", "dragan", "gan_2014", "lapgan", "r3gan", "sngan", "veegan", "wgan_gp"),
}


def shipped(kind):
    return [
        pytest.param(plugin, marks=pytest.mark.slow if name in SLOW else (), id=name)
        for name, plugin in catalog()[kind].items()
    ]


def problems(checks):
    return {check.name: check.problem for check in checks if check.problem}


@pytest.mark.parametrize("plugin", shipped("method"))
def test_shipped_methods(plugin):
    small = {name: value for name, value in {"width": 8, "squarings": 1}.items() if plugin.param(name)}
    checks = conform.check_method(plugin, **small)
    assert problems(checks) == {}  # advice neither
    assert len(checks) >= 4


@pytest.mark.parametrize("plugin", shipped("trick"))
def test_shipped_tricks(plugin):
    assert problems(conform.check(plugin)) == {}


@pytest.mark.parametrize("plugin", [*shipped("divergence"), *shipped("feature"), *shipped("metric")])
def test_shipped_divergences_features_and_metrics(plugin):
    checks = (
        conform.check_metric(plugin, **SMALL[plugin.name]) if plugin.name in SMALL else conform.check(plugin)
    )
    found = problems(checks)
    untried = {"parameters", "bound"} & {
        *plugin.needs
    }  # of a method, which the checks of a metric do not play
    assert found == {} or (list(found) == ["it can be tried"] and untried)


@pytest.mark.parametrize("name", PLAYABLE)
def test_shipped_datasets(name):
    assert problems(conform.check_dataset(name)) == {}


HEAD = """
from dataclasses import dataclass
import random
import torch
from torch import nn
from ganbench import *
"""

GAN = (
    HEAD
    + """
@method
@dataclass(frozen=True)
class Mine:
    '''Someone 2026, eq. 1: a GAN.'''

    width: int = 8  # units of the hidden layer

    def game(self, data):
        nets = {{"G": {generator}, "D": mlp(data.shape, self.width, 1)}}
        offset = {offset}
        return Game(nets, {{"D": Player("D", lambda n, b: {d_loss}, Adam()),
                           "G": Player("G", lambda n, b: {g_loss}, Adam())}},
                    {{"z": (4,)}}, lambda n, z: {sample})
"""
)
RIGHT = {
    "generator": "mlp(4, self.width, data.shape, squash=data.scale)",
    "offset": "0.0",
    "d_loss": "bce_real(n.D(b.x)) + bce_fake(n.D(n.G(b.z)))",
    "g_loss": "bce_real(n.D(n.G(b.z) + offset))",
    "sample": "n.G(z)",
}


def checked(folder, source, kind="method"):
    """The problems of a file with one plugin."""
    path = folder / "mine.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return problems(getattr(conform, f"check_{kind}")(path))


def test_a_file_that_is_right(tmp_path):
    assert checked(tmp_path, GAN.format(**RIGHT)) == {}


@pytest.mark.parametrize(
    ("wrong", "name", "text"),
    [
        (
            {
                "generator": "mlp(4, self.width, 3)",
                "d_loss": "bce_real(n.D(b.x))",
                "g_loss": "n.G(b.z).mean()",
            },
            "samples have the shape of the data",
            "6 samples have the shape [6, 3], expected [6, 2]; end the generator with data.shape",
        ),
        (
            {"g_loss": "bce_real(n.D(n.G(b.z))) * float('nan')"},
            "losses and gradients are finite",
            "the loss of 'G' is NaN or infinite before the first step",
        ),
        (
            {"d_loss": "n.D(b.x).square().mean() + n.D(0 * b.x).sub(n.D(0 * b.x)).abs().sqrt().sum()"},
            "losses and gradients are finite",
            "the gradient of 'D' is NaN or infinite before the first step",
        ),
        (
            {"g_loss": "bce_real(n.D(n.G(b.z).detach())) + 0 * n.flat('G').sum()"},
            "every loss reaches the nets of its player",
            "the loss of 'G' has no gradient in its net 'G'; is that net left out, or behind detach()",
        ),
        (
            {"g_loss": "bce_real(n.D(n.G(b.z).detach()))"},
            "it runs",
            "the loss of player 'G' does not depend on the parameters of its nets",
        ),
        (
            {"g_loss": "n.D(n.G(b.z))"},
            "losses are single numbers",
            "the loss of 'G' has the shape [8, 1]; end it with .mean()",
        ),
        (
            {"sample": "n.G(z) - n.G(z).mean(0)"},
            "a sample does not depend on its batch",
            "the sample of a latent depends on the other latents of its batch",
        ),
        (
            {"g_loss": "bce_real(n.D(n.G(b.z) + torch.randn(2)))"},
            "it runs",
            "do not draw random numbers inside a loss: declare them as draws of the game",
        ),
        (
            {"g_loss": "bce_real(n.D(n.G(b.z))) if b.x.mean() > 0 else bce_real(n.D(n.G(b.z)))"},
            "it runs",
            "use torch.where",
        ),
        (
            {"offset": "torch.randn(2)"},
            "a seed alone gives what it gives in a stack",
            "a tensor that game() makes and that a loss or sample uses is the first seed's for all",
        ),
        (
            {"offset": "random.random()"},
            "a seed alone gives what it gives in a stack",
            "take all random numbers from PyTorch's generator in game() and from draws in losses",
        ),
    ],
)
def test_broken_methods(tmp_path, wrong, name, text):
    found = checked(tmp_path, GAN.format(**{**RIGHT, **wrong}))
    assert text in found[name]


def test_exceptions_name_the_line(tmp_path):
    found = checked(tmp_path, GAN.format(**{**RIGHT, "g_loss": "n.D(n.G(b.z) @ torch.ones(3, 3)).mean()"}))
    assert found["it runs"].startswith("RuntimeError: ")
    assert "(mine.py:19)" in found["it runs"]


def test_undocumented_parameters_and_sources(tmp_path):
    source = (
        GAN.format(**RIGHT)
        .replace("  # units of the hidden layer", "")
        .replace("Someone 2026, eq. 1: a", "A")
    )
    found = checked(tmp_path, source)
    assert found["every parameter is explained"].startswith("write a comment after width")
    assert "Goodfellow et al. 2014" in found["the docstring begins with its source and year"]


def test_samples_outside_the_scale(tmp_path):
    source = GAN.format(**{**RIGHT, "generator": "mlp(4, self.width, data.shape)"})
    (problem,) = checked(tmp_path, source).values()
    assert problem.startswith("on images [1, 8, 8]: values lie in ")
    assert "squash=data.scale" in problem
    assert "Rescale((-1.0, 1.0), data.scale)" in problem


def test_a_method_that_only_plays_points_is_told_how_to_say_so(tmp_path):
    for name in "abcd":  # a module is loaded once
        (tmp_path / name).mkdir()
    source = GAN.format(**{**RIGHT, "generator": "mlp(4, self.width, 2)"}).replace("mlp(data.shape", "mlp(2")
    (problem,) = checked(tmp_path / "a", source).values()
    assert problem.startswith("on images [1, 8, 8]: RuntimeError: ")
    assert "raises ganbench.PluginError in game() or fit()" in problem
    refusing = "if len(data.shape) > 1: raise PluginError('mine: is for points')\n        nets = {"
    assert checked(tmp_path / "b", source.replace("nets = {", refusing, 1)) == {}
    source = FIT.format(samples="torch.randn(n, 2, generator=generator)")
    (problem,) = checked(tmp_path / "c", source).values()
    assert problem.startswith("on images [1, 8, 8]: the sampler of 'mine': samples have the shape")
    source = source.replace(
        "        return", "        if len(data.shape) > 1: raise PluginError('points only')\n        return"
    )
    assert checked(tmp_path / "d", source) == {}


PENALTY = "(torch.autograd.grad(n.D({x}).sum(), {x}, create_graph=True)[0]).square().sum()"


@pytest.mark.parametrize(
    ("d_loss", "hint"),
    [
        (f"n.D(b.x).mean() + {PENALTY.format(x='b.x')}", "take ganbench.gradient_norm(net, x)"),
        (
            f"n.D(b.x).mean() + {PENALTY.format(x='b.x.requires_grad_()')}",
            "take ganbench.gradient_norm(net, x)",
        ),
        (
            "(n.D(b.x) @ torch.ones(1, 1, dtype=torch.float64)).mean()",
            "create constants in the dtype of the tensors they are combined with",
        ),
        (
            "(n.D(b.x) @ torch.ones(1, 1)).mean()",
            "create constants in the dtype of the tensors they are combined with",
        ),
    ],
)
def test_hints_on_frequent_mistakes(tmp_path, d_loss, hint):
    assert hint in checked(tmp_path, GAN.format(**{**RIGHT, "d_loss": d_loss}))["it runs"]


@pytest.mark.parametrize(
    "change",
    [
        ("@dataclass(frozen=True)\n", ""),
        (
            "@dataclass(frozen=True)\nclass Mine:\n    '''Someone 2026, eq. 1: a GAN.'''\n\n    width: int = 8",
            "class Mine:\n    '''Someone 2026, eq. 1: a GAN.'''\n\n    def __init__(self, width=8):\n"
            "        self.width = width",
        ),
    ],
)
def test_parameters_are_fields_of_a_dataclass(tmp_path, change):
    source = GAN.format(**RIGHT)
    assert change[0] in source
    found = checked(tmp_path, source.replace(*change, 1))
    assert "write @dataclass(frozen=True) below @method" in found["its parameters are fields of a dataclass"]


FIT = (
    HEAD
    + """
@method
@dataclass(frozen=True)
class Mine:
    '''Someone 2026: samples.'''

    def fit(self, data, seed, budget):
        return lambda n, generator: {samples}
"""
)


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        ("torch.rand(n, *data.shape, generator=generator)", None),
        ("torch.randn(n, 2) + random.random()", "two trainings of one seed gave different samples"),
        ("torch.zeros(n, 3)", "samples have the shape [10000, 3], expected [N, 2]"),
        ("torch.full((n, 2), float('nan'))", "20000 values are NaN or infinite"),
        ("torch.zeros(n, 3)", "a sampler is a function (n, generator) -> tensor [n, *data.shape]"),
        ("torch.zeros(5, 2)", "returned 5 samples instead of 10000"),
        ("3", "a sampler is a function (n, generator)"),
    ],
)
def test_methods_that_train_by_themselves(tmp_path, samples, problem):
    found = checked(tmp_path, FIT.format(samples=samples))
    assert (problem is None) == (found == {})
    assert problem is None or any(problem in text for text in found.values())


@pytest.mark.parametrize("sampler", ["lambda n: torch.zeros(n, *data.shape)", "None"])
def test_what_is_no_sampler_is_told_its_signature(tmp_path, sampler):
    source = FIT.replace("lambda n, generator: {samples}", sampler)
    found = checked(tmp_path, source)
    assert "(n, generator) -> tensor [n, *" in found["it runs"]


TRICK = (
    HEAD
    + """
@trick
@dataclass(frozen=True)
class Mine:
    '''Someone 2026: a trick.'''

    def __call__(self, game, data):
        {body}
"""
)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            "return game.with_loss('G', lambda inner, n, b: 2 * inner(n, b) + n.flat('G').square().sum())",
            None,
        ),
        ("return game", "three rounds with it gave the same samples as without"),
        (
            "game.with_loss('G', lambda inner, n, b: 2 * inner(n, b))",
            "it returned a NoneType; return the game",
        ),
        ("return game.with_loss('H', lambda inner, n, b: inner(n, b))", "this game has no player 'H'"),
        ("game.nets['D'] = mlp(2, 3, 1); return game", "it changed game.nets in place"),
        ("return game.with_draws(z=(5,))", "it removes the draw 'z'"),
    ],
)
def test_tricks(tmp_path, body, problem):
    found = checked(tmp_path, TRICK.format(body=body), "trick")
    assert (problem is None) == (found == {})
    assert problem is None or any(problem in text for text in found.values())


METRIC = (
    HEAD
    + """
@metric(Value("far", "units", "lower"))
@dataclass(frozen=True)
class Mine:
    '''Mean distance from the origin.'''

    def __call__(self, model, data):
        x = model.samples(20).flatten(1)
        {body}
"""
)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return Score(float(x.norm(dim=1).mean()), n=20, details={'x': x})", None),
        ("return float(x.mean())", "it declares 1 value(s) but returned: float; return Score(value)"),
        ("return Score(float('nan'))", "far is NaN or infinite for good samples"),
        ("return Score(random.random())", "take random numbers from model.generator(purpose)"),
        ("return Score(1.0, details={'set': {1}})", "details['set'] is a set"),
    ],
)
def test_metrics(tmp_path, body, problem):
    found = checked(tmp_path, METRIC.format(body=body), "metric")
    assert (problem is None) == (found == {})
    assert problem is None or any(problem in text for text in found.values())


DATASET = (
    HEAD
    + """
@dataset({provides})
def mine(generator):
    '''Dots.'''
    x = {x}
    return Data("mine", x, {valid}, {test}, (2,), labels={labels})
"""
)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"x": "torch.randn(5, 2)"}, "two calls gave different data"),
        ({"x": "torch.zeros(5, 3)"}, "train has the shape [5, 3], expected ['N', 2]"),
        ({"x": "torch.zeros(5, 2).double()"}, "train is torch.float64"),
        ({"provides": "provides=('modes',)"}, "it says that it provides modes, but its Data has none"),
        ({"labels": "Labels(*[torch.zeros(4)] * 3)"}, "the labels of train have the shape [4], expected [5]"),
        ({"valid": "x"}, "5 of 5 valid examples are also in train; draw the splits from different examples"),
        ({"test": "x.flip(0)"}, "5 of 5 test examples are also in train"),
        ({"valid": "x + 2"}, "5 of 5 test examples are also in valid"),
        ({"test": "torch.cat([x[:1], torch.rand(49, 2) + 9])"}, "1 of 50 test examples are also in train"),
        (
            {"x": "(torch.randn(200, 2, generator=generator)).round()", "test": "x"},
            "200 of 200 test examples are also in",
        ),
    ],
)
def test_datasets(tmp_path, change, problem):
    given = {"provides": "", "x": "torch.randn(5, 2, generator=generator)", "labels": "None"}
    given |= {"valid": "x + 1", "test": "x + 2", **change}
    found = checked(tmp_path, DATASET.format(**given), "dataset")
    assert (problem is None) == (found == {})
    assert problem is None or any(problem in text for text in found.values())


WHOLE = """
def mine(generator):
    '''Counts.'''
    train, valid, test = (torch.randint(20, (n, 1), generator=generator).float() for n in (2000, 300, 400))
    return Data("mine", train, valid, test, (1,))
"""


def test_whole_numbers_coincide_in_independent_splits(tmp_path):
    assert checked(tmp_path, f"{HEAD}\n@dataset(){WHOLE}", "dataset") == {}


def test_a_few_shared_examples_are_advice(tmp_path):
    source = f"{HEAD}\n@dataset(){WHOLE}".replace("torch.randint(20, (n, 1)", "torch.rand((n, 1)")
    source = source.replace('    return Data("mine"', '    test[:3] = train[7:10]\n    return Data("mine"')
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    found = [check for check in conform.check_dataset(tmp_path / "mine.py") if check.problem]
    assert [check.name for check in found] == ["its splits hold different examples"]
    assert found[0].ok
    assert "3 of 400 test examples are also in train; draw" in found[0].problem


@pytest.mark.parametrize(
    ("says", "problem"),
    [("'discriminator',", None), ("'bound',", "it says that it provides bound, but its game has none")],
)
def test_a_method_has_what_it_says_it_provides(tmp_path, says, problem):
    source = GAN.format(**RIGHT).replace("@method", f"@method(provides=({says}))")
    assert list(checked(tmp_path, source).values()) == ([problem] if problem else [])


DIVERGENCE = (
    HEAD
    + """
@divergence
@dataclass(frozen=True)
class Mine(Divergence):
    '''Kullback-Leibler by hand.'''

    def f(self, u):
        return {f}

    def conjugate(self, t):
        return {conjugate}

    def activation(self, v):
        return {activation}
"""
)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"f": "u * u.log() + 1"}, "f(1) = 1, expected 0"),
        ({"f": "-u * u.log()"}, "f bends downwards"),
        ({"conjugate": "torch.exp(t)"}, "but the supremum is"),
        ({"conjugate": "torch.exp(t - 1) - 0.5"}, "the variational bound would not hold"),
        ({"activation": "-v"}, "activation(v) does not increase"),
    ],
)
def test_divergences(tmp_path, change, problem):
    given = {"f": "u * u.log()", "conjugate": "torch.exp(t - 1)", "activation": "v", **change}
    found = checked(tmp_path, DIVERGENCE.format(**given), "divergence")
    assert (problem is None) == (found == {})
    assert problem is None or any(problem in text for text in found.values())


FEATURE = (
    HEAD
    + """
@feature
@dataclass(frozen=True)
class Mine:
    def __call__(self, x):
        return {features}
"""
)


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        ("x.flatten(1).square()", None),
        ("x.flatten(1).sum(1)", "for 6 examples it gave [6], expected [6, d]"),
        ("3", "it gave int"),
        ("(x.flatten(1) - 9).log()", "NaN or infinity"),
        ("x.flatten(1).detach().requires_grad_()", "no gradient reaches the examples"),
        ("x.flatten(1) - x.flatten(1).mean(0)", "depend on other examples"),
        ("nn.functional.avg_pool2d(x, 2).flatten(1)", None),  # images only
    ],
)
def test_features(tmp_path, features, problem):
    found = checked(tmp_path, FEATURE.format(features=features), "feature")
    assert (problem is None) == (found == {})
    assert problem is None or any(problem in text for text in found.values())


def test_a_class_and_a_name_are_found(tmp_path):
    assert problems(conform.check_trick("r1")) == {}
    assert problems(conform.check_method(fixtures.Reference)) == {}
    with pytest.raises(PluginError, match="there is no trick 'ewa'; did you mean 'ema'"):
        conform.check_trick("ewa")


def call(*arguments):
    return CliRunner().invoke(main, ["test", *map(str, arguments)])


def test_the_command(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(GAN.format(**RIGHT))
    done = call(path)
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "mine (method)")
    assert "  ✓ losses and gradients are finite" in done.stdout.splitlines()
    assert done.stdout.endswith("all checks passed\n")

    path = tmp_path / "wrong.py"
    path.write_text(GAN.format(**{**RIGHT, "g_loss": "n.D(n.G(b.z))"}))
    done = call(path, "--data", "ring")
    assert done.exit_code == 1
    assert (
        "  ✗ losses are single numbers\n      the loss of 'G' has the shape [8, 1]; end it with .mean()\n"
        in done.stdout
    )
    assert done.stdout.endswith("1 check failed\n")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "torn.py").write_text("def (\n")
    for name, text in (
        ("none.py", "no such file"),
        ("torn.py", "is not valid Python"),
        ("empty.py", "nothing"),
    ):
        done = call(tmp_path / name)
        assert done.exit_code == 2
        assert text in done.stderr
