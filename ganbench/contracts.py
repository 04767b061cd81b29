"""The types for authors of methods, tricks, metrics and datasets.

Nothing here imports torch, since the command line and the reports use these types too.
Shapes: S seeds in a stack, B examples in a minibatch, `*shape` one example. Authors never see S:
everything is written for one replica (one seed) and vectorised by the engine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

from .errors import DatasetError, PluginError, did_you_mean

if TYPE_CHECKING:
    from torch import Generator, Tensor, device, dtype
    from torch.nn import Module

Kind = Literal["method", "trick", "divergence", "feature", "metric", "dataset"]
Better = Literal["higher", "lower", "neither"]  # neither: the value is not ranked

# ---------------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Modes:
    """The modes of a mixture of isotropic Gaussians. Raises DatasetError for weights that are not probabilities."""

    centers: Tensor  # [K, d]
    std: float  # standard deviation of every mode, in the units of the data
    dims: int | None = None  # number of dimensions with noise, the first ones; None: all
    weights: Tensor | None = None  # probability of each mode [K], positive, with sum 1; None: all equal

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        k, weights = len(self.centers), self.weights.double()
        if weights.shape == (k,) and bool((weights > 0).all()) and abs(weights.sum().item() - 1) < 1e-5:
            return
        got = f"{list(weights.shape)}, least {weights.min().item():g}, sum {weights.sum().item():g}"
        raise DatasetError(
            f"Modes.weights: expected [{k}] probabilities above 0 that add up to 1, one for each center; got {got}"
        )

    @property
    def probabilities(self) -> Tensor:
        """The weights [K] in float64; 1 / K each if `weights` is None."""
        weights = self.centers.new_ones(len(self.centers)) if self.weights is None else self.weights
        return weights.double() / weights.double().sum()


class Labels(NamedTuple):
    """Class labels of the three splits, int64 tensors [N]."""

    train: Tensor
    valid: Tensor
    test: Tensor


@dataclass(frozen=True)
class Simulator:
    """The source of the data, if it is a program with a few parameters that cannot be differentiated.

    Its cost is counted in generated examples (simulator calls). `truth` is for scores only: no method may read it.
    """

    simulate: Callable[[Tensor, int, Generator], Tensor]  # (parameters [P], n, generator) -> [n, *shape]
    parameters: tuple[str, ...]  # descriptions of the parameters, with units
    low: tuple[float, ...]  # lower end of each parameter's search range
    high: tuple[float, ...]  # upper end
    truth: tuple[float, ...]  # the values that made the data


@dataclass(frozen=True)
class Data:
    """A dataset with its fixed splits.

    Images are uint8 tensors [N, C, H, W]; everything else is float32 [N, *shape]. Methods and metrics see
    floats: `floats` maps pixels 0..255 onto `scale`, which is (0, 1) for all images.
    """

    name: str
    train: Tensor
    valid: Tensor
    test: Tensor
    shape: tuple[int, ...]  # of one example
    scale: tuple[float, float] | None = None  # least and greatest value as floats; None: unbounded
    modes: Modes | None = None
    log_density: Callable[[Tensor], Tensor] | None = None  # [B, *shape] -> [B], nats
    labels: Labels | None = None
    classes: tuple[str, ...] = ()
    simulator: Simulator | None = None
    notes: tuple[str, ...] = ()  # sentences on how the user's files were read, and which were skipped

    def floats(self, x: Tensor, dtype: dtype | None = None) -> Tensor:
        """Stored examples as floats in `scale`; floats come back unchanged (in `dtype`, if given)."""
        import torch

        dtype = dtype or torch.float32
        if x.dtype != torch.uint8:
            return x.to(dtype)
        low, high = self.scale or (0.0, 1.0)
        return x.to(dtype) * ((high - low) / 255) + low


# ---------------------------------------------------------------------------------------------- divergences


class Divergence:
    """An f-divergence and its variational bound (Nowozin et al. 2016, section 2; tables 1, 2, 5 and 6).

    For a convex f with f(1) = 0 and u = p/q,

        D_f(P‖Q) = E_Q[f(u)] ≥ E_P[T] − E_Q[f*(T)],    f*(t) = sup_u (t u − f(u)),

    with equality at T* = f'(u). A net returns any real v; the increasing output activation g_f maps it to T = g_f(v) in
    the domain of f*. Losses use f*(g_f(v)) as one expression, `composed`, without overflow or cancellation. All
    functions are elementwise, in any floating-point type, and can be vectorised and differentiated twice. A new
    divergence defines `f`, `conjugate` and `activation`, and inherits the rest.

    f: convex on u > 0 with f(1) = `minimum`, nats
    conjugate: f*(t), convex on its domain
    activation: g_f(v), increasing, from all of R into the domain of f*
    """

    minimum: ClassVar[float] = 0.0  # D_f(P‖P) = f(1)

    def f(self, u: Tensor) -> Tensor:
        """f(u) for density ratios u > 0."""
        raise NotImplementedError(f"{type(self).__name__} must define f(u)")

    def conjugate(self, t: Tensor) -> Tensor:
        """f*(t) = sup over u > 0 of t u − f(u)."""
        raise NotImplementedError(f"{type(self).__name__} must define conjugate(t)")

    def activation(self, v: Tensor) -> Tensor:
        """g_f(v): the output v of a net as a T in the domain of f*."""
        raise NotImplementedError(f"{type(self).__name__} must define activation(v)")

    def composed(self, v: Tensor) -> Tensor:
        """f*(g_f(v)); override it if computing one after the other overflows or cancels."""
        return self.conjugate(self.activation(v))

    def slope(self, u: Tensor) -> Tensor:
        """T* = f'(u), where the bound is tight; by automatic differentiation unless given."""
        import torch

        return torch.func.grad(lambda u: self.f(u).sum())(u)


