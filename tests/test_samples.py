"""Samples as people store them: one set of rules for layout, scale, type and order."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ganbench import samples as reading
from ganbench.contracts import Data
from ganbench.errors import SampleError
from ganbench.samples import (
    Samples,
    channels_first,
    check_sampler_output,
    range_warning,
    read_array,
    read_samples,
)

CHANCE = np.random.default_rng(0)
COLOUR = CHANCE.integers(0, 256, (40, 3, 5, 4), dtype=np.uint8)  # [N, C, H, W]
GREY = CHANCE.integers(0, 256, (40, 1, 6, 6), dtype=np.uint8)


def data(
    shape: tuple[int, ...], scale: tuple[float, float] | None = (0.0, 1.0), values: object = None
) -> Data:
    """A dataset of pixels, or of these numbers."""
    train = torch.zeros(20, *shape, dtype=torch.uint8) if values is None else torch.as_tensor(values)
    return Data("mine", train, train, train, shape, scale)


def saved(tmp_path: Path, array: np.ndarray) -> Path:
    np.save(tmp_path / "mine.npy", array)
    return tmp_path / "mine.npy"


def refusal(array: np.ndarray, shape: tuple[int, ...], scale: tuple[float, float] | None = (0.0, 1.0)) -> str:
    with pytest.raises(SampleError) as error:
        Samples(array, "mine.npy", shape, scale)
    return str(error.value)


# ------------------------------------------------------------------------------------------ layout


def test_channels_last_are_transposed_and_never_reshaped():
    first = Samples(COLOUR, "mine", (3, 5, 4), (0.0, 1.0))
    last = Samples(COLOUR.transpose(0, 2, 3, 1), "mine", (3, 5, 4), (0.0, 1.0))
    assert torch.equal(first[:], last[:])
    assert sorted(first[:].flatten(1).tolist()) == sorted(COLOUR.reshape(40, -1).tolist())
    assert "[40, 5, 4, 3] read as [N, H, W, C], transposed to [40, 3, 5, 4]" in str(last)


@pytest.mark.parametrize("shape", [(40, 6, 6), (40, 6, 6, 1), (40, 36), (40, 1, 6, 6)])
@pytest.mark.parametrize("kind", ["uint8", "int64", ">i2", "float64", "float16", ">f4"])
def test_grey_images_in_any_layout_and_type_are_the_same(shape, kind):
    array = (GREY if kind in ("uint8", "int64", ">i2") else GREY / 255).reshape(shape).astype(kind)
    found = Samples(array, "mine", (1, 6, 6), (0.0, 1.0), order=None)
    tolerance = 5e-4 if kind == "float16" else 1e-6
    floats = data((1, 6, 6)).floats(found[:])
    torch.testing.assert_close(floats, torch.from_numpy(GREY / 255).float(), atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("given", "shape", "text"),
    [
        ((40, 5, 3, 3), (3, 5, 3), "this does not say which axis holds the channels"),
        ((40, 3, 3, 3), (3, 3, 3), "this does not say which axis holds the channels"),
        ((40, 48), (3, 4, 4), "flat rows do not say whether the channels come first or last"),
        ((40, 4, 4, 3), (48,), "flat rows do not say whether the channels come first or last"),
        ((40, 4, 5, 3), (3, 5, 4), "samples have the shape [40, 4, 5, 3], expected [N, 3, 5, 4]"),
        ((40, 4, 4, 4), (3, 4, 4), "samples have 4 channels, the data 3"),
        ((40, 4, 4, 3), (1, 4, 4), "samples have 3 channels, the data 1"),
        ((0, 4), (4,), "samples have the shape [0, 4], expected [N, 4]"),
        ((), (4,), "samples have the shape [], expected [N, 4]"),
    ],
)
def test_shapes_that_are_not_certain_are_refused(given, shape, text):
    assert text in refusal(np.full(given, 0.5), shape)


def test_cubes_are_read_where_nothing_says_that_they_are_images():
    cubes = CHANCE.random((20, 3, 3, 3))
    assert torch.equal(Samples(cubes, "mine", (3, 3, 3), None, None)[:], torch.from_numpy(cubes).float())
    assert check_sampler_output(cubes, data((3, 3, 3)), "the sampler").shape == (
        20,
        3,
        3,
        3,
    )  # its contract says [n, *shape]


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ((3, 32, 32), (3, 32, 32)),
        ((32, 32, 3), (3, 32, 32)),
        ((28, 28, 1), (1, 28, 28)),
        ((1, 4, 4), (1, 4, 4)),
        ((4, 4, 1), (1, 4, 4)),
        ((8, 8, 4), (4, 8, 8)),
        ((2, 8, 8), (2, 8, 8)),
        ((4, 8, 4), (4, 8, 4)),
        ((16, 8, 8), (16, 8, 8)),
    ],
)
def test_the_channels_of_a_file_alone(given, shape):
    assert channels_first(given, "mine") == shape


def test_the_channels_of_a_file_alone_that_are_not_certain():
    with pytest.raises(SampleError, match="both the first and the last axis could hold the channels"):
        channels_first((3, 8, 3), "mine")


# ------------------------------------------------------------------------------------------ scale


def test_bytes_are_pixels_in_every_layout_without_an_expected_shape():
    for array in (GREY, GREY[:, 0], GREY.reshape(40, -1)):
        found = Samples(array, "mine")
        assert (found[:].dtype, found.range) == (torch.uint8, pytest.approx((0, 1), abs=0.02))
        assert "bytes (uint8) read as pixels, divided by 255" in found.notes
    assert Samples(GREY[:, 0], "mine").example == (1, 6, 6)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        ((GREY > 99).astype(np.uint8), "bytes that are all 0 or 1"),
        (GREY.astype(complex), "holds complex numbers"),
        (np.full(40, "a"), "holds values of the type <U1"),
        (GREY / 127.5 - 1, "expected 0 to 1; of values in -1…1 save (x + 1) / 2"),
        (GREY * 1.0, "save pixels in 0…255 as bytes (uint8), or divide them by 255"),
        (GREY * 10.0, "expected 0 to 1; save np.clip(x, 0, 1)"),
        (GREY.astype(int) * -1, "expected 0 to 1"),
        (np.where(GREY > 99, np.nan, 0.5), "values are NaN or infinite"),
        (GREY * 1e300, "values are NaN or infinite"),
    ],
)
def test_values_that_are_no_samples(array, text):
    assert text in refusal(array, (1, 6, 6))


def test_masks_as_bool_and_black_bytes_are_read():
    masks = Samples(GREY > 99, "mine", (1, 6, 6), (0.0, 1.0), order=None)
    assert torch.equal(masks[:], torch.from_numpy(GREY > 99).float())
    assert "bool read as 0 and 1" in masks.notes
    assert int(Samples(GREY * 0, "mine", (1, 6, 6), (0.0, 1.0))[:].sum()) == 0


@pytest.mark.parametrize(
    ("mine", "theirs", "warned"),
    [
        (GREY, GREY / 255, False),
        (GREY, GREY / 127.5 - 1, True),
        (GREY / 255, GREY / 127.5 - 1, True),
        (GREY / 127.5 - 1, GREY / 255, True),
        (GREY / 255, GREY * 1.0, True),
        (GREY * 1.0, GREY / 255, True),
        (GREY, GREY.astype(int), True),
        (GREY / 127.5 - 1, GREY / 127.5 - 1, False),
        (GREY / 100, GREY / 300, False),
        (GREY * 0.0, GREY / 255, False),
    ],
)
def test_ranges_that_do_not_go_together_are_warned_of(mine, theirs, warned):
    other = data((1, 6, 6), None, theirs.astype(np.float32))
    warning = range_warning(Samples(mine, "mine", (1, 6, 6), None), other)
    assert (warning is not None) == warned
    assert not warned or "no score below means anything" in str(warning)


def test_pixels_that_were_divided_twice_are_warned_of():
    twice = Samples(GREY / 255 / 255, "mine", (1, 6, 6), (0.0, 1.0))
    assert "samples lie in 0 to 0.00392, the data in 0 to 1" in str(range_warning(twice, data((1, 6, 6))))


# ------------------------------------------------------------------------------------------ order


def test_the_order_of_a_file_changes_nothing():
    points = np.sort(CHANCE.standard_normal((500, 2)).round(1), axis=0)  # many rows stand several times
    other = points[CHANCE.permutation(500)]
    first, second = Samples(points, "mine"), Samples(other, "mine")
    assert torch.equal(first[:100], second[:100])
    assert torch.equal(first[:100], first[:][:100])
    assert abs(float(np.corrcoef(first[:][:, 0], np.arange(500))[0, 1])) < 0.15
    assert not torch.equal(
        first[:], Samples(points, "mine", order="data")[:]
    )  # or the first were training data


def test_rows_that_are_alike_do_not_stand_together():
    """Ten images, a hundred copies of each: the first n hold all of them, as often as chance would have it."""
    array = np.repeat(CHANCE.random((10, 4)), 100, axis=0)
    found = Samples(array, "mine")[:200]
    _, counts = found.unique(dim=0, return_counts=True)
    assert len(counts) == 10
    assert 8 <= int(counts.min()) <= int(counts.max()) <= 36


def test_samplers_keep_their_stream():
    made = torch.arange(20.0).reshape(10, 2)
    kinds = (
        made,
        made.double(),
        made.bfloat16(),
        made.numpy()[::-1],
        made.numpy().astype(">f8"),
        made.tolist(),
    )
    for given in (*kinds, pd.DataFrame(made.numpy()), made.clone().requires_grad_()):
        found = check_sampler_output(given, data((2,), None), "the sampler")[:]
        expected = made.flip(0) if isinstance(given, np.ndarray) and given[0, 0] == 18 else made
        assert torch.equal(found, expected)
    with pytest.raises(SampleError, match="the sampler gave a dict, expected a tensor"):
        check_sampler_output({}, data((2,), None), "the sampler")


# ------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    "array",
    [
        GREY[::-1],
        np.asfortranarray(GREY / 255),
        (GREY / 255).astype(">f8"),
        GREY[:, :, ::-2],
        np.broadcast_to(GREY[:1], GREY.shape),
    ],
    ids=["negative strides", "Fortran order", "big-endian", "steps", "broadcast"],
)
def test_arrays_however_they_lie_in_memory(tmp_path, array):
    array = array.copy() if array.ndim == 1 else array
    array.flags.writeable = False
    plain = Samples(np.ascontiguousarray(array), "mine")[:]
    assert torch.equal(Samples(array, "mine")[:], plain)
    assert torch.equal(Samples(*read_array(saved(tmp_path, array)))[:], plain)


def test_files_are_mapped_and_rows_converted_in_blocks(tmp_path, monkeypatch):
    path = saved(tmp_path, np.asfortranarray(CHANCE.random((50, 4))))
    np.savez(tmp_path / "mine.npz", samples=np.load(path), labels=np.arange(50))
    np.savez_compressed(tmp_path / "small.npz", np.load(path))
    whole = read_samples(path, data((4,), None))[:]
    monkeypatch.setattr(reading, "BLOCK", 12)  # 3 rows
    for name in ("mine.npy", "mine.npz", "small.npz"):
        array, _ = read_array(tmp_path / name)
        assert isinstance(array, np.memmap) == (name != "small.npz")
        assert torch.equal(read_samples(tmp_path / name, data((4,), None))[:], whole)
    assert torch.equal(read_samples(path, data((4,), None))[5:17], whole[5:17])


def test_the_array_of_several(tmp_path):
    images, labels = COLOUR.transpose(0, 2, 3, 1), np.arange(40)
    np.savez(tmp_path / "adm.npz", images, labels)  # as guided diffusion writes samples
    np.savez(tmp_path / "reference.npz", arr_0=images, mu=labels, sigma=np.eye(40))
    np.savez(tmp_path / "named.npz", other=images, samples=images)
    np.savez(tmp_path / "objects.npz", images=images, meta=np.array([{}], dtype=object))
    for name in ("adm", "reference", "named", "objects"):
        array, called = read_array(tmp_path / f"{name}.npz")
        assert np.array_equal(array, images)
        assert "not used" in called
    assert "array 'arr_0' (arr_1 [40] not used)" in read_array(tmp_path / "adm.npz")[1]


def header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    file = io.BytesIO()
    described = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)  # type: ignore[arg-type]
    return file.getvalue()


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    def fails(name: str, text: str) -> None:
        with pytest.raises(SampleError) as error:
            read_array(tmp_path / name)
        assert text in str(error.value)
        assert str(error.value).startswith(str(tmp_path / name))

    os.mkfifo(tmp_path / "pipe.npy")
    fails("pipe.npy", "is a folder, a pipe or a device; expected an .npy or .npz file")
    np.savez(tmp_path / "two.npz", a=COLOUR, b=COLOUR)
    fails("two.npz", "it has: a [40, 3, 5, 4], b [40, 3, 5, 4]")
    np.savez(tmp_path / "fid.npz", mu=np.zeros(4), sigma=np.eye(4))
    fails("fid.npz", "holds statistics of features (mu, sigma)")
    np.savez(tmp_path / "none.npz")
    fails("none.npz", "it has: nothing")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    fails("objects.npy", "holds Python objects, which ganbench never unpickles")
    np.savez(tmp_path / "objects.npz", np.array([{}], dtype=object))
    fails("objects.npz", "holds Python objects, which ganbench never unpickles")
    (tmp_path / "long.npy").write_bytes(header((2_500_000_000,)) + bytes(100))
    fails("long.npy", "which is 10,000,000,000 bytes; it holds 100")
    with zipfile.ZipFile(tmp_path / "long.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("samples.npy", header((2_500_000_000,)) + bytes(100))
    fails("long.npz", "which is 10,000,000,000 bytes; it holds 100")
    (tmp_path / "negative.npy").write_bytes(header((-1, 5)) + bytes(100))
    fails("negative.npy", "truncated or damaged")
    whole = saved(tmp_path, COLOUR).read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-1])
    fails("short.npy", "which is 2,400 bytes; it holds 2,399")
    np.savez_compressed(tmp_path / "bomb.npz", np.zeros((50, 10)))
    monkeypatch.setattr(reading, "MAX_UNPACKED", 3999)
    fails("bomb.npz", "unpacks to 4,000 bytes, more than 3,999")
    for name, content in {"text.npy": b"hello", "empty.npy": b"", "half.npz": b"PK\x03\x04 no"}.items():
        (tmp_path / name).write_bytes(content)
        fails(name, "cannot be read as .npy or .npz")
    fails("missing.npy", "cannot be read as .npy or .npz")
