"""Matching the features of real and generated examples."""

from dataclasses import dataclass

from ganbench import Feature, PluginError, find_feature, trick


@trick
@dataclass(frozen=True)
class FeatureMatching:
    """Salimans et al. 2016, section 3.1: the generator descends ‖E f(x) − E f(G(z))‖², f a hidden layer of D.

    The means are over the minibatch, the norm is Euclidean. The discriminator learns as before, and so its features
    stay those that tell real from generated best at present. Instead f may be a feature function of your own, a
    file with one class marked @feature, or a shipped one (`ganbench list features`). Beware: a generator that is
    trained on the features of a known test (moments, or the layers of a network that scores samples) overtrains to
    match that test, and its score there means nothing.

    This replaces the generator's loss and so comes before tricks that build on it. Features of your own see the
    examples themselves; noise that a trick puts on what D sees does not reach them.
    """

    features: str | Feature | None = None  # a feature function, by its name or file; null: a layer of `net`
    layer: int = -1  # hidden layer of `net`, counted from 1, or from the end by -1, -2, ...
    net: str = "D"  # the net whose features are matched
    generator: str = "G"  # net and player that match them

    def __call__(self, game, data):
        own = None if self.features is None else find_feature(self.features)
        if own is None:
            self._check(game)
        game.net(self.generator)
        if game.player(self.generator).extended:
            raise PluginError(
                f"feature_matching replaces the loss of {self.generator!r}, on which the tricks before it have built; "
                "put it first"
            )

        def loss(inner, nets, b):
            features = own or (lambda x: getattr(nets, self.net)(x, upto=self.layer))
            generated = getattr(nets, self.generator)(b.tensors[game.latent])
            return (features(b.x).mean(0) - features(generated).mean(0)).square().sum()

        return game.with_loss(self.generator, loss)

    def _check(self, game):
        """Raises PluginError unless the net can be asked for this layer."""
        hidden = getattr(game.net(self.net), "hidden", None)
        if not hidden:
            raise PluginError(
                f"feature_matching: net {self.net!r} has no hidden layers to ask for; build it with mlp, "
                "conv_discriminator or ganbench.Sequential, or name a feature function (`features`)"
            )
        if not 1 <= abs(self.layer) <= hidden:
            raise PluginError(
                f"feature_matching: layer is {self.layer}, but net {self.net!r} has {hidden} hidden layers"
            )
