"""Matching the features of real and generated examples."""

from dataclasses import dataclass

from ganbench import PluginError, trick


@trick
@dataclass(frozen=True)
class FeatureMatching:
    """Salimans et al. 2016, section 3.1: the generator descends ‖E f(x) − E f(G(z))‖², f a hidden layer of D.

    The means are over the minibatch, the norm is Euclidean; the discriminator learns as before, and so its
    features stay those that tell real from generated best at present.This replaces the generator's loss and
    so comes before tricks that build on it. For a feature function of your own, write it in place of
    `features` below in a trick of your own. Beware: a generator that is trained on the features of a known
    test (the layers of a network that scores samples, say) overtrains to match that test, and its score
    means nothing.
    """

    layer: int = -1  # hidden layer of the net, counted from 1, or from the end by -1, -2, ...
    net: str = "D"  # the net whose features are matched
    generator: str = "G"  # net and player that match them

    def __call__(self, game, data):
        self._check(game, data)
        game.net(self.generator)
        if game.player(self.generator).extended:
            raise PluginError(
                f"feature_matching replaces the loss of {self.generator!r}, on which the tricks before it have built; "
                "put it first"
            )

        def loss(inner, nets, b):
            features = getattr(nets, self.net)
            generated = getattr(nets, self.generator)(b.tensors[game.latent])
            real = features(b.x, upto=self.layer).mean(0)
            return (real - features(generated, upto=self.layer).mean(0)).square().sum()

        return game.with_loss(self.generator, loss)

    def _check(self, game, data):
        """Raises PluginError unless the net can be asked for this layer."""
        hidden = getattr(game.net(self.net), "hidden", None)
        if not hidden:
            raise PluginError(
                f"feature_matching: net {self.net!r} has no hidden layers to ask for; build it with mlp, "
                "conv_discriminator or ganbench.Sequential"
            )
        if not 1 <= abs(self.layer) <= hidden:
            raise PluginError(
                f"feature_matching: layer is {self.layer}, but net {self.net!r} has {hidden} hidden layers"
            )
