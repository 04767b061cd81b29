"""A CUDA device to test with where there is none.

Its tensors say that they are on cuda:0 and hold CPU memory. As on CUDA, they refuse to meet CPU tensors and CPU
generators, and NumPy; whatever would make the host wait for the device is counted, or raises where
`torch.cuda.set_sync_debug_mode("error")` is set. The numbers are those of the CPU's kernels, so that a result differs
from the CPU's only by what the code itself does differently on a GPU.

`with pretend_cuda() as device:` makes `torch.device("cuda")` work within.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

# Operations whose operands may lie on two devices.
CROSSING = {"aten::_to_copy", "aten::copy_"}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
# A CPU scalar is handed to these kernels by value; to all pointwise ones too.
TAKE_SCALARS = {*INDEXING, "aten::fill_", "aten::where", "aten::masked_fill", "aten::masked_fill_"}
# The shape or the value of the result is known on the device alone.
WAITS = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select", "aten::is_nonzero",
    "aten::_unique", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::repeat_interleave",
    "aten::bincount",
}  # fmt: skip
NAME = "Pretend GPU"
MEMORY = 2**34  # bytes that the device says it has


@dataclass
class PretendDevice:
    """What the device has seen."""

    waits: Counter[str] = field(default_factory=Counter)  # "folder/file.py:line operation" -> times
    operations: int = 0
    debug: str = "default"  # of torch.cuda.set_sync_debug_mode
    largest: float = MEMORY  # bytes of a tensor that still fits
    generators: dict[int, Any] = field(default_factory=dict)  # those on the device, by their address
    graph: Graph | None = None  # that is being captured

    def wait(self, operation: str) -> None:
        """The host waits. Raises RuntimeError in the debug mode "error", and where a graph is being captured."""
        if self.graph:
            raise RuntimeError(f"operation not permitted when stream is capturing ({operation})")
        if self.debug == "error":
            raise RuntimeError(f"called a synchronizing CUDA operation ({operation})")
        self.waits[f"{_caller()} {operation}"] += 1

    @property
    def places(self) -> set[str]:
        """The lines at which the host waited."""
        return {wait.split(" ")[0] for wait in self.waits}


@dataclass
class Graph:
    """A CUDA graph: operations that are noted down once, and repeated on the same memory at each replay."""

    operations: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)  # with arguments and result
    before: list[tuple[torch.Tensor, torch.Tensor]] = field(
        default_factory=list
    )  # what the capture wrote over

    def note(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Remember an operation. What a view gives stays true by itself."""
        if not func.is_view:
            self.operations.append((func, args, kwargs, result))

    def undo(self) -> None:
        """Bring all memory back to where the capture began: a capture runs nothing."""
        for tensor, value in reversed(self.before):
            tensor.copy_(value)
        self.before.clear()

    def replay(self) -> None:
        """Run it all again."""
        with no_dispatch():
            for func, args, kwargs, result in self.operations:
                again = func(*args, **kwargs)
                if not func._schema.is_mutable:
                    _copied(result, again)


def _copied(old: Any, new: Any) -> None:
    for one, other in zip(*(x if isinstance(x, list | tuple) else [x] for x in (old, new)), strict=True):
        if isinstance(one, torch.Tensor):
            one.copy_(other)