# ---------------------------------------------------------------------------------------------- games


@dataclass(frozen=True)
class Draw:
    """Random numbers for each example of a minibatch: standard normal, or uniform in [low, high)."""

    shape: tuple[int, ...]
    low: float | None = None
    high: float | None = None

    @classmethod
    def normal(cls, *shape: int) -> Draw:
        """Standard normal numbers of this shape for each example."""
        return cls(shape)

    @classmethod
    def uniform(cls, *shape: int, low: float = 0.0, high: float = 1.0) -> Draw:
        """Uniform numbers in [low, high) of this shape for each example."""
        return cls(shape, low, high)


class Batch:
    """A minibatch, as a loss gets it: `b.x` [B, *shape] real examples as floats, `b.y` [B] labels (if the dataset has
    any), every draw of the game by its name (`b.z` [B, z_dim]), `b.step` (rounds played so far, a scalar tensor) and
    `b.progress` (the same as a fraction of all rounds, in [0, 1))."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self.__dict__["tensors"][name]
        except KeyError:
            have = ", ".join(sorted(self.__dict__.get("tensors", {})))
            raise AttributeError(f"this game has no draw {name!r}; the minibatch has: {have}") from None


class Nets(Protocol):
    """The nets of one replica during a loss: `nets.G(z)` applies the net named G with its live parameters."""

    def __getattr__(self, name: str) -> Callable[..., Tensor]: ...

    def flat(self, player: str) -> Tensor:
        """All parameters of a player as one vector [P]."""
        ...

    def with_flat(self, player: str, vector: Tensor) -> Nets:
        """The same nets with this player's parameters [P] in place of the live ones."""
        ...

    def step(self, player: str, b: Batch) -> Nets:
        """The nets after one update of `player` on `b` by its own optimiser and its live state, differentiable with
        respect to all inputs of the update (Metz et al. 2017, eq. 7-9)."""
        ...

    def recall(self, name: str) -> Any:
        """The current value of the game's memory `name`."""
        ...


