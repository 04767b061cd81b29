"""The image datasets: real ones where they are at hand, small made ones and torchvision's stand-ins elsewhere."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

from ganbench.conformance.datasets import shared_rows
from ganbench.contracts import Data
from ganbench.datasets import files, images
from ganbench.datasets.matlab import read_mat
from ganbench.errors import DatasetError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A cache folder of its own and no GANBENCH_DATA for every test; the folder where downloads go."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GANBENCH_DATA", raising=False)
    return tmp_path / "cache" / "ganbench" / "data"


def make(name: str, **params: object) -> Data:
    return getattr(images, name)(torch.Generator().manual_seed(0), **params)


def failure(name: str, **params: object) -> str:
    with pytest.raises(DatasetError) as caught:
        make(name, **params)
    return str(caught.value)


def check(data: Data, sizes: tuple[int, int, int], shape: tuple[int, ...]) -> None:
    """What holds for all image datasets."""
    assert (len(data.train), len(data.valid), len(data.test)) == sizes
    assert data.shape == shape
    assert data.scale == (0.0, 1.0)
    for split, part in enumerate((data.train, data.valid, data.test)):
        assert part.dtype == torch.uint8
        assert tuple(part.shape[1:]) == shape
        assert part.is_contiguous()
        if data.labels:
            assert data.labels[split].dtype == torch.int64
            assert data.labels[split].shape == (sizes[split],)
            assert int(data.labels[split].min()) >= 0
            assert int(data.labels[split].max()) < len(data.classes)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colour(index: int, size: tuple[int, int] = (40, 40)) -> Image.Image:
    return Image.new("RGB", size, (index % 256, 255 - index % 256, 7))


def folder_of(path: Path, n: int, kind: str = "PNG") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for index in range(n):
        (path / f"{index:03}.{kind.lower()}").write_bytes(encoded(colour(index), kind))
    return path


# --------------------------------------------------------------------------------------------- digits


def test_digits_are_scikit_learns_once_each_in_splits_of_1297_200_300():
    data, bunch = make("digits"), load_digits()
    check(data, (1297, 200, 300), (1, 8, 8))
    assert data.classes == tuple("0123456789")
    every = torch.cat([data.train, data.valid, data.test])[:, 0].double() * (16 / 255)
    labels = torch.cat([*data.labels])
    found = sorted((*x.round().int().flatten().tolist(), int(y)) for x, y in zip(every, labels, strict=True))
    pairs = zip(bunch.images.astype(int), bunch.target, strict=True)
    assert found == sorted((*x.ravel().tolist(), int(y)) for x, y in pairs)
    assert int(data.train.max()) == 255


def test_digits_have_all_classes_in_every_split():
    for labels in make("digits").labels:
        assert int(labels.bincount(minlength=10).min()) >= 12


def test_digits_are_the_same_for_every_generator():
    one, other = images.digits(torch.Generator().manual_seed(1)), images.digits(torch.Generator())
    assert torch.equal(one.train, other.train)


def test_n_train_takes_the_first_and_no_more_than_there_are():
    assert torch.equal(make("digits", n_train=50).train, make("digits").train[:50])
    assert len(make("digits", n_train=50).labels.train) == 50
    assert failure("digits", n_train=1298) == "digits: n_train must lie between 1 and 1,297, got 1,298"
    assert "got 0" in failure("mnist", n_train=0)


# --------------------------------------------------------------------------------------------- MNIST


def test_mnist_has_the_splits_of_goodfellow_2014(mnist):
    data = make("mnist")
    check(data, (50_000, 10_000, 10_000), (1, 28, 28))
    assert data.labels.train[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert data.labels.test[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    raw = np.fromfile(mnist / "MNIST/raw/train-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 1, 28, 28)
    assert torch.equal(torch.cat([data.train, data.valid]), torch.from_numpy(raw))
    assert float(data.floats(data.train).mean()) == pytest.approx(0.1307, abs=0.0005)


def test_stacked_mnist_holds_a_digit_in_each_channel(mnist):
    data, single = make("stacked_mnist", n_train=300), make("mnist")
    check(data, (300, 10_000, 10_000), (3, 28, 28))
    assert (len(data.classes), data.classes[7], data.classes[999]) == (1000, "007", "999")
    for split in ("train", "test"):
        known = {
            x.numpy().tobytes(): int(y)
            for x, y in zip(getattr(single, split), getattr(single.labels, split), strict=True)
        }
        for x, y in zip(getattr(data, split)[:300], getattr(data.labels, split), strict=False):
            assert data.classes[y] == "".join(str(known[channel.numpy().tobytes()]) for channel in x)
    assert len(data.labels.test.unique()) > 990
    assert torch.equal(data.test, make("stacked_mnist", n_train=7).test)
    assert failure("stacked_mnist", n_train=0) == "stacked_mnist: n_train must be above 0, got 0"


def test_mnist_with_one_changed_byte_is_refused(mnist, tmp_path, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in images.MNIST_SHA256:
        (raw / file).symlink_to(mnist / "MNIST/raw" / file)
    tampered = bytearray((mnist / "MNIST/raw/t10k-labels-idx1-ubyte").read_bytes())
    tampered[100] ^= 1
    (raw / "t10k-labels-idx1-ubyte").unlink()
    (raw / "t10k-labels-idx1-ubyte").write_bytes(tampered)
    monkeypatch.setenv("GANBENCH_DATA", str(tmp_path))
    assert failure("mnist") == (
        f"{raw / 't10k-labels-idx1-ubyte'}: has 10,008 bytes, SHA-256 {hashlib.sha256(tampered).hexdigest()}; "
        f"expected 10,008 bytes, SHA-256 {images.MNIST_SHA256['t10k-labels-idx1-ubyte']}. It is truncated or "
        "another file: delete it and run again to download it, or put the right one there"
    )


@pytest.mark.slow
def test_reading_mnist_starts_no_torchvision(mnist):
    code = (
        "import sys, torch; from ganbench.datasets.images import mnist; mnist(torch.Generator());"
        "assert 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})


def idx(path: Path, *shape: int, size: int | None = None) -> Path:
    """An idx file of zeros (holes on the disk), `size` bytes long if it shall be truncated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + int(np.prod(shape)) if size is None else size)
    return path


