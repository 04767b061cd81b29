"""The GANs beside the first one: their losses against the papers' formulas, and that they learn."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
import torch
from cells import cells, pixels, points
from torch.nn.functional import normalize, softplus

from ganbench import registry
from ganbench.contracts import Batch, Data
from ganbench.errors import PluginError, SuiteError
from ganbench.suite.load import dump, load
from ganbench.suite.plan import make_cells
from ganbench.training import loop as engine
from ganbench.training import model

TINY = dict.fromkeys(
    ["lsgan", "wgan", "wgan_gp", "sngan", "dragan", "pacgan", "veegan", "r3gan"], "width: 4, z_dim: 4"
)
TINY["fgan"] = "g_width: 4, v_width: 4, z_dim: 4"


def entry(name, params=""):
    return f"[{{method: {name}, params: {{{', '.join(filter(None, [TINY[name], params]))}}}}}]"


def played(folder, name, params="", data=None):
    """One replica in float64: its game, its nets as modules, its nets as losses see them, and a minibatch."""
    (cell,) = cells(folder, entry(name, params), train="{batch: 10, dtype: float64}")
    data = data or points()
    game = engine.build_game(cell, data, 0)
    stack = engine.Stack([game], torch.device("cpu"), torch.float64)
    for module in game.nets.values():
        module.requires_grad_(False)
    draws = engine.Draws(game, data, [0], 10, torch.device("cpu"), torch.float64)
    minibatch = next(iter(draws.rounds(1)))[0]
    b = Batch({key: value[0] for key, value in minibatch.items()})
    nets = {key: lambda x, m=module: m(x) for key, module in game.nets.items()}
    return game, nets, stack, minibatch, b


def losses(folder, name, params="", data=None):
    """The losses of D and G as the engine computes them, the nets and the minibatch."""
    _, nets, stack, minibatch, b = played(folder, name, params, data)
    clock = {"step": torch.tensor(0.0), "progress": torch.tensor(0.0)}
    found = {player: float(stack.gradient(player, {**clock, **minibatch})[0][0]) for player in ("D", "G")}
    return found, nets, b


def slopes(net, x):
    """Norms of the gradients of a net at each example, by ordinary automatic differentiation."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net(x).sum(), x)
    return gradient.flatten(1).norm(dim=1)


def sigmoid(v):
    return 1 / (1 + torch.exp(-v))


# ---------------------------------------------------------------------------------------------- losses


