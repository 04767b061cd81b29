"""Methods that do what no method should: leave, fork, hang, print without end, eat all memory, talk nonsense."""

from __future__ import annotations

import faulthandler
import os
import resource
import sys
import threading
import time
from dataclasses import dataclass

import torch

from ganbench import Data, Score, Value, dataset, method, metric


@method
@dataclass(frozen=True)
class Vanishing:
    """Ends its process as if all were well."""

    def fit(self, data, seed, budget):
        os._exit(0)


@method
@dataclass(frozen=True)
class Interrupting:
    """Raises what is no Exception."""

    def fit(self, data, seed, budget):
        raise KeyboardInterrupt


@method
@dataclass(frozen=True)
class Forking:
    """Comes back twice."""

    log: str  # file where each that comes back is noted

    def fit(self, data, seed, budget):
        os.fork()
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()}\n")
        return lambda n, generator: torch.zeros(n, *data.shape)


@method
@dataclass(frozen=True)
class Printing:
    """Prints megabytes, and waits until its log is no longer than `limit` bytes."""

    megabytes: int = 5
    limit: int = 10**9

    def fit(self, data, seed, budget):
        for _ in range(self.megabytes):
            print("x" * 999_999, flush=True)
            print("e" * 99, file=sys.stderr)
        while os.fstat(1).st_size > self.limit:
            time.sleep(0.02)
        print("the end")
        return lambda n, generator: torch.zeros(n, *data.shape)


@method
@dataclass(frozen=True)
class Hanging:
    """Waits for what never comes, in two threads."""

    def fit(self, data, seed, budget):
        threading.Thread(target=self.wait_in_a_thread, daemon=True).start()
        time.sleep(3600)

    def wait_in_a_thread(self):
        time.sleep(3600)


@method
@dataclass(frozen=True)
class Starving:
    """Asks for more memory than its process may have."""

    def fit(self, data, seed, budget):
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, resource.RLIM_INFINITY))
        torch.ones(4_000_000_000)


@method
@dataclass(frozen=True)
class Crashing:
    """Breaks in compiled code."""

    def fit(self, data, seed, budget):
        import ctypes

        ctypes.string_at(0)


@method
@dataclass(frozen=True)
class Nonsense:
    """Gives back what is no sampler, or samples that are none."""

    what: str = "text"

    def fit(self, data, seed, budget):
        given = {
            "text": "a sampler",
            "nothing": None,
            "shape": lambda n, generator: torch.zeros(n, 7),
            "count": lambda n, generator: torch.zeros(n + 1, *data.shape),
            "words": lambda n, generator: "samples",
            "nan": lambda n, generator: torch.full((n, *data.shape), float("nan")),
        }
        return given[self.what]


@metric(Value("talk", "units", "lower"))
@dataclass(frozen=True)
class Talk:
    """Gives back a text."""

    def __call__(self, model, data):
        return "excellent"


@metric(Value("jump", "units", "lower"))
@dataclass(frozen=True)
class Jump:
    """Sets the clock back while it measures: for this process, by what Python sees of it."""

    def __call__(self, model, data):
        real = time.time
        time.time = lambda: real() - 1e6
        return Score(1.0)


@method
@dataclass(frozen=True)
class Moving:
    """Goes to another folder."""

    folder: str

    def fit(self, data, seed, budget):
        os.chdir(self.folder)
        return lambda n, generator: torch.zeros(n, *data.shape)


@method
@dataclass(frozen=True)
class Closing:
    """Closes what it could print to."""

    def fit(self, data, seed, budget):
        sys.stdout.close()
        sys.stderr.close()
        return lambda n, generator: torch.zeros(n, *data.shape)


@method
@dataclass(frozen=True)
class Muttering:
    """Raises an error whose text no file holds, with a sequence that clears terminals."""

    def fit(self, data, seed, budget):
        raise ValueError("bad byte \udcff \x1b[2J")


@method
@dataclass(frozen=True)
class Breeding:
    """Leaves a child and a thread behind that take five minutes."""

    log: str  # file for the child's process id
    die: bool = False  # whether it dies itself

    def fit(self, data, seed, budget):
        child = os.fork()
        if not child:
            time.sleep(300)
            os._exit(0)
        with open(self.log, "a") as file:
            file.write(f"{child}\n")
        if self.die:
            os._exit(0)
        threading.Thread(target=time.sleep, args=(300,)).start()
        return lambda n, generator: torch.zeros(n, *data.shape)


@method
@dataclass(frozen=True)
class Stubborn:
    """Hangs, and has taken its own alarm away."""

    def fit(self, data, seed, budget):
        faulthandler.cancel_dump_traceback_later()
        time.sleep(3600)


@dataset()
def counted(generator, log: str):
    """Points without a formula. Adds a line to a log whenever it is loaded."""
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")
    x = torch.randn(70, 2, generator=generator)
    return Data("counted", x[:40], x[40:50], x[50:], (2,))