def fashion(root: Path) -> Path:
    raw = root / "FashionMNIST" / "raw"
    for prefix, n in (("train", 60_000), ("t10k", 10_000)):
        idx(raw / f"{prefix}-images-idx3-ubyte", n, 28, 28)
        idx(raw / f"{prefix}-labels-idx1-ubyte", n)
    return raw


def test_fashion_mnist_is_read_from_ganbench_data(tmp_path, monkeypatch):
    fashion(tmp_path)
    monkeypatch.setenv("GANBENCH_DATA", str(tmp_path))
    data = make("fashion_mnist", n_train=7)
    check(data, (7, 10_000, 10_000), (1, 28, 28))
    assert data.name == "fashion-mnist"
    assert data.classes[9] == "ankle boot"


def test_a_truncated_idx_file_is_named_with_sizes_and_hash(tmp_path, monkeypatch):
    path = idx(fashion(tmp_path) / "train-images-idx3-ubyte", 60_000, 28, 28, size=1_000_000)
    monkeypatch.setenv("GANBENCH_DATA", str(tmp_path))
    message = failure("fashion_mnist")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert message.startswith(f"{path}: has 1,000,000 bytes, SHA-256 {found}; expected 47,040,016 bytes")


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x03", b"<html>not found</html>"])
def test_an_idx_file_that_is_something_else_is_refused(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"has {len(content)} bytes"):
        files.read_idx(path, (2, 3))


def test_an_idx_file_of_the_right_size_with_another_header_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="expected 18 bytes for an array"):
        files.read_idx(idx(tmp_path / "x", 3, 2), (2, 3))
    assert files.read_idx(idx(tmp_path / "x", 2, 3), (2, 3)).shape == (2, 3)


# --------------------------------------------------------------------------------------------- downloads


def unreachable(*_: object, **__: object) -> None:
    raise URLError("no route to host")


@pytest.mark.parametrize(
    ("name", "shown", "file"),
    [
        ("cifar10", "cifar10", "cifar-10-batches-py/data_batch_1"),
        ("svhn", "svhn", "train_32x32.mat"),
        ("stl10", "stl10", "stl10_binary/unlabeled_X.bin"),
        ("celeba", "celeba", "celeba/img_align_celeba"),
        ("mnist", "mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw/t10k-labels-idx1-ubyte"),
    ],
)
def test_without_a_network_the_error_says_what_to_put_where(home, monkeypatch, name, shown, file):
    for kind in ("CIFAR10", "SVHN", "STL10", "CelebA", "MNIST"):  # FashionMNIST downloads as MNIST does
        monkeypatch.setattr(getattr(torchvision.datasets, kind), "download", unreachable)
    message = failure(name)
    assert message.startswith(
        f"{shown}: downloading to {home} failed: <urlopen error no route to host>. Without a network, put "
        "these files there, or into the folder that GANBENCH_DATA names: "
    )
    assert file in message


