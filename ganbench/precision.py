"""The precision of matrix products and convolutions of float32 numbers, the same on every device.

PyTorch's defaults let cuDNN's convolutions round float32 inputs to TF32. ganbench sets all switches explicitly, only
through `fp32_precision` (PyTorch 2.9): it must not be mixed with the older names (`allow_tf32`,
`set_float32_matmul_precision`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Precision = Literal["float32", "tf32", "bf16"]
# One for each kind of product, since a setting of a whole library does not override theirs.
_LIBRARIES: Any = torch.backends  # Any: PyTorch's type stubs do not know these attributes
_SWITCHES = (
    _LIBRARIES.cuda.matmul, _LIBRARIES.cudnn.conv, _LIBRARIES.cudnn.rnn,
    _LIBRARIES.mkldnn.matmul, _LIBRARIES.mkldnn.conv, _LIBRARIES.mkldnn.rnn,
)  # fmt: skip


def set_float32(precision: Literal["ieee", "tf32"] = "ieee") -> None:
    """Multiply float32 numbers exactly as given ("ieee"), or rounded to 10 bits of mantissa on hardware that supports
    it ("tf32")."""
    for switch in _SWITCHES:
        switch.fp32_precision = precision


@contextmanager
def float32_products(precision: Literal["ieee", "tf32"] = "ieee") -> Iterator[None]:
    """`set_float32` within the block."""
    before = [switch.fp32_precision for switch in _SWITCHES]
    set_float32(precision)
    try:
        yield
    finally:
        for switch, value in zip(_SWITCHES, before, strict=True):
            switch.fp32_precision = value


class _Bfloat16Products(TorchFunctionMode):
    """Rounds the float32 operands and results of products and convolutions to bfloat16; all tensors stay float32.

    `torch.autocast` cannot do that here: it does not reach linear layers and convolutions inside `torch.vmap`.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _PRODUCTS:
            return func(*args, **(kwargs or {}))
        result = func(
            *map(_to_bfloat16, args), **{name: _to_bfloat16(value) for name, value in (kwargs or {}).items()}
        )
        return result.float() if result.dtype == torch.bfloat16 else result


def _to_bfloat16(value: Any) -> Any:
    """A float32 tensor, or the float32 tensors in a list, as bfloat16; anything else unchanged."""
    if isinstance(value, list | tuple):
        return type(value)(map(_to_bfloat16, value))
    return value.bfloat16() if isinstance(value, Tensor) and value.dtype == torch.float32 else value


_NAMES = ("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "einsum", "conv1d", "conv2d",
          "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")  # fmt: skip
_PRODUCTS = {
    torch.nn.functional.linear,
    *(getattr(place, name) for place in (torch, Tensor) for name in _NAMES if hasattr(place, name)),
}


@contextmanager
def training_precision(precision: Precision) -> Iterator[None]:
    """The arithmetic of training within the block: "float32"; "tf32", with factors of products and convolutions rounded
    to TF32; or "bf16", with factors and results rounded to bfloat16. Parameters, optimisers, sums and everything else
    stay in float32."""
    with (
        float32_products("tf32" if precision == "tf32" else "ieee"),
        _Bfloat16Products() if precision == "bf16" else nullcontext(),
    ):
        yield