class Stream:
    """A stream on which nothing is ever late."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def wait_stream(self, other: Stream) -> None: ...

    def synchronize(self) -> None: ...


def _caller() -> str:
    """The innermost line that is neither PyTorch's nor this file's."""
    frame = sys._getframe(1)
    while frame.f_back and ("/torch/" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
        frame = frame.f_back
    return f"{'/'.join(frame.f_code.co_filename.rsplit('/', 2)[1:])}:{frame.f_lineno}"


class CudaTensor(torch.Tensor):
    """A tensor [*] on the device; `inner` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> CudaTensor:
        # C++ sees a meta tensor: for a CUDA one autograd would ask the driver for a stream.
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("meta"),
        )
        made.inner = inner
        return made

    device = property(lambda self: torch.device("cuda:0"))
    is_cuda = property(lambda self: True)
    is_cpu = is_meta = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"a tensor of the pretend device outlived it ({func})")

    def __repr__(self) -> str:
        return f"CudaTensor({self.inner})"

    def to(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        # C++ would compare "meta" with "cuda" and copy what is there already.
        device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
        stays = device is None or _on_device(device)
        if stays and dtype in (None, self.dtype) and layout is None and not kwargs.get("copy"):
            return self
        return super().to(*args, **kwargs)

    # C++ would make a list among the indices into a meta tensor, which has no numbers.
    def __getitem__(self, key: Any) -> torch.Tensor:
        return super().__getitem__(_with_tensors(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(_with_tensors(key), value)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor first."
        )

    __array__ = numpy


def _with_tensors(key: Any) -> Any:
    keys = key if isinstance(key, tuple) else (key,)
    made = tuple(torch.tensor(one) if isinstance(one, list) else one for one in keys)
    return made if isinstance(key, tuple) else made[0]


def _on_device(device: Any) -> bool:
    """Whether a device is the pretend one, which C++ takes for "meta"."""
    return torch.device(device).type in ("cuda", "meta")


class Names(TorchFunctionMode):
    """Calls the device "meta" wherever C++ would hear "cuda" and start the driver, and "cuda:0" in answers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.device.__get__:
            device = func(*args)
            return torch.device("cuda:0") if device.type == "meta" else device
        if func is torch.device:
            return func(*args, **kwargs)
        if func is torch.tensor and (device := kwargs.pop("device", None)) is not None:
            return func(*args, **kwargs).to(_renamed(device))
        args = tuple(map(_renamed, args))
        return func(*args, **{name: _renamed(value) for name, value in kwargs.items()})


def _renamed(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("cuda"):
        return torch.device("meta")
    return torch.device("meta") if isinstance(value, torch.device) and value.type == "cuda" else value


class Dispatch(TorchDispatchMode):
    """Runs every operation on CPU memory, after the checks that CUDA would make."""

    def __init__(self, seen: PretendDevice) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        flat: list[Any] = []  # tensors and generators
        inner_args = _mapped(lambda one: _inner(one, flat), args)
        inner_kwargs = {name: _mapped(lambda one: _inner(one, flat), value) for name, value in kwargs.items()}
        ours = any(isinstance(one, CudaTensor) for one in flat)
        asked = kwargs.get("device")
        on_device = ours if asked is None else _on_device(asked)
        self._check_generators(func, flat, on_device)
        if not ours and not on_device:
            return func(*args, **kwargs)
        self.seen.operations += 1
        name, mutable, in_place_view, written, returned = _about(func)
        if ours and name not in CROSSING:
            self._check_operands(func, name, args, flat)
        self._count_waits(name, args, on_device)
        if asked is not None and _on_device(asked):
            inner_kwargs["device"] = torch.device("cpu")
            inner_kwargs.pop("pin_memory", None)
        graph = self.seen.graph
        if graph and mutable:
            changed = [
                inner_kwargs.get(key, inner_args[at] if at < len(inner_args) else None) for at, key in written
            ]
            for one in changed:
                graph.before += [
                    (t, t.clone()) for t in (one if isinstance(one, list) else [one]) if t is not None
                ]
        result = func(*inner_args, **inner_kwargs)
        if graph:
            graph.note(func, inner_args, inner_kwargs, result)
        if in_place_view:
            with no_dispatch():  # the wrapper changes its shape too
                func(*args, **kwargs)
        if mutable and returned:  # what was written into stands in the place of the results
            given = [kwargs.get(key, args[place] if place < len(args) else None) for place, key in written]
            return given[0] if returned == 1 else tuple(given[:returned])
        return _mapped(self._wrapped, result) if on_device else result

    def _check_generators(self, func: Any, flat: list[Any], on_device: bool) -> None:
        for one in flat:
            if isinstance(one, torch._C.Generator) and (one._cdata in self.seen.generators) != on_device:
                wanted, found = ("cuda", "cpu") if on_device else ("cpu", "cuda")
                raise RuntimeError(
                    f"Expected a '{wanted}' device type for generator but found '{found}' ({func})"
                )

    def _check_operands(self, func: Any, name: str, args: Any, flat: list[Any]) -> None:
        for one in flat:
            if not isinstance(one, torch.Tensor) or isinstance(one, CudaTensor):
                continue
            if one.ndim == 0 and (torch.Tag.pointwise in func.tags or name in TAKE_SCALARS):
                continue
            if name in INDEXING and one is not args[0] and not one.is_floating_point():
                self.seen.wait("upload of an index")  # CUDA tensors take indices from the CPU
                continue
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two, cuda:0 and cpu! ({name})"
            )
        if name in INDEXING and any(
            isinstance(one, torch.Tensor) and one.dtype in (torch.bool, torch.uint8) for one in args[1]
        ):
            self.seen.wait("boolean index")

    def _count_waits(self, name: str, args: Any, on_device: bool) -> None:
        if name in WAITS:
            self.seen.wait(name.removeprefix("aten::"))
        elif name == "aten::_to_copy" and isinstance(args[0], CudaTensor) != on_device:
            self.seen.wait("upload" if on_device else "download")
        elif name == "aten::copy_":
            to, source = (isinstance(one, CudaTensor) for one in args[:2])
            if to != source and (source or args[1].ndim):  # a scalar of the CPU is written by value
                self.seen.wait("upload" if to else "download")

    def _wrapped(self, one: Any) -> Any:
        if type(one) is not torch.Tensor:
            return one
        if one.numel() * one.element_size() > self.seen.largest:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate more than the pretend device has"
            )
        return CudaTensor(one)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """`function` of everything in nested lists and tuples."""
    if isinstance(value, list | tuple):
        return type(value)(_mapped(function, one) for one in value)
    return function(value)


def _inner(one: Any, seen: list[Any]) -> Any:
    """What is on the CPU of an argument, which is remembered if it is a tensor or a generator."""
    if isinstance(one, torch.Tensor | torch._C.Generator):
        seen.append(one)
    return one.inner if isinstance(one, CudaTensor) else one


@cache
def _about(func: Any) -> tuple[str, bool, bool, tuple[tuple[int, str], ...], int]:
    """Of an operation: its name, whether it writes, whether it changes a shape in place, which arguments it writes into
    (place, name), and how many of those it returns."""
    schema = func._schema
    written = tuple(
        (place, one.name)
        for place, one in enumerate(schema.arguments)
        if one.alias_info and one.alias_info.is_write
    )
    returned = sum(bool(one.alias_info and one.alias_info.is_write) for one in schema.returns)
    return schema.name, schema.is_mutable, torch.Tag.inplace_view in func.tags, written, returned


def _generator_class(seen: PretendDevice, plain: Any) -> Any:
    """The class that stands for `torch.Generator`."""

    class Generator(plain):
        """One of the CPU's, which remembers whether it is on the device."""

        def __new__(cls, device: Any = "cpu") -> Any:
            return super().__new__(cls, "cpu")

        def __init__(self, device: Any = "cpu") -> None:
            if torch.device(device).type == "cuda":
                seen.generators[self._cdata] = self  # kept, so that no other one gets its address

        @property
        def device(self) -> torch.device:
            return torch.device("cuda:0" if self._cdata in seen.generators else "cpu")

    return Generator


def _cuda_functions(seen: PretendDevice) -> dict[str, Any]:
    """What stands for functions and classes of `torch.cuda`, by name."""

    def set_debug(mode: str) -> None:
        seen.debug = mode

    @contextmanager
    def capture(graph: Graph, *args: Any, **kwargs: Any) -> Iterator[None]:
        seen.graph = graph
        try:
            yield
        finally:
            seen.graph = None
            with no_dispatch():
                graph.undo()

    def set_fraction(fraction: float, device: Any = None) -> None:
        seen.largest = fraction * MEMORY

    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda device=None: NAME,
        "is_initialized": lambda: False,
        "is_current_stream_capturing": lambda: False,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda device=None: None,
        "max_memory_allocated": lambda device=None: 0,
        "mem_get_info": lambda device=None: (MEMORY, MEMORY),
        "set_sync_debug_mode": set_debug,
        "get_sync_debug_mode": lambda: seen.debug,
        "CUDAGraph": Graph,
        "graph": capture,
        "Stream": Stream,
        "stream": lambda stream: nullcontext(),
        "current_stream": lambda device=None: Stream(),
        "set_per_process_memory_fraction": set_fraction,
    }


@contextmanager
def pretend_cuda() -> Iterator[PretendDevice]:
    """The device, on this thread, until the end of the block."""
    seen = PretendDevice()
    plain = torch.Generator
    generator_class = _generator_class(seen, plain)
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "ganbench"]
    holders = [torch, *(module for module in modules if getattr(module, "Generator", None) is plain)]
    with (
        patch.multiple(torch.cuda, **_cuda_functions(seen)),
        patch.object(torch.backends.cuda, "is_built", lambda: False),  # optimisers ask it before they record
        patch.object(torch.accelerator, "is_available", lambda: False),
        patch.object(torch.accelerator, "current_accelerator", lambda *args, **kwargs: None),
    ):
        for holder in holders:
            holder.Generator = generator_class  # type: ignore[attr-defined]
        try:
            with Names(), Dispatch(seen):
                yield seen
        finally:
            for holder in holders:
                holder.Generator = plain  # type: ignore[attr-defined]