def test_a_download_goes_to_the_cache_and_never_to_ganbench_data(home, tmp_path, monkeypatch):
    def download(self) -> None:
        fashion(Path(self.root))

    mine = tmp_path / "mine"
    mine.mkdir()
    monkeypatch.setenv("GANBENCH_DATA", str(mine))
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", download)
    check(make("fashion_mnist"), (50_000, 10_000, 10_000), (1, 28, 28))
    assert list(mine.iterdir()) == []
    assert (home / "FashionMNIST" / "raw").is_dir()
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", unreachable)
    check(make("fashion_mnist"), (50_000, 10_000, 10_000), (1, 28, 28))  # found again


def test_a_part_of_a_dataset_in_ganbench_data_is_not_completed_there(tmp_path, monkeypatch):
    raw = fashion(tmp_path)
    (raw / "t10k-labels-idx1-ubyte").unlink()
    monkeypatch.setenv("GANBENCH_DATA", str(tmp_path))
    assert failure("fashion_mnist").startswith(
        f"fashion-mnist: missing in {tmp_path}, which GANBENCH_DATA names and ganbench does not write to: "
        "FashionMNIST/raw/t10k-labels-idx1-ubyte; put that there, or unset GANBENCH_DATA"
    )


def test_a_pipe_is_refused_and_not_waited_for(tmp_path, monkeypatch):
    pictures = folder_of(tmp_path / "pictures", 3)
    os.mkfifo(pictures / "pipe.png")
    with pytest.raises(
        DatasetError, match=r"pipe\.png: is a pipe or a device; expected an image file: remove it"
    ):
        files.list_images(pictures)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    os.mkfifo(raw / "train-images-idx3-ubyte")
    monkeypatch.setenv("GANBENCH_DATA", str(tmp_path))
    assert "train-images-idx3-ubyte is a pipe or a device; expected a file" in failure("fashion_mnist")
    with pytest.raises(DatasetError, match="is a folder, a pipe or a device; expected a file"):
        files.read(raw / "train-images-idx3-ubyte")


def test_ganbench_data_must_be_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GANBENCH_DATA", str(tmp_path / "nowhere"))
    assert "nowhere', which is not a folder; set it to" in failure("mnist")


def test_a_wrong_file_of_torchvisions_is_named_and_not_replaced(home, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.SVHN, "download", unreachable)
    home.mkdir(parents=True)
    (home / "train_32x32.mat").write_bytes(b"half")
    assert failure("svhn") == (
        f"svhn: {home / 'train_32x32.mat'} has 4 bytes and MD5 {hashlib.md5(b'half').hexdigest()}; expected "
        "MD5 e26dedcc434d2e4c54c9b2d4a06d8373. It is truncated or another file: delete it and run again to "
        "download it"
    )
    assert (home / "train_32x32.mat").read_bytes() == b"half"


def test_a_folder_that_cannot_be_made_is_a_dataset_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "downloading to" in failure("cifar10")


def stand_in(monkeypatch, kind: str, content) -> list[tuple]:
    """Replace a class of torchvision by one with its constants, whose instances are `content(split)`."""
    real, calls = getattr(torchvision.datasets, kind), []
    constants = {
        k: v for k, v in vars(real).items() if k in ("base_folder", "train_list", "test_list", "meta")
    }

    class Fake:
        def __new__(cls, root, split=None, train=None, download=False, target_type=None):
            calls.append((Path(root), download))
            return content(split if train is None else train)

    for key, value in {**constants, "split_list": getattr(real, "split_list", None)}.items():
        setattr(Fake, key, value)
    monkeypatch.setattr(torchvision.datasets, kind, Fake)
    return calls


def test_cifar10_has_45000_5000_10000_images_of_channels_first(home, monkeypatch):
    def content(train: bool):
        n = 50_000 if train else 10_000
        data = np.zeros((n, 32, 32, 3), np.uint8)
        data[:, 0, 1, 2] = np.arange(n) % 251
        return SimpleNamespace(data=data, targets=[i % 10 for i in range(n)])

    calls = stand_in(monkeypatch, "CIFAR10", content)
    data = make("cifar10")
    check(data, (45_000, 5_000, 10_000), (3, 32, 32))
    assert data.valid[:3, 2, 0, 1].tolist() == [(45_000 + i) % 251 for i in range(3)]
    assert data.labels.valid[:3].tolist() == [0, 1, 2]
    assert calls == [(home, False), (home, False)]


def test_svhn_holds_out_the_last_10000_training_images(monkeypatch):
    def content(split: str):
        n = {"train": 73_257, "test": 26_032}[split]
        return SimpleNamespace(data=np.zeros((n, 3, 32, 32), np.uint8), labels=np.arange(n) % 10)

    stand_in(monkeypatch, "SVHN", content)
    data = make("svhn", n_train=100)
    check(data, (100, 10_000, 26_032), (3, 32, 32))
    assert data.labels.valid[0] == 63_257 % 10