Loss = Callable[[Nets, Batch], "Tensor"]  # a scalar, nats where it has a unit
Feature = Callable[["Tensor"], "Tensor"]  # examples [B, *shape] in the data's scale -> features [B, d]
View = Callable[["Tensor", Batch, int], "Tensor"]  # (input [B, ...], batch, number of the call) -> [B, ...]


class Optimiser(Protocol):
    """Elementwise update of a parameter tensor [..., P]; a pure function, so that it can be differentiated through.

    One that also has `update` and `freeze` (see optim.InPlace) takes its steps in place unless they are differentiated
    through.
    """

    def init(self, params: Tensor) -> tuple[Tensor, ...]: ...

    def step(
        self, params: Tensor, grad: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]: ...


@dataclass(frozen=True)
class Player:
    """One player of the game: the nets that it trains, the loss that it minimises, and its optimiser."""

    nets: str | tuple[str, ...]
    loss: Loss
    optimiser: Optimiser
    steps: int = 1  # updates in each round
    project: Callable[[Tensor], Tensor] | None = None  # applied to the parameters [..., P] after each update
    # Fraction of all rounds in [0, 1) -> factor of the update, a scalar tensor: a learning-rate schedule.
    schedule: Callable[[Tensor], Tensor] | None = None
    extended: bool = False  # whether a trick has modified its loss, which other tricks must then not replace

    @property
    def owns(self) -> tuple[str, ...]:
        """Names of the nets it owns."""
        return (self.nets,) if isinstance(self.nets, str) else tuple(self.nets)


@dataclass(frozen=True)
class Memory:
    """A value that the game carries from round to round, such as a running mean of parameters."""

    init: Callable[[Nets], Any]  # -> a tensor, or a dictionary of tensors
    update: Callable[[Any, Nets], Any]  # after every round: (value, nets) -> value


@dataclass(frozen=True)
class Game:
    """Players, the nets they own, the random numbers they need, and how to sample after training.

    The players move in the order of `players`. `alternating`: each sees the others' latest parameters and has its own
    minibatch; `simultaneous`: all gradients are taken at the same point, on the same minibatch, then all move.
    """

    nets: Mapping[str, Module]
    players: Mapping[str, Player]
    draws: Mapping[str, Draw | tuple[int, ...]]
    sample: Callable[[Nets, Tensor], Tensor]  # (nets, latent [B, ...]) -> [B, *shape], in the data's scale
    latent: str = "z"  # name of the draw that `sample` takes
    order: Literal["alternating", "simultaneous"] = "alternating"
    views: Mapping[str, tuple[View, ...]] = field(default_factory=dict)
    memory: Mapping[str, Memory] = field(default_factory=dict)
    # Intermediate images of a sample, coarse to fine, each [B, ...]; the last is the sample. None: a single step.
    stages: Callable[[Nets, Tensor], tuple[Tensor, ...]] | None = None
    # A net with outputs v, and a divergence f: E_data[g_f(v)] - E_samples[f*(g_f(v))] is a lower bound of
    # D_f(data ‖ samples).
    bound: tuple[str, Divergence] | None = None
    # Additional numbers to record and plot with the losses, by name; NaN while there is no value yet.
    probes: Mapping[str, Loss] = field(default_factory=dict)

    def draw(self, name: str) -> Draw:
        """The draw of this name; a bare shape means standard normal numbers."""
        draw = self.draws[name]
        return draw if isinstance(draw, Draw) else Draw(tuple(draw))

    def net(self, name: str) -> Module:
        """The net of this name. Raises PluginError if there is none, as when a trick does not fit the method."""
        if name not in self.nets:
            raise PluginError(f"this game has no net {name!r}{did_you_mean(name, self.nets)}")
        return self.nets[name]

    def player(self, name: str) -> Player:
        """The player of this name. Raises PluginError if there is none, as when a trick does not fit the method."""
        if name not in self.players:
            raise PluginError(f"this game has no player {name!r}{did_you_mean(name, self.players)}")
        return self.players[name]

    def with_loss(self, player: str, loss: Callable[[Loss, Nets, Batch], Tensor]) -> Game:
        """The game in which `player` minimises `loss(its present loss, nets, b)`. Raises PluginError for an unknown
        player."""
        old = self.player(player)
        inner = old.loss
        new = replace(old, loss=lambda nets, b: loss(inner, nets, b), extended=True)
        return replace(self, players={**self.players, player: new})

    def with_view(self, net: str, view: View) -> Game:
        """The game in which `view` transforms every input of `net`; the view added last is applied first. Raises
        PluginError for an unknown net."""
        self.net(net)
        return replace(self, views={**self.views, net: (view, *self.views.get(net, ()))})

    def with_net(self, name: str, net: Module) -> Game:
        """The game with another net of this name; a `bound` of the old net is dropped. Raises PluginError for an
        unknown net."""
        self.net(name)
        bound = None if self.bound and self.bound[0] == name else self.bound
        return replace(self, nets={**self.nets, name: net}, bound=bound)

    def with_draws(self, **draws: Draw | tuple[int, ...]) -> Game:
        """The game with additional draws in each minibatch."""
        return replace(self, draws={**self.draws, **draws})

    def with_memory(self, name: str, memory: Memory) -> Game:
        """The game that carries `memory` from round to round; losses read it by `nets.recall(name)`."""
        return replace(self, memory={**self.memory, name: memory})


