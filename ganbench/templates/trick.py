"""A trick of your own. In a suite beside it: `methods: [gan, {method: gan, tricks: [./mine.py]}]`."""

from dataclasses import dataclass

from ganbench import trick


@trick
@dataclass(frozen=True)
class Mine:
    """Karras et al. 2018, appendix A.1: D pays for outputs on real examples that drift away from zero."""

    weight: float = 1e-3  # of the mean square; every parameter needs a default and such a comment
    net: str = "D"  # the net and player that pays

    def __call__(self, game, data):
        """A new game, made from the one that is given; that one stays as it is."""

        def loss(inner, nets, b):
            # `inner` is the loss so far, with the tricks that stand before this one in the suite.
            drift = getattr(nets, self.net)(b.x).square().mean()
            return inner(nets, b) + self.weight * drift

        # Others: game.with_view (what a net sees), with_draws (random numbers), with_memory (a value that is
        # carried from round to round), with_net (another net in place of one).
        return game.with_loss(self.net, loss)