def test_stl10_trains_on_unlabelled_images_and_averages_blocks(monkeypatch):
    blocks = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2).repeat(48, 2).repeat(48, 3)
    sizes = {"unlabeled": 30, "train": 5, "test": 8}
    content = {k: SimpleNamespace(data=np.repeat(blocks, n, 0)) for k, n in sizes.items()}
    stand_in(monkeypatch, "STL10", content.__getitem__)
    check(make("stl10", n_train=20), (20, 5, 8), (3, 96, 96))
    data = make("stl10", n_train=20, size=32)
    check(data, (20, 5, 8), (3, 32, 32))
    assert data.labels is None
    assert data.test[3, :, ::16, ::16].flatten().tolist() == list(range(12))
    assert failure("stl10", size=64) == "stl10: size must be 96, 48 or 32, got 64"


def test_celeba_has_the_official_splits_cropped_and_resized(home, monkeypatch):
    stand_in(monkeypatch, "CelebA", lambda split: None)
    monkeypatch.setattr(images, "_first", lambda name, n_train, available: slice(3))
    folder = home / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    face = Image.new("RGB", (178, 218), "black")
    face.paste("white", (35, 55, 143, 163))  # the central 108 × 108
    lines = []
    for index, part in enumerate([0, 0, 0, 0, 1, 2, 2], start=1):
        (folder / f"{index:06}.jpg").write_bytes(encoded(face, "JPEG", quality=100))
        lines.append(f"{index:06}.jpg {part}\n")
    (home / "celeba" / "list_eval_partition.txt").write_text("".join(lines))
    data = make("celeba")
    check(data, (3, 1, 2), (3, 64, 64))
    assert int(data.train.min()) > 200  # nothing of the black frame
    assert int(make("celeba", crop=178, size=32).train.min()) < 50
    assert failure("celeba", crop=179) == "celeba: crop must lie between 1 and 178 pixels, got 179"
    (folder / "000005.jpg").unlink()
    assert failure("celeba") == f"{folder / '000005.jpg'}: cannot be read (No such file or directory)"


# --------------------------------------------------------------------------------------------- CIFAR-10 (JPEG)