@dataclass(frozen=True)
class Budget:
    """The training budget, for methods with their own training loop (`fit`)."""

    steps: int
    batch: int
    device: device
    dtype: dtype


class Sampler(Protocol):
    """The result of `fit`: a function that returns n fresh samples [n, *shape] as floats in the data's scale.

    It may have two attributes, dictionaries of tensors: `curves`, plotted like the losses of a game ("step" [L]
    and others [L]), and `state`, stored with the samples, which metrics read as `model.state`.
    """

    def __call__(self, n: int, generator: Generator) -> Tensor: ...


# ---------------------------------------------------------------------------------------------- scores


# Prefixes of controls in the stored details; any other name of `Score.controls` gets the prefix "control_".
CONTROLS = ("ceiling", "floor", "control", "accuracy")
SENTENCES = ("verdict", "warning", "caution", "invalid")  # fields of `Score`, stored among the details


@dataclass(frozen=True)
class Score:
    """One measured value. `sem` is its standard error over the items that it averages (test points, images), never over
    training seeds; `details` holds the data for the metric's `figure` (numbers, strings, tensors).

    `controls` are printed with the values: values of other samplers under the same protocol, such as "ceiling" (a
    perfect sampler) or "train" (training examples), and "accuracy" (of a classifier that the value relies on). A value
    that is no better than a control whose name begins with "floor" (a trivial sampler) is marked. A control is a
    number, which belongs to its Score, or a mapping with a number for each of the metric's values, by name.

    A metric that returns several Scores gives each control and sentence once, in any of them, except "invalid" and a
    "floor" that is a number, which belong to their own Score. All are stored with the details. For one more release,
    details with such names ("ceiling…", "floor…", "accuracy…" or "control_…") count as controls too. Raises PluginError
    for a control that is not a number."""

    value: float
    sem: float | None = None
    n: int | None = None  # number of items averaged
    details: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, float | Mapping[str, float]] = field(default_factory=dict)
    verdict: str | None = None  # the meaning of the value in words; counted over the seeds
    warning: str | None = None  # a possible problem of this value
    caution: str | None = None  # a limitation of all values of this metric
    # Why the value is not valid (a control failed); it is then shown, but not ranked or compared.
    invalid: str | None = None

    def __post_init__(self) -> None:
        for name, control in self.controls.items():
            for value in control.values() if isinstance(control, Mapping) else [control]:
                if not isinstance(value, int | float):
                    raise PluginError(
                        f"Score.controls[{name!r}]: expected a number, or a mapping of the metric's values to numbers; "
                        f"got a {type(value).__name__}; give float(...)"
                    )

    @property
    def stored(self) -> dict[str, Any]:
        """The details with controls and sentences, as stored on disk."""
        controls = {
            name if name.startswith(CONTROLS) else f"control_{name}": value
            for name, value in self.controls.items()
        }
        sentences = {name: text for name in SENTENCES if (text := getattr(self, name)) is not None}
        return {**self.details, **controls, **sentences}


