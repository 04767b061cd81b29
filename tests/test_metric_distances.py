"""Distances in blocks against direct ones; the checks on samples."""

from __future__ import annotations

import pytest
import torch

from ganbench.errors import SampleError
from ganbench.metrics.distances import (
    centre,
    check_samples,
    in_threads,
    nearest,
    prepare,
    squared_distances,
    whole_numbers,
)
from ganbench.precision import set_float32


def _assembled(points, reference, block=None):
    out = torch.full((len(points), len(reference)), torch.nan, dtype=torch.float64)
    for rows, columns, tile in squared_distances(points, reference, block):
        out[rows, columns] = tile.double()
    return out


def _direct(points, reference):
    return (points.double()[:, None] - reference.double()[None]).square().flatten(2).sum(2)


@pytest.mark.parametrize("d", [1, 2, 63, 64, 65, 130, 784])
@pytest.mark.parametrize("block", [None, (1, 1), (7, 13), (1000, 1000)])
def test_squared_distances_are_direct_ones(d, block):
    torch.manual_seed(0)
    points, reference = torch.rand(23, d) + 5, torch.rand(31, d) + 5
    tolerance = 2e-6 * d
    torch.testing.assert_close(
        _assembled(points, reference, block), _direct(points, reference), atol=tolerance, rtol=0
    )


def test_in_few_dimensions_near_neighbours_are_told_apart():
    points = torch.tensor([[100.0, 100.0]])
    reference = torch.tensor([[100.0, 100.0 + 2**-15], [100.0, 100.0 + 2**-16], [-300.0, 0.0]])
    found = _assembled(points, reference)[0]
    torch.testing.assert_close(
        found[:2], torch.tensor([2.0**-30, 2.0**-32], dtype=torch.float64), rtol=0.05, atol=0
    )


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("block", [None, (7, 13)])
@pytest.mark.parametrize("d", [3, 200])
def test_nearest_is_the_sorted_direct_distance(k, block, d):
    torch.manual_seed(1)
    points, reference = torch.randn(29, d), torch.randn(40, d)
    distance, index = nearest(points, reference, k, block=block)
    expected, order = _direct(points, reference).sqrt().sort(dim=1)
    torch.testing.assert_close(distance, expected[:, :k])
    assert torch.equal(index, order[:, :k])


def test_threads_change_no_neighbour():
    torch.manual_seed(1)
    points, reference, before = torch.randn(700, 70), torch.randn(90, 70), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        distance, index = nearest(points, reference, 3)
    finally:
        torch.set_num_threads(before)
    expected, order = _direct(points, reference).sqrt().sort(dim=1)
    torch.testing.assert_close(distance, expected[:, :3])
    assert torch.equal(index, order[:, :3])


def test_a_copy_is_at_distance_zero():
    torch.manual_seed(2)
    reference = torch.rand(50, 1, 28, 28)
    distance, index = nearest(reference[7:9], reference)
    assert distance.tolist() == [[0.0], [0.0]]
    assert index.tolist() == [[7], [8]]


def test_more_neighbours_than_examples():
    with pytest.raises(SampleError, match="5 nearest neighbours need at least 5 examples; there are 4"):
        nearest(torch.rand(2, 3), torch.rand(4, 3), 5)


@pytest.mark.parametrize("size", [1e6, 1e30])
@pytest.mark.parametrize("d", [3, 70, 784])
@pytest.mark.parametrize("side", ["points", "reference", "both"])
def test_far_examples_spoil_no_other_distance(side, d, size):
    torch.manual_seed(5)
    points, reference = torch.rand(40, d), torch.rand(50, d)
    far = {"points": [points], "reference": [reference], "both": [points, reference]}[side]
    for x in far:
        x[3] = size * torch.randn(d)
    near_points, near_reference = (torch.arange(len(x)) != 3 for x in (points, reference))
    found, expected = _assembled(points, reference), _direct(points, reference)
    near = near_points[:, None] & near_reference
    torch.testing.assert_close(found[near], expected[near], atol=2e-6 * d, rtol=0)
    torch.testing.assert_close(found, expected, atol=1e-5 * d, rtol=1e-4)
    distance, index = nearest(points, reference, 3)
    torch.testing.assert_close(distance, expected.sqrt().sort(dim=1).values[:, :3])
    assert torch.equal(index[near_points], expected.sort(dim=1).indices[near_points, :3])


def test_a_far_cluster_is_resolved_among_itself():
    """The centre is at the other one: float32 is too coarse there, and everything is made again in float64."""
    torch.manual_seed(6)
    points, reference = torch.rand(30, 100), torch.rand(90, 100)
    points[:10] += 1000
    reference[:40] += 1000
    distance, index = nearest(points, reference, 4)
    expected, order = _direct(points, reference).sort(dim=1)
    torch.testing.assert_close(distance, expected[:, :4].sqrt())
    assert torch.equal(index, order[:, :4])


def test_near_ties_are_decided_in_float64():
    """Many neighbours within the rounding of float32: more than there are spare candidates."""
    torch.manual_seed(7)
    base = torch.rand(1, 300)
    reference = base + 1e-4 * torch.randn(200, 300)
    points = torch.rand(20, 300)
    distance, index = nearest(points, reference, 3)
    expected, order = _direct(points, reference).sort(dim=1)
    assert torch.equal(index, order[:, :3])
    torch.testing.assert_close(distance, expected[:, :3].sqrt(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [2, 5, 256, 4096])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (100.0, 101.0)])
