"""A metric of your own. In a suite beside it: `metrics: [kde_ll, ./mine.py]`."""

from dataclasses import dataclass

from ganbench import Score, Value, metric, random_subset


@metric(Value("mine", "data units", "lower"))  # a column's name, unit and better side; needs=("modes",) etc.
@dataclass(frozen=True)
class Mine:
    """Distance between the mean of samples and the mean of test examples: 0 at best, blind to all but the mean."""

    n: int = 2000  # samples, and test examples at most; every parameter needs a default and such a comment

    def protocol(self, data):
        """All that defines the number, in a sentence; values under different protocols are never compared."""
        return f"Euclidean distance of means, {self.n} samples, {min(self.n, len(data.test))} random test examples"

    def __call__(self, model, data):
        """model: one trained seed. More of it: model.generate(z), and model.generator("...") for random numbers."""
        fake = model.samples(self.n).flatten(1).double()  # [n, d]
        real = random_subset(data.test, self.n)  # the first rows of a split may differ from the rest
        real = data.floats(real).to(fake).flatten(1)  # [m, d]; on the model's device
        gap = fake.mean(0) - real.mean(0)  # [d]
        distance = gap.norm()
        toward = gap / distance.clamp(min=1e-12)  # to first order only the spread along it counts
        variance = (fake @ toward).var() / len(fake) + (real @ toward).var() / len(real)
        # sem: the standard error over what is averaged here; that over seeds comes from the tables.
        # More, if you have it: controls={"ceiling": ..., "floor": ...}, what a perfect and a trivial sampler score;
        # verdict="...", warning="..."; invalid="...", a sentence, where a control of yours failed.
        return Score(distance.item(), variance.sqrt().item(), len(fake), {"gap": gap})

    def figure(self, cells, style):
        """A picture for the report, if you want one. cells: the methods on a dataset; style: what to draw with."""
        figure, ((ax,),) = style.grid(1, 1, (5.0, 2.2))
        for cell in cells:
            for seed in cell.ok:  # those whose training went well
                if details := seed.details("gap"):  # of the Score; a tensor is a NumPy array here
                    ax.plot(details["gap"], color=style.colours[cell.label], marker=".")
        ax.set(xlabel="number of the example", ylabel="gap of the means")
        names = ", ".join(cell.label for cell in cells)
        return style.plot(figure, "Samples less data, a line for each seed.", f"Gap of the means of {names}.")