@dataclass(frozen=True)
class Value:
    """A value that a metric measures: the name of its column, its unit and the better direction."""

    name: str
    unit: str
    better: Better


class Model(Protocol):
    """One trained replica, as metrics see it."""

    @property
    def latent(self) -> Draw | None:
        """The draw that `generate` takes; None if there is no generator to differentiate (fit, samples)."""
        ...

    def samples(self, n: int) -> Tensor:
        """The first n of a fixed stream of samples [n, *shape], floats; the same for all metrics. Raises SampleError if
        fewer are available."""
        ...

    def generate(self, z: Tensor) -> Tensor:
        """The samples [n, *shape] of latents z [n, *latent.shape], differentiable with respect to z."""
        ...

    def stages(self, z: Tensor) -> tuple[Tensor, ...]:
        """The intermediate images of the samples of these latents, coarse to fine; empty for a single step."""
        ...

    def generator(self, purpose: str) -> Generator:
        """A random generator for this seed and purpose, always on the CPU. Draw there and move the numbers,
        `torch.randn(n, generator=g).to(samples)`, so that a score does not depend on the device."""
        ...

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The stored tensors of the seed: parameters of its nets, or the `state` of the sampler that `fit` returned;
        empty if only samples are known."""
        ...

    @property
    def game(self) -> Game | None:
        """The game that was played; None for `fit`, and if only samples are known."""
        ...

    @property
    def nets(self) -> Nets | None:
        """Its nets after training, without the views of tricks; None if there is no game."""
        ...


# ---------------------------------------------------------------------------------------------- records

COLUMNS = (
    "suite", "dataset", "method", "label", "tricks", "params", "seed", "metric", "protocol", "value", "sem",
    "n", "unit", "better", "status", "error", "seconds", "train_seconds", "device", "dtype", "stack", "cell",
    "version", "floor", "invalid",
)  # fmt: skip

Status = Literal["ok", "diverged", "failed", "timeout", "oom", "lost"]


@dataclass(frozen=True)
class Record:
    """One row of records.jsonl: a cell, a seed, a metric. The fields are the columns, in this order."""

    suite: str
    dataset: str
    method: str
    label: str
    tricks: tuple[str, ...]
    params: Mapping[str, Any]
    seed: int
    metric: str
    protocol: str  # short hash of how the value was measured; see `metric`
    value: float | None  # None unless status is "ok"
    sem: float | None
    n: int | None
    unit: str
    better: Better
    status: Status
    error: str | None
    seconds: float  # time for this score
    train_seconds: float  # time to train the stack, divided by its seeds
    device: str
    dtype: str
    stack: int  # seeds trained together
    cell: str
    version: str  # of ganbench
    floor: float | None = None  # the score of a trivial sampler
    invalid: str | None = None  # why the value is not valid: a control of its metric failed


# ---------------------------------------------------------------------------------------------- marks

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Mark:
    """The arguments of a decorator, on the class or function that it marks."""

    kind: Kind
    name: str
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    values: tuple[Value, ...] = ()
    version: int = 1
    reads: tuple[str, ...] = ()


def snake(name: str) -> str:
    """`InstanceNoise` -> `instance_noise`, `GAN` -> `gan`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _marker(kind: Kind, name: str | None, **extra: Any) -> Callable[[T], T]:
    def mark(target: T) -> T:
        if not callable(target):
            raise PluginError(f"@{kind} marks a class or a function, not {target!r}")
        target.__ganbench__ = Mark(kind, name or snake(target.__name__), **extra)  # type: ignore[attr-defined]
        return target

    return mark