def test_least_squares(tmp_path):
    found, nets, b = losses(tmp_path, "lsgan")
    real, fake = nets["D"](b.x), nets["D"](nets["G"](b.z))
    assert found["D"] == pytest.approx(float(((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2), abs=1e-12)
    assert found["G"] == pytest.approx(float(((fake - 1) ** 2).mean() / 2), abs=1e-12)
    found, nets, b = losses(tmp_path, "lsgan", "code: pearson")
    expected = ((real - 1) ** 2).mean() / 2 + ((fake + 1) ** 2).mean() / 2
    assert found["D"] == pytest.approx(float(expected), abs=1e-12)
    assert found["G"] == pytest.approx(float((fake**2).mean() / 2), abs=1e-12)


def test_wasserstein_with_clipping(tmp_path):
    found, nets, b = losses(tmp_path, "wgan")
    real, fake = nets["D"](b.x).mean(), nets["D"](nets["G"](b.z)).mean()
    assert found == pytest.approx({"D": float(fake - real), "G": float(-fake)}, abs=1e-12)


def test_the_critic_is_clipped_after_each_update(tmp_path):
    (cell,) = cells(tmp_path, entry("wgan", "clip: 0.02"), train="{steps: 3, batch: 8}")
    (one,) = engine.train(cell, points(), [0])
    critic = torch.cat([value.flatten() for name, value in one.state.items() if name.startswith("D.")])
    generator = torch.cat([value.flatten() for name, value in one.state.items() if name.startswith("G.")])
    assert float(critic.abs().max()) == pytest.approx(0.02)
    assert float(generator.abs().max()) > 0.1


@pytest.mark.parametrize("data", [points(), pixels()], ids=["points", "pixels"])
def test_wasserstein_with_gradient_penalty(tmp_path, data):
    found, nets, b = losses(tmp_path, "wgan_gp", "penalty: 3", data)
    fake = nets["G"](b.z)
    between = torch.stack(
        [x + float(e.flatten()[0]) * (g - x) for x, g, e in zip(b.x, fake, b.between, strict=True)]
    )
    penalty = ((slopes(nets["D"], between) - 1) ** 2).mean()
    expected = nets["D"](fake).mean() - nets["D"](b.x).mean() + 3 * penalty
    assert found["D"] == pytest.approx(float(expected), abs=1e-12)
    assert 0 <= float(b.between.min()) < float(b.between.max()) < 1


def test_the_gradient_of_a_gradient_penalty(tmp_path):
    """The engine's gradient, taken through vmap and an inner gradient, against plain double backpropagation."""
    game, nets, stack, minibatch, b = played(tmp_path, "wgan_gp")
    clock = {"step": torch.tensor(0.0), "progress": torch.tensor(0.0)}
    found = stack.gradient("D", {**clock, **minibatch})[1][0]
    game.nets["D"].requires_grad_()
    fake = nets["G"](b.z).detach()
    between = (b.x + b.between * (fake - b.x)).requires_grad_()
    (gradient,) = torch.autograd.grad(nets["D"](between).sum(), between, create_graph=True)
    loss = nets["D"](fake).mean() - nets["D"](b.x).mean() + 10 * ((gradient.norm(dim=1) - 1) ** 2).mean()
    expected = torch.autograd.grad(loss, list(game.nets["D"].parameters()), allow_unused=True)
    flat = [torch.zeros(p.numel()) if g is None else g.flatten()
            for g, p in zip(expected, game.nets["D"].parameters(), strict=True)]  # fmt: skip
    assert torch.allclose(found, torch.cat(flat), atol=1e-12)


def test_hinge(tmp_path):
    found, nets, b = losses(tmp_path, "sngan")
    real, fake = nets["D"](b.x), nets["D"](nets["G"](b.z))
    expected = (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()
    assert found == pytest.approx({"D": float(expected), "G": float(-fake.mean())}, abs=1e-12)


@pytest.mark.parametrize(("params", "data"), [("", points()), ("net: conv", pixels())], ids=["mlp", "conv"])
def test_weights_of_the_discriminator_have_spectral_norm_one(tmp_path, params, data):
    game, *_ = played(tmp_path, "sngan", f"squarings: 12{', ' * bool(params)}{params}", data)
    weights = [layer.weight for layer in game.nets["D"] if next(layer.parameters(), None) is not None]
    assert len(weights) == (3 if not params else 2)
    for weight in weights:
        assert float(torch.linalg.matrix_norm(weight.flatten(1), 2)) == pytest.approx(1, abs=1e-6)


def singular(values, left, right):
    """Σ s · u vᵀ of directions that are not normalised."""
    pairs = zip(values, left, right, strict=True)
    return sum(s * torch.outer(normalize(u, dim=0), normalize(v, dim=0)) for s, u, v in pairs)


ONES = torch.ones(4).double()
ALTERNATE = torch.tensor([1.0, -1.0, 1.0, -1.0]).double()
FIRST = torch.tensor([1.0, 0.0, 0.0, 0.0]).double()
SPREAD = torch.tensor([0.0, 1.0, -1.0, 0.0]).double()
MATRICES = {
    "orthogonal to ones": singular([1.0, 0.99], [ALTERNATE, ONES], [ALTERNATE, ONES]),
    "orthogonal to ones, rank 1": singular([3.0], [ALTERNATE], [ALTERNATE]),
    "orthogonal to a unit vector": singular([1.0, 0.9], [SPREAD, FIRST], [SPREAD, FIRST]),
    "wide": singular([2.0, 1.5], [ALTERNATE[:2], ONES[:2]], [ALTERNATE, ONES]),
    "tall": singular([2.0, 1.5], [ALTERNATE, ONES], [ALTERNATE[:2], ONES[:2]]),
    "equal singular values": torch.eye(4).double(),
    "tiny": 1e-200 * singular([1.0, 0.5], [ALTERNATE, ONES], [ALTERNATE, ONES]),
    "huge": 1e200 * singular([1.0, 0.5], [ALTERNATE, ONES], [ALTERNATE, ONES]),
    "one row": torch.tensor([[3.0, -4.0]]).double(),
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_spectral_norm_is_that_of_the_matrix(name):
    """Its start is orthogonal to no first singular vector."""
    norm = sngan_module().SpectralNorm(squarings=10)
    weight = MATRICES[name]
    assert torch.allclose(norm(weight), weight / torch.linalg.matrix_norm(weight, ord=2), atol=1e-8, rtol=0)


def test_the_default_of_64_iterations_is_close():
    """Neighbouring singular values of random matrices are near each other: the worst of 50 is 2.1e-5 too small."""
    norm, generator = sngan_module().SpectralNorm(squarings=6), torch.Generator().manual_seed(0)
    weights = (torch.rand(50, 128, 128, generator=generator, dtype=torch.float64) - 0.5).unbind()
    found = torch.stack([torch.linalg.matrix_norm(norm(weight), ord=2) for weight in weights])
    assert float(found.min()) == pytest.approx(1, abs=1e-6)
    assert 1 < float(found.max()) < 1 + 1e-4


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (4, 2, 3, 3)])
def test_a_matrix_of_zeros_stays_one(shape):
    weight = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    found = sngan_module().SpectralNorm(squarings=6)(weight)
    assert torch.equal(found, torch.zeros(shape, dtype=torch.float64))
    (slope,) = torch.autograd.grad(found.sum(), weight)
    assert torch.equal(slope, torch.ones(shape, dtype=torch.float64))


def sngan_module():
    return sys.modules[registry.load(registry.find("method", "sngan")).__module__]


def test_gradients_through_the_spectral_norm_are_exact(tmp_path):
    """Constant singular vectors give the same gradient as the singular values themselves."""
    game, *_ = played(tmp_path, "sngan", "squarings: 12")
    layer = game.nets["D"].requires_grad_()[1]
    original, direction = layer.parametrizations.weight.original, torch.randn(4, 2).double()
    (found,) = torch.autograd.grad((layer.weight * direction).sum(), original)
    exact = (original / torch.linalg.matrix_norm(original, 2) * direction).sum()
    (expected,) = torch.autograd.grad(exact, original)
    assert torch.allclose(found, expected, atol=1e-9)


def test_penalty_around_the_data(tmp_path):
    found, nets, b = losses(tmp_path, "dragan", "penalty: 3")
    perturbed = b.x + b.along * 0.5 * b.x.numpy().std() * b.away
    real, fake = nets["D"](b.x), nets["D"](nets["G"](b.z))
    cross_entropy = -torch.log(sigmoid(real)).mean() - torch.log(1 - sigmoid(fake)).mean()
    expected = cross_entropy + 3 * ((slopes(nets["D"], perturbed) - 1) ** 2).mean()
    assert found["D"] == pytest.approx(float(expected), abs=1e-12)
    assert found["G"] == pytest.approx(float(-torch.log(sigmoid(fake)).mean()), abs=1e-12)
    assert (b.along.shape, b.away.shape) == ((10, 1), (10, 2))


def test_packs(tmp_path):
    """Packs of 3 from 10 examples: the tenth is left out."""
    found, nets, b = losses(tmp_path, "pacgan", "pack: 3")
    together = [
        torch.cat([x[3 * i], x[3 * i + 1], x[3 * i + 2]]) for x in (b.x, nets["G"](b.z)) for i in range(3)
    ]
    logits = nets["D"](torch.stack(together))
    real, fake = logits[:3], logits[3:]
    expected = -torch.log(sigmoid(real)).mean() - torch.log(1 - sigmoid(fake)).mean()
    assert found["D"] == pytest.approx(float(expected), abs=1e-12)
    assert found["G"] == pytest.approx(float(-torch.log(sigmoid(fake)).mean()), abs=1e-12)


def test_packs_of_images_are_stacked_channels(tmp_path):
    game, *_ = played(tmp_path, "pacgan", "net: conv", pixels(channels=3))
    assert game.nets["D"][0].in_channels == 6


def test_reconstructor(tmp_path):
    found, nets, b = losses(tmp_path, "veegan")
    x = nets["G"](b.z)
    joint = nets["D"](torch.cat([b.z, x], 1))
    data = nets["D"](torch.cat([nets["F"](b.x) + b.noise, b.x], 1))
    expected = -torch.log(sigmoid(joint)).mean() - torch.log(1 - sigmoid(data)).mean()
    assert found["D"] == pytest.approx(float(expected), abs=1e-12)
    density = torch.distributions.Normal(nets["F"](x), 1.0).log_prob(b.z).sum(1)
    constant = 4 * 0.5 * math.log(2 * math.pi)
    assert found["G"] == pytest.approx(float((joint[:, 0] - density).mean()) - constant, abs=1e-12)


def test_relativistic(tmp_path):
    found, nets, b = losses(tmp_path, "r3gan", "gamma: 3")
    fake = nets["G"](b.z)
    gap = nets["D"](b.x) - nets["D"](fake)
    penalties = (slopes(nets["D"], b.x) ** 2).mean() + (slopes(nets["D"], fake) ** 2).mean()
    assert found["D"] == pytest.approx(float(-torch.log(sigmoid(gap)).mean() + 1.5 * penalties), abs=1e-12)
    assert found["G"] == pytest.approx(float(-torch.log(sigmoid(-gap)).mean()), abs=1e-12)


# ---------------------------------------------------------------------------------------------- f-GAN


def test_f_gan_with_the_divergence_of_gans_is_a_gan(tmp_path):
    found, nets, b = losses(tmp_path, "fgan", "divergence: gan")
    real, fake = nets["D"](b.x), nets["D"](nets["G"](b.z))
    assert found["D"] == pytest.approx(float(softplus(-real).mean() + softplus(fake).mean()), abs=1e-12)
    assert found["G"] == pytest.approx(float(-softplus(fake).mean()), abs=1e-12)  # minimax
    found, *_ = losses(tmp_path, "fgan", "divergence: gan, loss: log-d")
    assert found["G"] == pytest.approx(float(softplus(-fake).mean()), abs=1e-12)  # non-saturating


# g_f(v) and f*(g_f(v)) as one would write them by hand
BY_HAND = {
    "kl": (lambda v: v, lambda v: torch.exp(v - 1)),
    "reverse-kl": (lambda v: -torch.exp(-v), lambda v: v - 1),
    "pearson": (lambda v: v, lambda v: v**2 / 4 + v),
    "neyman": (lambda v: 1 - torch.exp(-v), lambda v: 2 - 2 * torch.exp(-v / 2)),
    "squared-hellinger": (lambda v: 1 - torch.exp(-v), lambda v: torch.exp(v) - 1),
    "jensen-shannon": (
        lambda v: math.log(2) - torch.log(1 + torch.exp(-v)),
        lambda v: torch.log(1 + torch.exp(v)) - math.log(2),
    ),
    "{alpha: {alpha: 2}}": (lambda v: v, lambda v: ((1 + v) ** 2 - 1) / 2),
}  # fmt: skip


@pytest.mark.parametrize("divergence", BY_HAND)
def test_bounds_and_losses(tmp_path, divergence):
    activation, composed = BY_HAND[divergence]
    found, nets, b = losses(tmp_path, "fgan", f"divergence: {divergence}")
    real, fake = nets["D"](b.x), nets["D"](nets["G"](b.z))
    bound = activation(real).mean() - composed(fake).mean()
    assert found == pytest.approx({"D": -float(bound), "G": -float(composed(fake).mean())}, abs=1e-12)
    found, *_ = losses(tmp_path, "fgan", f"divergence: {divergence}, loss: log-d")
    assert found["G"] == pytest.approx(-float(activation(fake).mean()), abs=1e-12)


def test_both_players_move_from_the_same_point(tmp_path):
    """Algorithm 1: one minibatch, one point; G does not see D's update."""
    game, _, stack, minibatch, _ = played(tmp_path, "fgan")
    clock = {"step": torch.tensor(0.0), "progress": torch.tensor(0.0)}
    gradients = {player: stack.gradient(player, {**clock, **minibatch})[1] for player in ("D", "G")}
    expected = {
        name: game.players[name].optimiser.step(stack.params[name], gradients[name], stack.states[name])[0]
        for name in ("D", "G")
    }
    stack.play(0, 1, [minibatch])
    assert all(torch.allclose(stack.params[name], expected[name], rtol=0, atol=1e-12) for name in expected)


def test_the_papers_nets(tmp_path):
    data = pixels(side=28)
    params = "z: uniform, g_norm: true, g_depth: 2, g_init: 0.05, v_init: 0.005, divergence: kl"
    game, _, _, _, b = played(tmp_path, "fgan", params, data)
    kinds = [type(layer).__name__ for layer in game.nets["G"]]
    hidden = ["Linear", "BatchNorm", "ReLU"]
    assert kinds == [*hidden, *hidden, "Linear", "Unflatten", "Squash"]
    assert [type(layer).__name__ for layer in game.nets["D"]] == ["Flatten", *["Linear", "ELU"] * 2, "Linear"]
    assert float(game.nets["G"][6].weight.std()) == pytest.approx(0.05, rel=0.1)
    assert float(game.nets["D"][1].weight.std()) == pytest.approx(0.005, rel=0.1)
    assert -1 <= float(b.z.min()) < 0 < float(b.z.max()) < 1


def test_a_linear_generator_of_one_number(tmp_path):
    """The univariate example of the paper: mu + sigma z."""
    x = torch.randn(50, 1)
    game, *_ = played(tmp_path, "fgan", "g_depth: 0", Data("line", x, x, x, (1,)))
    assert type(game.nets["G"][0]).__name__ == "Linear"
    assert sum(p.numel() for p in game.nets["G"].parameters()) == 4 + 1


MINE = """
from dataclasses import dataclass
from ganbench import Divergence, divergence

@divergence
@dataclass(frozen=True)
class Mine(Divergence):
    scale: float = 1.0  # of Pearson's

    def f(self, u):
        return self.scale * (u - 1) ** 2

    def conjugate(self, t):
        return {conjugate}

    def activation(self, v):
        return v
"""
SHORT = MINE.format(conjugate="t ** 2 / (4 * self.scale) + t")


def suite(folder, value, source=SHORT):
    folder.mkdir(exist_ok=True)
    return cells(
        folder, f"[{{method: fgan, params: {{{TINY['fgan']}, divergence: {value}}}}}]", plugins=source
    )[0]


def test_a_divergence_in_a_file_beside_the_suite(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    cell = suite(tmp_path, "./mine.py")
    assert cell.method.part.params["divergence"] == f"{tmp_path / 'mine.py'}:Mine"
    (own,) = engine.train(cell, points(), [0])
    (shipped,) = engine.train(suite(tmp_path, "pearson"), points(), [0])
    assert own.status == "ok"
    assert torch.allclose(own.state["G.0.weight"], shipped.state["G.0.weight"], atol=1e-6)
    assert suite(tmp_path, "{./mine.py: {scale: 2}}").method.part.params["divergence"] == {
        f"{tmp_path / 'mine.py'}:Mine": {"scale": 2.0}
    }


def key_of(cell):
    return replace(cell, digest="data").key


def test_keys_follow_the_source_of_the_divergence_and_not_where_it_lies(tmp_path):
    key = key_of(suite(tmp_path / "a", "./mine.py"))
    assert key_of(suite(tmp_path / "b", "./mine.py")) == key
    assert key_of(suite(tmp_path / "b", "./mine.py:Mine")) == key
    assert key_of(suite(tmp_path / "b", "{./mine.py: {scale: 1}}")) == key
    assert key_of(suite(tmp_path / "b", "{./mine.py: {scale: 2}}")) != key
    edited = MINE.format(conjugate="t * (t / (4 * self.scale) + 1)")
    assert key_of(suite(tmp_path / "b", "./mine.py", edited)) != key
    commented = "# a comment\n" + SHORT
    assert key_of(suite(tmp_path / "b", "./mine.py", commented)) == key


def test_sweeps_over_divergences(tmp_path):
    (tmp_path / "mine.py").write_text(SHORT, encoding="utf-8")
    sweep = "[kl, {alpha: {alpha: 0.5}}, ./mine.py]"
    found = cells(tmp_path, f"[{{method: fgan, sweep: {{divergence: {sweep}}}}}]")
    assert [cell.method.label for cell in found] == ["fgan-kl", "fgan-alpha-0.5", "fgan-mine"]
    assert len({key_of(cell) for cell in found}) == 3


def test_a_suite_written_back_names_the_same_divergence(tmp_path):
    cell = suite(tmp_path, "{./mine.py: {scale: 2}}")
    again = tmp_path / "elsewhere"
    again.mkdir()
    (again / "suite.yaml").write_text(dump(load(tmp_path / "suite.yaml")), encoding="utf-8")
    (other,) = make_cells(load(again / "suite.yaml"))
    assert key_of(other) == key_of(cell)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("pearsn", r"params\.divergence: there is no divergence 'pearsn'; did you mean 'pearson'\?"),
        ("r1", r"there is no divergence 'r1'.* \('r1' is a trick\)"),
        ("./none.py", r"none\.py: no such file"),
        ("./mine.py:Yours", r"no divergence 'Yours'; did you mean|no divergence 'Yours'"),
        ("{kl: {alpha: 2}}", r"params\.divergence\.kl\.alpha: kl has no parameter 'alpha'"),
        ("{alpha: {alpha: big}}", r"divergence\.alpha\.alpha: expected a number, got the text 'big'"),
        (
            "{kl: {}, pearson: {}}",
            r"expected one divergence with its parameters, as in `name: \{\.\.\.\}`, got 2 keys",
        ),
        ("3", r"expected text or a divergence, got 3"),
    ],
)
def test_mistakes_in_the_name_of_a_divergence_are_told_by_the_suite(tmp_path, value, message):
    with pytest.raises(SuiteError, match=message):
        suite(tmp_path, value)


def test_divergences_with_impossible_parameters(tmp_path):
    with pytest.raises(PluginError, match=r"alpha must be neither 0 nor 1, got 1.0; use 'kl', its limit"):
        engine.build_game(suite(tmp_path, "{alpha: {alpha: 1}}"), points(), 0)


# ---------------------------------------------------------------------------------------------- in the engine


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_seed_alone_is_the_seed_in_a_stack(tmp_path, name):
    (cell,) = cells(tmp_path, entry(name), train="{steps: 10, batch: 9, dtype: float64}")
    stack, (alone,) = engine.train(cell, points(), [0, 1, 2]), engine.train(cell, points(), [1])
    assert [one.status for one in stack] == ["ok"] * 3
    assert stack[1].state.keys() == alone.state.keys()
    for key, value in alone.state.items():
        assert torch.allclose(value, stack[1].state[key], atol=1e-12), key
    made = model.model(cell, points(), 1, alone.state, None).samples(7)
    assert made.shape == (7, 2)
    assert bool(torch.isfinite(made).all())


@pytest.mark.parametrize("name", sorted(TINY))
def test_images(tmp_path, name):
    params = "" if name == "veegan" else "net: conv"
    (cell,) = cells(tmp_path, entry(name, params), train="{steps: 3, batch: 8}")
    data = pixels(channels=3)
    found = engine.train(cell, data, [0, 1])
    assert [one.status for one in found] == ["ok", "ok"]
    made = model.model(cell, data, 1, found[1].state, None).samples(5)
    assert made.shape == (5, 3, 8, 8)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


LEARNERS = {  # parameters for small data, rounds
    "fgan": ("lr: 1e-3", 800),
    "lsgan": ("lr: 1e-3", 800),
    "wgan": ("lr: 2e-3, clip: 0.1", 600),
    "wgan_gp": ("lr: 3e-3, penalty: 1", 250),
    "sngan": ("lr: 3e-3, squarings: 2", 200),
    "dragan": ("lr: 5e-4, penalty: 0.05", 1500),
    "pacgan": ("lr: 3e-3", 600),
    "veegan": ("lr: 1e-3", 1000),
    "r3gan": ("lr: 3e-3", 600),
}


def blob():
    """N((1.5, -1), diag(0.5², 1))."""
    x = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.5, 1.0])
    x = x + torch.tensor([1.5, -1.0])
    return Data("blob", x, x, x, (2,))


