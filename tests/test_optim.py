"""Our optimisers against torch.optim in float64, and as what unrolling needs: pure and differentiable."""

from __future__ import annotations

import pytest
import torch

from ganbench import SGD, Adam, RMSprop

PAIRS = [
    (Adam(3e-3), lambda p: torch.optim.Adam(p, lr=3e-3, betas=(0.5, 0.999))),
    (
        Adam(1e-2, betas=(0.9, 0.99), eps=1e-6),
        lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.9, 0.99), eps=1e-6),
    ),
    (SGD(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    (SGD(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    (RMSprop(1e-3), lambda p: torch.optim.RMSprop(p, lr=1e-3)),
]


def walk(ours, theirs, strided=False):
    """Twenty steps on a stack [3, 40] and on the same numbers with torch.optim; the largest distance."""
    source = torch.Generator().manual_seed(0)
    params = torch.randn(3, 40, dtype=torch.float64, generator=source)
    twin = params.clone().requires_grad_()
    optimiser, state = theirs([twin]), ours.init(params)
    for _ in range(20):
        grad = torch.randn(40, 3, dtype=torch.float64, generator=source).T
        grad = grad if strided else grad.contiguous()
        params, state = ours.step(params, grad, state)
        twin.grad = grad.contiguous()
        optimiser.step()
    return float((params - twin).abs().max().detach())


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("strided", [False, True])
def test_against_torch(ours, theirs, strided):
    """Also on gradients whose strides are not their parameters'."""
    assert walk(ours, theirs, strided) < 1e-12


@pytest.mark.parametrize("adam", [Adam(3e-3), Adam(1e-2, betas=(0.9, 0.99), eps=1e-6)])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("strided", [False, True])
def test_adam_in_place(adam, dtype, close, strided):
    """Twenty updates in place beside as many pure steps; a replica that is behind does not matter to the others."""
    source = torch.Generator().manual_seed(0)
    params = torch.randn(3, 40, generator=source, dtype=dtype)
    state, twin, other = adam.init(params), params.clone(), adam.init(params)
    for _ in range(20):
        grad = torch.randn(40, 3, generator=source, dtype=dtype).T
        grad = grad if strided else grad.contiguous()
        moved, state = adam.update(params, grad, state)
        twin, other = adam.step(twin, grad, other)
        assert moved is params
        state[0][1] = 0.0
    alive = torch.tensor([0, 2])
    assert float((params - twin)[alive].abs().max()) < close
    assert all(torch.allclose(a[alive], b[alive], atol=close) for a, b in zip(state, other, strict=True))


@pytest.mark.parametrize("optimiser", [Adam(), SGD(0.1, momentum=0.5), RMSprop()])
def test_a_replica_alone_moves_as_in_a_stack(optimiser):
    params, grad = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stack, _ = optimiser.step(params, grad, optimiser.init(params))
    alone, _ = optimiser.step(params[1], grad[1], optimiser.init(params[1]))
    assert torch.equal(stack[1], alone)


def test_sgd_schedule():
    """Goodfellow's: the rate falls by a factor at each update down to a floor, the momentum climbs."""
    sgd = SGD(1.0, momentum=0.5, momentum_end=0.7, ramp=2, decay=2.0, floor=0.3)
    params = torch.zeros(1, dtype=torch.float64)
    state, seen = sgd.init(params), []
    for _ in range(4):
        params, state = sgd.step(params, torch.ones_like(params), state)
        seen.append(state[1].item())
    expected = [-1.0]
    for momentum, lr in ((0.6, 0.5), (0.7, 0.3), (0.7, 0.3)):
        expected.append(momentum * expected[-1] - lr)
    assert seen == pytest.approx(expected, abs=1e-12)


def test_adam_is_differentiable_at_a_zero_gradient():
    """The root of the second moment has an infinite slope at zero, which unrolling meets with dead units."""
    grad = torch.zeros(4, requires_grad=True)
    params = torch.zeros(4)
    new, _ = Adam().step(params, grad, Adam().init(params))
    new.sum().backward()
    assert torch.isfinite(grad.grad).all()