def _bare(kind: Kind, target: Any, **extra: Any) -> Any:
    """`@method`, `@method()` and `@method("name")` alike."""
    return _marker(kind, None, **extra)(target) if callable(target) else _marker(kind, target, **extra)


def method(
    name: Any = None,
    *,
    needs: tuple[str, ...] = (),
    provides: tuple[str, ...] = (),
    reads: tuple[str, ...] = (),
) -> Any:
    """Mark a frozen dataclass with `game(data) -> Game`, or with `fit(data, seed, budget) -> sampler`.

    `needs`: features that the dataset must have, such as "simulator". `provides`: features for metrics besides samples:
    "parameters", "bound" (a game with a `bound`), or "discriminator" (a net "D" that is a `Sequential` and judges
    examples one by one).

    `reads`, in all marks: files that the code reads, such as ("weights.json",), relative to its own file; a folder
    stands for all its files. Results are computed again when their content changes. Modules in the same folder that the
    code imports, and files that a parameter names, need not be listed.
    """
    return _bare("method", name, needs=needs, provides=provides, reads=reads)


def trick(name: Any = None, *, reads: tuple[str, ...] = ()) -> Any:
    """Mark a frozen dataclass with `__call__(game, data) -> Game`. `reads`: as in `method`."""
    return _bare("trick", name, reads=reads)


def divergence(name: Any = None, *, reads: tuple[str, ...] = ()) -> Any:
    """Mark a frozen dataclass that extends `Divergence` by `f(u)`, `conjugate(t)` and `activation(v)`. `reads`: as in
    `method`."""
    return _bare("divergence", name, reads=reads)


def feature(name: Any = None, *, reads: tuple[str, ...] = ()) -> Any:
    """Mark a frozen dataclass with `__call__(x) -> features`, [B, *shape] in the data's scale -> [B, d], differentiable
    and for each example separately, for tricks that match features. `reads`: as in `method`."""
    return _bare("feature", name, reads=reads)


def metric(
    *values: Value,
    name: str | None = None,
    needs: tuple[str, ...] = (),
    version: int = 1,
    reads: tuple[str, ...] = (),
) -> Callable[[T], T]:
    """Mark a frozen dataclass with `__call__(model, data) -> Score` (a tuple of them, if it has several values).

    `needs`: "modes", "log_density", "labels", "pixels", "simulator" of the dataset, "generator", "bound",
    "discriminator" or "parameters" of the method; if one is missing, the metric does not apply and has no row.
    Increase `version` when the numbers change. `reads`: as in `method`.

    Values are compared only under the same protocol. `protocol(self, data) -> str` describes in a sentence how the
    value is measured; `protocol_fields(self, data)` returns a mapping of the quantities from the data (such as the
    number of test examples) and constants that it depends on, as numbers, texts and lists. Name, version, parameters
    and fields are hashed. The sentence is hashed only if there are no fields; rewording it is then a new protocol.

    A metric may have a figure in the report: `figure(self, cells, style)` gets the methods of one dataset
    (`store.results.Cell`, with the details of this metric only) and drawing functions (`report.style.Style`), and
    returns `style.plot(figure, caption, alt)`, several of them, or None. If it needs matplotlib, import it inside.
    """
    return _marker("metric", name, values=values, needs=needs, version=version, reads=reads)


def dataset(
    name: Any = None,
    *,
    provides: tuple[str, ...] = (),
    version: int = 1,
    reads: tuple[str, ...] = (),
) -> Any:
    """Mark a function `(generator, **parameters) -> Data`; the generator has a fixed seed, so that the data are the
    same on every machine. `provides`: those of "modes", "log_density", "labels", "pixels", "simulator" that its Data
    has.
    Increase `version` when its density or simulator changes in a way that its file does not show. `reads`: as in
    `method`, for files that the density or the simulator needs; files of the data themselves need not be listed."""
    return _bare("dataset", name, provides=provides, version=version, reads=reads)
