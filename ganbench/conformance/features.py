"""The checks of a feature function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..contracts import Data
from ..suite.spec import PluginSpec
from .checks import RTOL, Check, CheckFailed, Checks, Target, as_plugin, run_checks
from .fixtures import images, plane


def check_feature(target: Target, data: Data | None = None, **params: Any) -> list[Check]:
    """Check a feature function with these parameters on `data`, else on points or, if it needs images, on images.
    Raises PluginError if there is no such feature function."""
    part = PluginSpec(as_plugin("feature", target), params)
    return run_checks(part, lambda: _feature(part.build(), data))


def _feature(feature: Any, data: Data | None) -> Checks:
    data = data or _suitable_data(feature)
    # In float64, so that one example alone and in a minibatch agree to RTOL.
    x = data.floats(data.train[:6], torch.float64).requires_grad_()
    features = feature(x)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(x):
        shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise CheckFailed("it gives [B, d]", f"for {len(x)} examples it gave {shape}, expected [{len(x)}, d]")
    yield Check("it gives [B, d]")
    finite = bool(torch.isfinite(features).all())
    yield Check("its features are finite", None if finite else "they hold NaN or infinity")
    (slope,) = torch.autograd.grad(features.sum(), x, allow_unused=True, materialize_grads=True)
    text = "no gradient reaches the examples; is it behind detach(), torch.no_grad() or a comparison?"
    yield Check("it can be differentiated", None if bool(slope.any()) else text)
    # The critic's features of real examples must not change with those that happen to share their minibatch.
    alone = torch.cat([feature(one) for one in x.split(1)])
    alike = torch.allclose(alone, features, rtol=RTOL, atol=RTOL, equal_nan=True)
    text = "the features of an example depend on other examples of the minibatch; use no statistics over the minibatch"
    yield Check("it takes each example by itself", None if alike else text)


def _suitable_data(feature: Any) -> Data:
    """Points, or images if the function fails on points."""
    try:
        feature(plane().train[:6].double())
    except Exception:
        return images()
    return plane()
