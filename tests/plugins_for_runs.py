"""Methods and metrics for the tests of store, scores and execution: quick, and wrong in every way."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ganbench import Adam, Game, Player, Score, Value, bce_fake, bce_real, method, metric, mlp


@method
@dataclass(frozen=True)
class TinyGAN:
    """A real GAN, as small as can be."""

    width: int = 8  # of the hidden layers

    def game(self, data):
        return Game(
            nets={"G": mlp(2, self.width, data.shape), "D": mlp(data.shape, self.width, 1)},
            players={"D": Player("D", self.d_loss, Adam(1e-2)), "G": Player("G", self.g_loss, Adam(1e-2))},
            draws={"z": (2,)},
            sample=lambda nets, z: nets.G(z),
        )

    def d_loss(self, nets, b):
        return bce_real(nets.D(b.x)) + bce_fake(nets.D(nets.G(b.z)))

    def g_loss(self, nets, b):
        return bce_real(nets.D(nets.G(b.z)))


@method
@dataclass(frozen=True)
class Diverging(TinyGAN):
    """Its generator's loss is NaN from the first step."""

    def game(self, data):
        return super().game(data)

    def g_loss(self, nets, b):
        return super().g_loss(nets, b) * float("nan")


@method
@dataclass(frozen=True)
class Killed(TinyGAN):
    """Writes down its rounds; its worker is killed in round 13, the first `times` times that it gets there."""

    folder: str = ""
    times: int = 0

    def game(self, data):
        return super().game(data)

    def d_loss(self, nets, b):
        step, log = int(b.step), Path(self.folder) / "rounds"
        with log.open("a") as file:
            file.write(f"{step}\n")
        if step == 13 and log.read_text().split().count("13") <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().d_loss(nets, b)


@method
@dataclass(frozen=True)
class Raising:
    """Raises."""

    def game(self, data):
        raise ValueError("no luck today")


@method
@dataclass(frozen=True)
class Hungry:
    """Needs more memory than there is."""

    def fit(self, data, seed, budget):
        raise MemoryError("a petabyte")


@method
@dataclass(frozen=True)
class Constant:
    """Normal noise around the seed; adds a line to a log for each training, and may take its time."""

    log: str = ""  # file
    seconds: float = 0.0  # of each training
    gate: str = ""  # file, for which all seeds but the first wait

    def fit(self, data, seed, budget):
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()} {seed}\n")
        time.sleep(self.seconds)
        while self.gate and seed and not os.path.exists(self.gate):
            time.sleep(0.02)
        return lambda n, generator: torch.randn(n, *data.shape, generator=generator) + seed


@method
@dataclass(frozen=True)
class Dying:
    """Its worker is killed, as often as `times` says."""

    marks: str  # folder where the deaths are counted
    times: int = 1000

    def fit(self, data, seed, budget):
        deaths = len(list(Path(self.marks).iterdir()))
        if deaths < self.times:
            (Path(self.marks) / str(deaths)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return lambda n, generator: torch.zeros(n, *data.shape)


@metric(Value("mean_norm", "units", "lower"))
@dataclass(frozen=True)
class MeanNorm:
    """Mean distance from the origin."""

    n: int = 100  # samples

    def protocol(self, data):
        return f"mean norm of {self.n} samples on {data.name}"

    def __call__(self, model, data):
        norms = model.samples(self.n).flatten(1).norm(dim=1)
        largest = float(norms.max())
        return Score(
            float(norms.mean()), float(norms.std()) / self.n**0.5, self.n, {"norms": norms, "max": largest}
        )


@metric(Value("low", "units", "lower"), Value("high", "units", "higher"), version=3)
@dataclass(frozen=True)
class Range:
    """Two values."""

    def __call__(self, model, data):
        x = model.samples(50)
        return Score(float(x.min())), Score(float(x.max()))


@metric(Value("broken", "units", "lower"))
@dataclass(frozen=True)
class Broken:
    """Fails in the way that its parameter says."""

    how: str = "raise"  # raise, nan, inf, count, memory

    def __call__(self, model, data):
        if self.how == "raise":
            raise ZeroDivisionError("nothing to divide by")
        if self.how == "memory":
            raise MemoryError
        if self.how == "count":
            return Score(1.0), Score(2.0)
        return Score(
            float(self.how), sem=float("nan"), details={"odd": float("nan"), "list": (1, float("inf"))}
        )


@method
@dataclass(frozen=True)
class FullDisk:
    """Leaves no room for what its worker wants to write."""

    def fit(self, data, seed, budget):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        return lambda n, generator: torch.zeros(n, *data.shape)


@method
@dataclass(frozen=True)
class Seeing:
    """Says which GPUs its process sees, and how products and convolutions of float32 are computed."""

    def fit(self, data, seed, budget):
        rounds = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
        print(os.environ.get("CUDA_VISIBLE_DEVICES"), *rounds)
        return lambda n, generator: torch.zeros(n, *data.shape)


@method
@dataclass(frozen=True)
class Leaving:
    """Ends its process, or tries to."""

    def fit(self, data, seed, budget):
        sys.exit("enough")


@metric(Value("many", "units", "neither"))
@dataclass(frozen=True)
class Many:
    """Asks for more samples than are stored of a `fit` method by default, by a name of its own."""

    pairs: int = 6_000  # of samples

    def __call__(self, model, data):
        return Score(model.samples(2 * self.pairs).norm(dim=1).mean().item(), None, 2 * self.pairs)