def test_numbers_on_a_grid_become_whole(low, high, levels, dtype):
    torch.manual_seed(8)
    numbers = torch.randint(0, levels, (50, 90))
    numbers[0, :2] = torch.tensor([0, levels - 1])
    step = (high - low) / (levels - 1)
    x = (low + numbers.to(dtype) * step).to(dtype)
    other = x + 0.3 * step
    if 1e-6 * abs(high) > 0.1 * step:  # rounding of float32 hides the grid
        assert whole_numbers(x, other)[2] == 1.0
        return
    found, rest, unit = whole_numbers(x, other)
    assert torch.equal(found, numbers.to(dtype))
    assert unit == pytest.approx(step, rel=1e-4)
    torch.testing.assert_close(rest, numbers.to(dtype) + 0.3, atol=0.02 + 1e-3 * levels, rtol=0)


def test_a_far_example_hides_no_grid_and_the_grid_is_no_guess():
    x = torch.tensor(
        [[0.0, 0.4, 1.0, 0.2], [0.4, 0.4, 0.6, 0.0], [1.0, 0.0, 0.8, 0.2], [5e5, 3.3, -1e7, 0.7]]
    )
    found, _, unit = whole_numbers(x, x)
    assert unit == pytest.approx(0.2)
    assert found[:3].tolist() == [[0, 2, 5, 1], [2, 2, 3, 0], [5, 0, 4, 1]]
    torch.manual_seed(9)
    smooth = torch.rand(500, 8)
    for real in (smooth, torch.ones(5, 3), torch.cat([torch.arange(8.0).expand(400, 8), smooth])):
        assert whole_numbers(real, real)[0] is real
        assert whole_numbers(real, real)[2] == 1.0


def test_the_centre_is_a_mean_that_far_examples_do_not_move():
    torch.manual_seed(10)
    x = torch.randn(400, 5) + 3  # few enough that all of them are taken
    torch.testing.assert_close(centre(x), x.double().mean(0))
    spoilt = x.clone()
    spoilt[::50] = 1e20
    assert (centre(spoilt) - x.mean(0)).abs().max() < 0.5
    assert centre(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])).tolist() == [0.0, 1.0]


def test_numbers_whose_squares_are_too_large():
    x = torch.tensor([[1.0], [1e120]], dtype=torch.float64)
    with pytest.raises(
        SampleError, match=r"made: holds numbers as large as 1e\+120; expected none beyond ±1e\+100"
    ):
        check_samples(x, "made")


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("m", [1, 511, 2000])
def test_threads_take_parts_in_order_and_leave_the_settings_as_they_were(threads, m):
    points, before = torch.arange(m)[:, None].float(), torch.get_num_threads()
    seen = []

    def part(x):
        seen.append((torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision))
        return x * 2

    torch.set_num_threads(threads)
    set_float32("tf32")
    try:
        assert torch.equal(torch.cat(in_threads(part, points)), points * 2)
        assert (torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision) == (threads, "tf32")
    finally:
        torch.set_num_threads(before)
        set_float32("ieee")
    alone = threads == 1 or m < 512
    assert set(seen) == {(threads, "tf32") if alone else (1, "ieee")}
    assert (len(seen) == 1) == alone


def test_an_error_in_a_thread_is_raised_and_the_settings_come_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError):
            in_threads(lambda x: len(x) / 0, torch.zeros(2000, 1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_prepared_reference_gives_the_same_for_parts_of_the_points():
    torch.manual_seed(3)
    points, reference = torch.rand(23, 130), torch.rand(31, 130)
    ready, whole = prepare(reference, points), _assembled(points, reference)
    for rows, columns, tile in squared_distances(points[:9], ready):
        torch.testing.assert_close(tile.double(), whole[rows, columns], atol=1e-4, rtol=0)


def _with_nan():
    x = torch.zeros(4, 2)
    x[2, 1] = torch.nan
    x[3, 0] = torch.inf
    return x


@pytest.mark.parametrize(
    ("x", "text"),
    [
        ({"a": 1}, "made: expected a tensor [n, *shape], got dict"),
        (
            torch.zeros(4, 2, dtype=torch.uint8),
            "made: holds uint8; expected floats in the data's scale (for stored images: data.floats(images))",
        ),
        (torch.zeros(4), "made: has shape [4]; expected [n, *shape], one row per example"),
        (torch.zeros(4, 3), "made: one example has shape [3]; expected [2], as in the data"),
        (torch.zeros(0, 2), "made: holds 0 examples; at least 3 are needed"),
        (torch.zeros(2, 2), "made: holds 2 examples; at least 3 are needed"),
        (
            _with_nan(),
            "made: 2 of 4 examples hold NaN or infinity, the first of them number 2; has the generator diverged?",
        ),
    ],
)
def test_bad_samples_are_named(x, text):
    with pytest.raises(SampleError) as caught:
        check_samples(x, "made", like=torch.zeros(1, 2), least=3)
    assert str(caught.value) == text


def test_good_samples_come_back_as_floats():
    assert check_samples(torch.zeros(3, 2, dtype=torch.float16), "made").dtype == torch.float32
    assert check_samples(torch.zeros(3, 2, dtype=torch.float64), "made").dtype == torch.float64
    assert check_samples(torch.zeros(3, 2).numpy(), "made").shape == (3, 2)
    assert not check_samples(torch.zeros(3, 2, requires_grad=True), "made").requires_grad