def tar(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def photos(split: str, n: int) -> dict[str, bytes]:
    """Grey images, 25 times as bright as the number of their class."""
    kinds = [i % 10 for i in range(n)]
    names = [f"{split}/{images.CIFAR[kind]}/{i:04}.jpg" for i, kind in enumerate(kinds)]
    shades = [Image.new("RGB", (32, 32), (25 * kind,) * 3) for kind in kinds]
    return {name: encoded(shade, "JPEG") for name, shade in zip(names, shades, strict=True)}


@pytest.fixture
def jpegs(tmp_path, monkeypatch) -> Path:
    """A small cifar10-jpeg of 40 + 10 images in GANBENCH_DATA; the folder of its archives."""
    monkeypatch.setattr(images, "CIFAR_JPEG_SIZES", {"train": 40, "test": 10})
    monkeypatch.setattr(images, "_first", lambda name, n_train, available: slice(n_train))
    root = tmp_path / "data" / "cifar10-jpeg"
    tar(root / "train.tar.gz", photos("train", 40))
    tar(root / "test.tar.gz", photos("test", 10))
    monkeypatch.setenv("GANBENCH_DATA", str(root.parent))
    return root


def test_cifar10_jpeg_shuffles_and_splits(jpegs):
    data = make("cifar10_jpeg")
    check(data, (36, 4, 10), (3, 32, 32))
    pixels = torch.cat([data.train, data.valid])
    labels = torch.cat([data.labels.train, data.labels.valid])
    assert torch.equal((pixels.float().mean((1, 2, 3)) / 25).round().long(), labels)
    assert labels.tolist() != sorted(labels.tolist())


def test_decoded_images_are_kept_and_checked(jpegs, home, monkeypatch):
    first = make("cifar10_jpeg")
    kept = sorted((home.parent / "decoded").glob("*.safetensors"))
    assert len(kept) == 2

    def unneeded(*_: object) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(files, "decode_all", unneeded)
        again = make("cifar10_jpeg")
    assert torch.equal(first.train, again.train)
    assert torch.equal(first.labels.train, again.labels.train)
    for path in kept:  # a flipped bit at the end of the pixels or labels, and a torn file
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    assert torch.equal(first.train, make("cifar10_jpeg").train)
    for path in kept:
        path.write_bytes(path.read_bytes()[:200])
    assert torch.equal(first.test, make("cifar10_jpeg").test)
    left = {path.suffix for path in (home.parent / "decoded").iterdir()}
    assert left == {".safetensors", ".lock"}  # and no temporary file


def test_a_cache_that_cannot_be_written_costs_only_time(jpegs, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    check(make("cifar10_jpeg"), (36, 4, 10), (3, 32, 32))


def test_cifar10_jpeg_that_is_missing_says_where_it_should_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("GANBENCH_DATA", str(tmp_path))
    message = failure("cifar10_jpeg")
    assert message.startswith(f"cifar10-jpeg: {tmp_path}/cifar10-jpeg/train.tar.gz is missing.")
    assert "or use the dataset cifar10" in message


def test_members_of_an_archive_that_point_outside_are_refused_and_write_nothing(jpegs, tmp_path):
    members = photos("train", 39) | {"../../../evil.jpg": encoded(colour(1, (32, 32)), "JPEG")}
    tar(jpegs / "train.tar.gz", members, links={"train/cat/link.jpg": "/etc/passwd"})
    before = sorted(tmp_path.rglob("*"))
    message = failure("cifar10_jpeg")
    assert "'../../../evil.jpg' in it lies in no folder of a class: airplane, automobile" in message
    new = set(tmp_path.rglob("*")) - set(before)
    assert {path.suffix for path in new if path.is_file()} <= {".lock"}  # of the cache, and nothing decoded
    assert not any(parent.joinpath("evil.jpg").exists() for parent in jpegs.parents)


def test_an_archive_with_too_few_images_is_refused(jpegs):
    path = tar(jpegs / "train.tar.gz", photos("train", 39))
    assert failure("cifar10_jpeg") == f"{path}: holds 39 files; expected 40; get it again"


def test_a_member_of_many_bytes_is_refused_before_it_is_read(jpegs):
    tar(jpegs / "train.tar.gz", photos("train", 39) | {"train/cat/big.jpg": bytes(1_000_001)})
    assert "'train/cat/big.jpg' in it has 1,000,001 bytes; expected images of at most" in failure(
        "cifar10_jpeg"
    )


def test_images_of_another_size_are_refused(jpegs):
    tar(jpegs / "train.tar.gz", photos("train", 39) | {"train/cat/w.jpg": encoded(colour(1), "JPEG")})
    assert failure("cifar10_jpeg") == "train/cat/w.jpg: has 40 × 40 pixels; expected 32 × 32"


@pytest.mark.parametrize("damage", ["truncated", "not gzip", "garbage inside", "empty"])
def test_damaged_archives_are_named(jpegs, damage):
    path = jpegs / "train.tar.gz"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "not gzip": b"<html>",
            "garbage inside": gzip.compress(b"x" * 5000),
            "empty": b"",
        }[damage]
    )
    assert failure("cifar10_jpeg").startswith(f"{path}: ")


@pytest.mark.slow
def test_real_cifar10_jpeg(real_data, monkeypatch):
    if not (real_data / "cifar10-jpeg").is_dir():
        pytest.skip(f"no cifar10-jpeg in {real_data}")
    monkeypatch.setenv("GANBENCH_DATA", str(real_data))
    data = make("cifar10_jpeg")
    check(data, (45_000, 5_000, 10_000), (3, 32, 32))
    counts = torch.cat([data.labels.train, data.labels.valid]).bincount()
    assert counts.tolist() == [5000] * 10
    # Means of CIFAR-10's channels, which JPEG keeps.
    means = data.floats(data.train[:5000]).mean((0, 2, 3))
    torch.testing.assert_close(means, torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.01, rtol=0)
    # No image stands in two splits.
    for held_out, other in ((data.valid, data.train), (data.test, data.train), (data.test, data.valid)):
        assert shared_rows(held_out, other)[0] == 0


# --------------------------------------------------------------------------------------------- your own images


def test_a_folder_is_split_80_10_10_in_an_order_that_its_names_fix(tmp_path):
    root = folder_of(tmp_path / "mine", 50)
    data = make("images", path=str(root), size=16)
    check(data, (40, 5, 5), (3, 16, 16))
    reds = torch.cat([data.train, data.valid, data.test])[:, 0, 0, 0].tolist()
    assert sorted(reds) == list(range(50))
    assert reds != sorted(reds)
    assert torch.equal(make("images", path=str(root), size=16).test, data.test)
    assert data.labels is None
    assert data.classes == ()


