"""Noise on what the discriminator sees."""

from dataclasses import dataclass

from ganbench import trick, tunable


@trick
@dataclass(frozen=True)
class InstanceNoise:
    """Arjovsky & Bottou 2017, section 3; Sønderby et al. 2017: N(0, σ²) added to real and generated examples alike.

    The supports of the two distributions then overlap, and the gradients of an optimal discriminator no longer
    vanish. No schedule was published; here σ falls linearly from `sigma` to zero over the first `until` of
    all rounds (`until` 0: it stays). The default leaves the last rounds without noise: a generator, or an average of
    it, that has just seen noise is still blurred.

    Searched: σ from a twentieth of the data's unit to the whole, and when the noise ends.
    """

    sigma: float = tunable(0.5, log=(0.05, 1.0))  # standard deviation at the start, in the units of the data
    until: float = tunable(0.7, among=(0.5, 0.7, 1.0))  # part of training with noise; 0: constant noise
    net: str = "D"  # the net that sees the noise

    def __call__(self, game, data):
        def view(x, b, call):
            # One draw for the first call (real), one for the second (generated); later calls see them shifted.
            noise = b.instance_noise[:, call % 2].roll(call // 2, 0)
            fall = (1 - b.progress / self.until).clamp(min=0) if self.until else 1.0
            return x + self.sigma * fall * noise

        return game.with_draws(instance_noise=(2, *data.shape)).with_view(self.net, view)
