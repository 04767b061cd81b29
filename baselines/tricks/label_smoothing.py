"""Softer labels for the discriminator's real examples."""

from dataclasses import dataclass

import torch

from ganbench import Batch, PluginError, trick, tunable

N = 8  # examples on which the loss is tried


@trick
@dataclass(frozen=True)
class LabelSmoothing:
    """Salimans et al. 2016, section 3.4: the discriminator's label of a real example is 0.9, not 1.

    One-sided: the label of a generated one stays 0. With logits v the cross entropy towards a label t is
    −t log D − (1 − t) log(1 − D) = softplus(−v) + (1 − t) v, and so a discriminator that descends −log D(x)
    needs (1 − t) E[v(x)] more. Where its loss on real examples is another one, there are no labels to smooth.

    Searched: about the paper's range.
    """

    label: float = tunable(0.9, linear=(0.75, 0.95))  # of real examples; the paper's range is 0.75 to 0.9
    net: str = "D"  # net and player that tell real from generated

    def __call__(self, game, data):
        game.net(self.net)
        if not self._is_cross_entropy(game, data):
            raise PluginError(
                f"label_smoothing: player {self.net!r} does not descend -log D(x) on real examples "
                "(as bce_real(nets.D(b.x)) does), so that it has no labels to smooth"
            )

        def loss(inner, nets, b):
            fresh = nets.with_flat(
                self.net, nets.flat(self.net)
            )  # whose first call sees b.x as that of `inner`
            return inner(nets, b) + (1 - self.label) * getattr(fresh, self.net)(b.x).mean()

        return game.with_loss(self.net, loss)

    def _is_cross_entropy(self, game, data):
        """Whether the slope of the loss in the logits v of real examples is that of E softplus(−v)."""
        real = torch.linspace(-2.0, 2.0, N).unsqueeze(1).requires_grad_()
        b = _minibatch(game, data)
        try:
            value = game.player(self.net).loss(_Given(game, self.net, real, b.x), b)
            (slope,) = torch.autograd.grad(value, real, allow_unused=True, materialize_grads=True)
        except Exception:  # whatever the loss does with its nets that no such loss would
            return False
        return torch.allclose(slope, -torch.sigmoid(-real.detach()) / N, atol=1e-6)


class _Given:
    """The nets as they start, but that one gives these logits for these examples."""

    def __init__(self, game, net, logits, examples):
        self._game, self._net, self._logits, self._examples = game, net, logits, examples

    def __getattr__(self, net):
        module = self._game.nets[net]
        if net != self._net:
            return module
        return lambda x, **more: self._logits if x is self._examples else module(x, **more)

    def flat(self, player):
        nets = [self._game.nets[net] for net in self._game.players[player].owns]
        return torch.cat([p.detach().flatten() for net in nets for p in net.parameters()])

    def with_flat(self, player, vector):
        return self

    def step(self, player, b):
        return self

    def recall(self, name):
        return self._game.memory[name].init(self)


def _minibatch(game, data):
    """Some examples and draws."""
    uniform = {name: torch.rand(N, *game.draw(name).shape) for name in game.draws}
    clock = {"step": torch.tensor(0.0), "progress": torch.tensor(0.0)}
    labels = {"y": data.labels.train[:N]} if data.labels else {}
    return Batch({"x": data.floats(data.train[:N]), **uniform, **labels, **clock})