def test_sub_folders_are_classes(tmp_path):
    root = tmp_path / "pets"
    folder_of(root / "cat", 12)
    folder_of(root / "dog", 12, "JPEG")
    (root / ".DS_Store").touch()
    (root / "__MACOSX").mkdir()
    (root / "readme.txt").touch()
    data = make("images", path=str(root))
    check(data, (20, 2, 2), (3, 32, 32))
    assert data.classes == ("cat", "dog")
    assert torch.cat([*data.labels]).bincount().tolist() == [12, 12]


def test_an_edited_image_is_decoded_anew(tmp_path):
    root = folder_of(tmp_path / "mine", 10)
    before = make("images", path=str(root))
    stamp = (root / "003.png").stat()
    (root / "003.png").write_bytes(encoded(Image.new("RGB", (40, 40), "white")))
    os.utime(root / "003.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    after = make("images", path=str(root))
    changed = torch.cat([after.train, after.valid, after.test]) != torch.cat(
        [before.train, before.valid, before.test]
    )
    assert int(changed.any(1).any(1).any(1).sum()) == 1


def test_grey_and_colour_may_be_mixed(tmp_path):
    root = folder_of(tmp_path / "mine", 10)
    (root / "grey.png").write_bytes(encoded(Image.new("L", (40, 40), 99)))
    (root / "palette.png").write_bytes(encoded(colour(5).convert("P")))
    (root / "print.jpg").write_bytes(encoded(Image.new("CMYK", (40, 40)), "JPEG"))
    (root / "bits.png").write_bytes(encoded(Image.new("1", (40, 40), 1)))
    check(make("images", path=str(root), channels=3), (12, 1, 1), (3, 32, 32))
    check(make("images", path=str(root), channels=1), (12, 1, 1), (1, 32, 32))


def decoded(image: Image.Image, size: int = 8, channels: int = 3, kind: str = "PNG", **options) -> np.ndarray:
    return files.decode(encoded(image, kind, **options), "x.png", files.Layout(size, channels))


def test_images_are_cut_to_the_central_square():
    wide = Image.new("RGB", (30, 10), "black")
    wide.paste("white", (10, 0, 20, 10))
    assert (decoded(wide) == 255).all()


def test_an_image_of_the_right_size_keeps_its_bits():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert np.array_equal(decoded(Image.fromarray(pixels)), pixels.transpose(2, 0, 1))
    assert np.array_equal(decoded(Image.fromarray(pixels[:, :, 0]), channels=1)[0], pixels[:, :, 0])


def test_sixteen_bits_are_cut_to_eight_and_not_clipped():
    deep = Image.fromarray(np.full((8, 8), 0x8123, np.uint16))
    assert (decoded(deep, channels=1) == 0x81).all()


def test_transparency_is_laid_over_white():
    assert (decoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0))) == 255).all()
    assert (decoded(Image.new("LA", (8, 8), (0, 255))) == 0).all()


def test_the_rotation_mark_of_a_camera_is_followed():
    image = Image.new("RGB", (8, 8), "black")
    image.paste("white", (0, 0, 8, 4))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    found = decoded(image, kind="JPEG", quality=100, exif=exif)
    assert found[:, :4].max() < 50
    assert found[:, 4:].min() > 200


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_damaged_image_is_named(tmp_path, kind):
    root = folder_of(tmp_path / "mine", 12)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    bad = root / f"bad.{kind.lower()}"
    bad.write_bytes(encoded(noise, kind)[:-500])
    message = failure("images", path=str(root))
    assert message.startswith(f"{bad}: is a damaged image (")
    assert message.endswith("replace or remove it")


def test_a_text_called_png_is_named(tmp_path):
    root = folder_of(tmp_path / "mine", 12)
    (root / "a.png").write_text("hello")
    assert failure("images", path=str(root)) == (
        f"{root / 'a.png'}: is not a PNG, JPEG, BMP or WebP image, whatever its suffix says; convert or remove it"
    )


@pytest.mark.parametrize("side", [9_000, 11_000, 60_000])  # below PIL's limit, in its warning, above all
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    root = folder_of(tmp_path / "mine", 12)
    (root / "bomb.png").write_bytes(bomb + chunk(b"IEND", b""))
    message = failure("images", path=str(root))
    assert message.startswith(f"{root / 'bomb.png'}: has ")
    assert "more than 64,000,000" in message


def test_symbolic_links_to_images_are_followed_and_dangling_ones_named(tmp_path):
    real = folder_of(tmp_path / "real", 12)
    root = tmp_path / "links"
    root.mkdir()
    for path in real.iterdir():
        (root / path.name).symlink_to(path)
    check(make("images", path=str(root)), (10, 1, 1), (3, 32, 32))
    (root / "gone.png").symlink_to(tmp_path / "gone.png")
    assert failure("images", path=str(root)) == (
        f"{root / 'gone.png'}: cannot be read (No such file or directory)"
    )