def learnt(folder, name, params, steps):
    """Mean and standard deviation of what is generated, over the second half of training (many of these
    games orbit their equilibrium) and three seeds."""
    size = "z_dim: 4, " + ("g_width: 32, v_width: 32" if name == "fgan" else "width: 32")
    train = f"{{steps: {steps}, batch: 64, snapshots: 10}}"
    (cell,) = cells(folder, f"[{{method: {name}, params: {{{size}, {params}}}}}]", train=train)
    shots = torch.stack([one.snapshots[5:] for one in engine.train(cell, blob(), [0, 1, 2])])
    return shots.mean((0, 1, 2)), shots.std(2).mean((0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_each_learns_where_the_data_are(tmp_path, name):
    mean, std = learnt(tmp_path, name, *LEARNERS[name])
    assert mean.tolist() == pytest.approx([1.5, -1.0], abs=0.3)
    assert bool((std > torch.tensor([0.2, 0.4])).all())


@pytest.mark.slow
@pytest.mark.parametrize("divergence", ["kl", "reverse-kl", "alpha"])  # formulas of all: test_divergences
def test_f_gan_learns_by_its_divergences(tmp_path, divergence):
    mean, std = learnt(tmp_path, "fgan", f"lr: 1e-3, divergence: {divergence}", 800)
    assert mean.tolist() == pytest.approx([1.5, -1.0], abs=0.3)
    assert bool((std > torch.tensor([0.2, 0.4])).all())


@pytest.mark.slow
def test_f_gan_learns_by_the_log_d_loss(tmp_path):
    mean, _ = learnt(tmp_path, "fgan", "lr: 5e-4, loss: log-d, divergence: squared-hellinger", 1200)
    assert mean.tolist() == pytest.approx([1.5, -1.0], abs=0.3)