def test_a_link_in_a_circle_ends(tmp_path):
    root = tmp_path / "circle"
    folder_of(root / "cat", 12)
    (root / "cat" / "again").symlink_to(root)
    check(make("images", path=str(root)), (10, 1, 1), (3, 32, 32))


def test_folders_without_usable_images_say_what_they_hold(tmp_path):
    root = tmp_path / "mine"
    assert failure("images", path=str(root)) == (
        f"{root}: there is no such folder; expected a folder of PNG, JPEG, BMP or WebP images"
    )
    root.mkdir()
    assert failure("images", path=str(root)) == (
        f"{root}: has no images with the suffix .png, .jpg, .jpeg, .bmp, .webp: it is empty"
    )
    (root / "a.gif").touch()
    (root / "b.txt").touch()
    assert failure("images", path=str(root)).endswith(": only 1 .gif (not read: convert to PNG), 1 .txt")
    folder_of(root, 9)
    assert failure("images", path=str(root)) == (
        f"{root}: has 9 images; at least 10 are needed for three splits"
    )
    (root / "cat").mkdir()
    assert failure("images", path=str(root)).startswith(
        f"{root / 'cat'}: has no PNG, JPEG, BMP or WebP images"
    )
    folder_of(root / "cat", 2)
    assert "has images (000.png, …) beside sub-folders with images (cat/000.png, …)" in failure(
        "images", path=str(root)
    )
    assert "is not a folder" in failure("images", path=str(root / "a.gif"))


@pytest.mark.parametrize("size", [0, -3, 5000])
def test_an_impossible_size_is_named(tmp_path, size):
    root = folder_of(tmp_path / "mine", 10)
    message = f"size must lie between 1 and 1024 pixels, got {size}"
    assert failure("images", path=str(root), size=size) == message


# --------------------------------------------------------------------------------------------- TFD


def tfd(path: Path, **changes: object) -> Path:
    """60 made faces: 30 unlabelled, then 10 each for training, validation, tests; rotated by fold."""
    folds = np.stack([np.r_[np.zeros(30), np.roll(np.repeat([1, 2, 3], 10), 10 * f)] for f in range(5)], 1)
    faces = np.arange(60, dtype=np.uint8)[:, None, None].repeat(48, 1).repeat(48, 2)
    content = {"images": faces, "folds": folds.astype(np.int8), "labs_ex": np.zeros((60, 1)), **changes}
    scipy.io.savemat(path, {key: value for key, value in content.items() if value is not None})
    return path


def test_tfd_trains_on_unlabelled_and_the_folds_training_images(tmp_path):
    path = tfd(tmp_path / "TFD_48x48.mat")
    data = make("tfd", path=str(path))
    check(data, (40, 10, 10), (1, 48, 48))
    assert data.train[:, 0, 0, 0].tolist() == list(range(40))
    assert data.valid[:, 0, 0, 0].tolist() == list(range(40, 50))
    assert data.test[:, 0, 0, 0].tolist() == list(range(50, 60))
    assert make("tfd", path=str(path), fold=2).test[:, 0, 0, 0].tolist() == list(range(30, 40))
    assert failure("tfd", path=str(path), fold=6) == "tfd: fold must lie between 1 and 5, got 6"


def test_tfd_that_is_missing_says_where_to_get_it(tmp_path):
    message = failure("tfd", path=str(tmp_path / "no.mat"))
    assert message.startswith(f"tfd: {tmp_path / 'no.mat'} is missing. The database is not public: ask")


def test_tfd_without_its_arrays_says_what_it_holds(tmp_path):
    path = tfd(tmp_path / "x.mat", folds=None)
    assert failure("tfd", path=str(path)) == (
        f"{path}: must hold the numeric arrays images, folds; it holds images (numbers), labs_ex (numbers)"
    )


@pytest.mark.parametrize("bad", [np.array([{"a": 1}, "b"], dtype=object), "text", np.array([1j])])
def test_tfd_with_objects_in_place_of_numbers_is_refused_unread(tmp_path, bad):
    path = tfd(tmp_path / "x.mat", images=bad)
    assert "it holds images (no plain numbers), folds (numbers)" in failure("tfd", path=str(path))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i4", "u8", "f4", "f8"])
def test_matlab_arrays_are_read_as_scipy_reads_them(tmp_path, kind, compressed):
    content = {
        "cube": np.arange(2 * 3 * 5).reshape(2, 3, 5).astype(kind),
        "s": np.array([[7]], dtype=kind),
        "a_name_that_is_longer": np.random.default_rng(0).uniform(0, 99, (40, 50)).astype(kind),
        "nothing": np.zeros((0, 3), dtype=kind),
    }
    scipy.io.savemat(tmp_path / "x.mat", content, do_compression=compressed)
    found, expected = read_mat(tmp_path / "x.mat", list(content)), scipy.io.loadmat(tmp_path / "x.mat")
    for name in content:
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].dtype == np.dtype(kind)


def test_a_damaged_matlab_file_never_crashes(tmp_path):
    path, random = tfd(tmp_path / "x.mat"), np.random.default_rng(0)
    whole = path.read_bytes()
    for _ in range(300):
        content = bytearray(whole)
        for place in random.exponential(300, size=3).astype(int):
            content[min(place, len(content) - 1)] = random.integers(256)
        path.write_bytes(content)
        with contextlib.suppress(DatasetError):
            make("tfd", path=str(path))


def test_tfd_of_another_shape_or_with_an_empty_split_is_refused(tmp_path):
    path = tfd(tmp_path / "x.mat", folds=np.ones((60, 4), np.uint8))
    assert "has images uint8 (60, 48, 48) and folds (60, 4); expected" in failure("tfd", path=str(path))
    path = tfd(tmp_path / "x.mat", folds=np.ones((60, 5), np.uint8))
    message = f"{path}: fold 1 has 60, 0, 0 training, validation and test images"
    assert failure("tfd", path=str(path)) == message


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "version 7.3"])
def test_damaged_mat_files_are_named(tmp_path, damage):
    path = tfd(tmp_path / "x.mat")
    whole = path.read_bytes()
    content = {
        "truncated": whole[: len(whole) // 2],
        "text": b"hello" * 100,
        "empty": b"",
        "version 7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(500),
    }
    path.write_bytes(content[damage])
    message = failure("tfd", path=str(path))
    assert message.startswith(f"{path}: ")
    assert ("save it again in MATLAB" in message) == (damage == "version 7.3")


# --------------------------------------------------------------------------------------------- kinds of files


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "JPEG"])
def test_kinds_of_image_files_give_the_same_pixels(kind):
    image = Image.fromarray(
        np.kron(np.arange(0, 240, 15, dtype=np.uint8).reshape(4, 4), np.ones((8, 8), np.uint8))
    )
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    found = files.decode(encoded(image, kind, **options), "x", files.Layout(32, 1))
    assert np.abs(found[0].astype(int) - np.asarray(image)).max() <= (2 if kind == "JPEG" else 0)


def test_an_animation_is_no_picture():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    blob = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(DatasetError, match=r"a\.png: is an animation; expected a picture"):
        files.decode(blob, "a.png", files.Layout(8, 3))


def test_what_is_read_and_what_is_skipped_is_said(tmp_path):
    root = folder_of(tmp_path / "mine", 12)
    Image.new("L", (40, 40), 9).save(root / "_grey.bmp")
    Image.new("RGB", (40, 40)).save(root / "x.tif")
    for name in (".DS_Store", "._000.png", "labels.txt", "LICENSE"):
        (root / name).touch()
    (root / "__MACOSX").mkdir()
    (note,) = make("images", path=str(root), size=16).notes
    assert note == (
        f"{root}: 13 image files, skipped: 1 .tif (not read: convert to PNG), 1 .txt, 1 folder mine/__MACOSX, "
        "2 hidden, 1 without suffix (LICENSE); 1 of 13 are grey, read as colour; "
        "13 cropped to a square and resized to 16 × 16"
    )
    (note,) = make("images", path=str(root), size=40, channels=1).notes
    assert "; 12 of 13 are in colour, read as grey" in note


def test_headers_say_what_is_grey(tmp_path):
    palette = Image.new("P", (8, 8))
    palette.putpalette([value for grey in range(256) for value in (grey, grey, grey)])
    coloured = Image.new("P", (8, 8))
    coloured.putpalette([0, 0, 0, 255, 0, 0])
    kinds = {
        "1": Image.new("1", (8, 8)), "16": Image.fromarray(np.zeros((8, 8), np.uint16)), "L": Image.new("L", (8, 8)),
        "LA": Image.new("LA", (8, 8)), "P": palette, "Q": coloured, "RGB": Image.new("RGB", (8, 8)),
        "RGBA": Image.new("RGBA", (8, 8)),
    }  # fmt: skip
    for name, image in kinds.items():
        image.save(tmp_path / f"{name}.png")
    listing = files.list_images(tmp_path)
    found = {
        Path(name).stem
        for name, one in zip(listing.names, files.read_headers(listing), strict=True)
        if one.grey
    }
    assert found == {"1", "16", "L", "LA", "P"}
