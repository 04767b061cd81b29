"""Datasets of images, with fixed splits: uint8 pixels [N, C, H, W], floats in [0, 1] for methods and metrics.

They are the same for everybody, whatever the generator. `files.py` says where they are read from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from ..contracts import Data, Labels, dataset
from ..errors import DatasetError
from . import files
from .files import Layout
from .matlab import read_mat

DIGITS = tuple("0123456789")
CLOTHES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
CIFAR_JPEG_SIZES = {"train": 50_000, "test": 10_000}
CELEBA_MD5 = {
    "celeba/img_align_celeba": None,  # a folder; torchvision checks the archive when it downloads
    "celeba/list_attr_celeba.txt": "75e246fa4810816ffd6ee81facbd244c",
    "celeba/identity_CelebA.txt": "32bd1bd63d3c78cd57e08160ec5ed1e2",
    "celeba/list_bbox_celeba.txt": "00566efa6fedff7a56946cd1c10f1c16",
    "celeba/list_landmarks_align_celeba.txt": "cc24ecafdb5b50baae59b03474781f8c",
    "celeba/list_eval_partition.txt": "d32c9cbf5e040fd4025c592c306e6668",
}

# --------------------------------------------------------------------------------------------- splits


@dataclass(frozen=True)
class Images:
    """Pixels, uint8 [N, C, H, W], and labels, int64 [N], of one split."""

    pixels: Tensor
    labels: Tensor | None = None

    def __getitem__(self, rows: slice) -> Images:
        return Images(self.pixels[rows], None if self.labels is None else self.labels[rows])


def _images(pixels: NDArray[Any], labels: NDArray[Any] | None = None) -> Images:
    """From arrays; pixels [N, C, H, W], labels [N]."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))
    return Images(tensor, None if labels is None else torch.from_numpy(labels.astype(np.int64)))


def _data(name: str, train: Images, valid: Images, test: Images, classes: tuple[str, ...] = ()) -> Data:
    labels = None
    if train.labels is not None and valid.labels is not None and test.labels is not None:
        labels = Labels(train.labels, valid.labels, test.labels)
    return Data(
        name,
        train.pixels,
        valid.pixels,
        test.pixels,
        shape=tuple(train.pixels.shape[1:]),
        scale=(0.0, 1.0),
        labels=labels,
        classes=classes if labels else (),
    )


def _first(name: str, n_train: int, available: int) -> slice:
    """The first n_train of the training images. Raises DatasetError where there are not so many."""
    if not 1 <= n_train <= available:
        raise DatasetError(f"{name}: n_train must lie between 1 and {available:,}, got {n_train:,}")
    return slice(n_train)


# --------------------------------------------------------------------------------------------- digits


@dataset("digits", provides=("pixels", "labels"))
def digits(
    _generator: Generator,
    n_train: int = 1_297,  # training images, the first of the 1,297
) -> Data:
    """Handwritten digits of 8 × 8 pixels, which come with scikit-learn: no download.

    The test set of the UCI "Optical Recognition of Handwritten Digits" data: 1,797 images, whose pixels
    0..16 become 0..255; in one fixed shuffled order 1,297 for training, 200 for validation, 300 for tests.
    Raises DatasetError for an impossible n_train.
    """
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    order = [int(name) for name in files.shuffled(str(i) for i in range(len(bunch.images)))]
    pixels = np.rint(bunch.images[order] * (255 / 16)).astype(np.uint8)
    every = _images(pixels[:, None], bunch.target[order])
    train = every[:1297][_first("digits", n_train, 1297)]
    return _data("digits", train, every[1297:1497], every[1497:], DIGITS)


# --------------------------------------------------------------------------------------------- MNIST


@dataset("mnist", provides=("pixels", "labels"))
def mnist(
    _generator: Generator,
    n_train: int = 50_000,  # training images, the first of the 50,000
) -> Data:
    """MNIST's handwritten digits, 28 × 28 grey (LeCun et al. 1998).

    Splits as in Goodfellow et al. 2014: the first 50,000 training images, the last 10,000 of them for
    validation, 10,000 test images. All four files are held against their SHA-256. Raises DatasetError.
    """
    return _idx_images("mnist", "MNIST", MNIST_SHA256, DIGITS, n_train)


@dataset("stacked_mnist", provides=("pixels", "labels"))
def stacked_mnist(
    generator: Generator,
    n_train: int = 50_000,  # training images
) -> Data:
    """Stacked MNIST, 28 × 28 with three channels, each a random digit: 1000 modes (Metz et al. 2017, section
    3.3.1; PacGAN, Lin et al. 2018).

    The digits of each split are drawn with replacement from the same split of mnist, for the test split first
    and the training split last: 10,000 test images, 10,000 for validation, and as many training images as are
    wanted. The class of an image is the number that its digits make, "000" to "999". Raises DatasetError.
    """
    if n_train < 1:
        raise DatasetError(f"stacked_mnist: n_train must be above 0, got {n_train:,}")
    single = mnist(generator)

    def draw(pixels: Tensor, digits: Tensor, n: int) -> Images:
        rows = torch.randint(len(pixels), (n, 3), generator=generator)
        places = torch.tensor([100, 10, 1])
        return Images(pixels[rows, 0], (digits[rows] * places).sum(1))

    if single.labels is None:
        raise DatasetError("stacked_mnist: mnist has no labels")
    test = draw(single.test, single.labels.test, 10_000)
    valid = draw(single.valid, single.labels.valid, 10_000)
    train = draw(single.train, single.labels.train, n_train)
    return _data("stacked_mnist", train, valid, test, tuple(f"{number:03}" for number in range(1000)))


@dataset("fashion-mnist", provides=("pixels", "labels"))
def fashion_mnist(
    _generator: Generator,
    n_train: int = 50_000,  # training images, the first of the 50,000
) -> Data:
    """Fashion-MNIST's clothes, 28 × 28 grey (Xiao et al. 2017).

    Splits as for mnist: 50,000, the last 10,000 of the training images, 10,000. torchvision checks the
    downloaded archives; of unpacked files the header and the size are checked. Raises DatasetError.
    """
    sums = dict.fromkeys(MNIST_SHA256)
    return _idx_images("fashion-mnist", "FashionMNIST", sums, CLOTHES, n_train)


def _idx_images(
    name: str, folder: str, sha256: dict[str, Any], classes: tuple[str, ...], n_train: int
) -> Data:
    rows = _first(name, n_train, 50_000)

    def part(folder: Path, prefix: str, n: int) -> Images:
        images, labels = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        pixels = files.read_idx(folder / images, (n, 28, 28), sha256[images])
        return _images(pixels[:, None], files.read_idx(folder / labels, (n,), sha256[labels]))

    def load(root: Path, get: bool) -> tuple[Images, Images]:
        if get:
            from torchvision import datasets  # takes seconds to start; reading the files needs none of it

            getattr(datasets, folder)(root, download=True)
        return part(root / folder / "raw", "train", 60_000), part(root / folder / "raw", "t10k", 10_000)

    every, test = files.obtain(name, dict.fromkeys(f"{folder}/raw/{file}" for file in sha256), load)
    return _data(name, every[:50_000][rows], every[50_000:], test, classes)


# --------------------------------------------------------------------------------------------- CIFAR-10


@dataset("cifar10", provides=("pixels", "labels"))
def cifar10(
    _generator: Generator,
    n_train: int = 45_000,  # training images, the first of the 45,000
) -> Data:
    """CIFAR-10, 32 × 32 colour photographs of 10 classes (Krizhevsky 2009).

    The first 45,000 training images, the last 5,000 of them for validation, 10,000 test images. The files
    are pickles: torchvision opens them only after their MD5 sums were found right. Raises DatasetError.
    """
    from torchvision.datasets import CIFAR10

    rows = _first("cifar10", n_train, 45_000)
    sums = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    expected = {f"{CIFAR10.base_folder}/{file}": md5 for file, md5 in sums}

    def load(train: bool) -> Images:
        found = files.obtain("cifar10", expected, lambda root, get: CIFAR10(root, train=train, download=get))
        return _images(found.data.transpose(0, 3, 1, 2), np.asarray(found.targets))

    every = load(train=True)
    return _data("cifar10", every[:45_000][rows], every[45_000:], load(train=False), CIFAR)


@dataset("cifar10-jpeg", provides=("pixels", "labels"))
def cifar10_jpeg(
    _generator: Generator,
    n_train: int = 45_000,  # training images, the first of the 45,000
) -> Data:
    """CIFAR-10 (JPEG): CIFAR-10 as lossy JPEG files; its numbers never stand beside a paper's as equal.

    Reads cifar10-jpeg/train.tar.gz and test.tar.gz in the data folder: 50,000 and 10,000 images in folders
    named after their classes. In one fixed shuffled order 45,000 training images, 5,000 for validation, and
    the 10,000 test images. Raises DatasetError.
    """
    rows = _first("cifar10-jpeg", n_train, 45_000)
    every = _tar_images("train")
    valid = len(every.pixels) // 10
    return _data("cifar10-jpeg", every[:-valid][rows], every[-valid:], _tar_images("test"), CIFAR)


def _tar_images(split: Literal["train", "test"]) -> Images:
    path = (files.data_folder() or files.download_folder()) / "cifar10-jpeg" / f"{split}.tar.gz"
    if not path.is_file():
        raise DatasetError(
            f"cifar10-jpeg: {path} is missing. ganbench cannot download it: set GANBENCH_DATA to the folder "
            "which holds cifar10-jpeg/train.tar.gz and test.tar.gz, or use the dataset cifar10"
        )

    def make() -> dict[str, Tensor]:
        found = dict(files.read_tar(path))
        if len(found) != CIFAR_JPEG_SIZES[split]:
            expected = CIFAR_JPEG_SIZES[split]
            raise DatasetError(f"{path}: holds {len(found):,} files; expected {expected:,}; get it again")
        names = files.shuffled(found)
        labels = torch.tensor([_cifar_class(path, name) for name in names])
        layout = Layout(size=32, channels=3, exact=True)
        return {"pixels": files.decode_all(names, found.__getitem__, layout), "labels": labels}

    return Images(**files.cached(f"cifar10-jpeg {files.digest([files.read(path)])}", make))


def _cifar_class(path: Path, member: str) -> int:
    """Of `train/cat/0001.jpg`: 3."""
    folder = member.split("/")[-2] if "/" in member else ""
    if folder not in CIFAR:
        raise DatasetError(f"{path}: {member!r} in it lies in no folder of a class: {', '.join(CIFAR)}")
    return CIFAR.index(folder)


# --------------------------------------------------------------------------------------------- SVHN, STL


@dataset("svhn", provides=("pixels", "labels"))
def svhn(
    _generator: Generator,
    n_train: int = 63_257,  # training images, the first of the 63,257
) -> Data:
    """Street View House Numbers, cropped digits of 32 × 32 colour pixels (Netzer et al. 2011).

    The first 63,257 training images, the last 10,000 of them for validation (as many as Radford et al. 2016
    hold out), 26,032 test images; the extra images are not used. Raises DatasetError.
    """
    from torchvision.datasets import SVHN

    rows = _first("svhn", n_train, 63_257)

    def load(split: Literal["train", "test"]) -> Images:
        _, file, md5 = SVHN.split_list[split]
        found = files.obtain("svhn", {file: md5}, lambda root, get: SVHN(root, split, download=get))
        return _images(found.data, found.labels)

    every = load("train")
    return _data("svhn", every[:63_257][rows], every[63_257:], load("test"), DIGITS)


@dataset("stl10", provides=("pixels",))
def stl10(
    _generator: Generator,
    size: Literal[96, 48, 32] = 96,  # pixels along each side; less than 96 by averaging blocks
    n_train: int = 100_000,  # training images, the first of the 100,000 unlabelled ones
) -> Data:
    """STL-10, 96 × 96 colour photographs (Coates et al. 2011).

    The 100,000 unlabelled images for training, the 5,000 labelled training images for validation, 8,000
    test images; so that there are no labels. Raises DatasetError.
    """
    from torchvision.datasets import STL10

    if size not in (96, 48, 32):
        raise DatasetError(f"stl10: size must be 96, 48 or 32, got {size}")
    rows = _first("stl10", n_train, 100_000)
    expected = {f"{STL10.base_folder}/{file}": md5 for file, md5 in STL10.train_list + STL10.test_list}

    def load(split: Literal["unlabeled", "train", "test"], rows: slice) -> Images:
        found = files.obtain("stl10", expected, lambda root, get: STL10(root, split, download=get))
        return Images(_shrink(_images(found.data[rows]).pixels, 96 // size))

    every = slice(None)
    return _data("stl10", load("unlabeled", rows), load("train", every), load("test", every))


def _shrink(pixels: Tensor, factor: int) -> Tensor:
    """Means of blocks of factor × factor pixels, rounded: [N, C, H, W] -> [N, C, H/factor, W/factor]."""
    if factor == 1:
        return pixels
    parts = (torch.nn.functional.avg_pool2d(part.float(), factor) for part in pixels.split(1000))
    return torch.cat([part.round_().to(torch.uint8) for part in parts])


# --------------------------------------------------------------------------------------------- CelebA


@dataset("celeba", provides=("pixels",))
def celeba(
    _generator: Generator,
    size: int = 64,  # pixels along each side
    crop: int = 108,  # side of the centred square that is cut out first, of 178 × 218 pixels
    n_train: int = 162_770,  # training images, the first of the 162,770
) -> Data:
    """CelebA's aligned faces in colour (Liu et al. 2015), cropped and resized (DCGAN's code: 108 to 64).

    The official splits: 162,770 training, 19,867 validation, 19,962 test images; no labels, for an image
    has 40 attributes and no class. The first time, decoding takes minutes. Raises DatasetError.
    """
    from torchvision.datasets import CelebA

    if not 1 <= crop <= 178:
        raise DatasetError(f"celeba: crop must lie between 1 and 178 pixels, got {crop}")
    rows = _first("celeba", n_train, 162_770)

    def load(root: Path, get: bool) -> Path:
        CelebA(root, "all", target_type=[], download=get)
        return root / "celeba"

    root = files.obtain("celeba", CELEBA_MD5, load)
    lines = files.read(root / "list_eval_partition.txt").decode().splitlines()
    names = [[line.split()[0] for line in lines if line.endswith(f" {part}")] for part in range(3)]
    names[0] = names[0][rows]
    layout, folder = Layout(size, channels=3, crop=crop), root / "img_align_celeba"
    train, valid, test = (Images(files.decode_files(folder, part, layout)) for part in names)
    return _data("celeba", train, valid, test)


# --------------------------------------------------------------------------------------------- your own


@dataset("images", provides=("pixels",))
def images(
    _generator: Generator,
    path: str,  # a folder of PNG, JPEG, BMP or WebP images, or of one such folder for each class
    size: int = 32,  # pixels along each side, after cutting out the largest centred square
    channels: Literal[1, 3] = 3,  # 1 for grey, 3 for colour
) -> Data:
    """Your own images: a folder of PNG, JPEG, BMP or WebP files, or of one sub-folder for each class.

    In one fixed shuffled order (by the SHA-256 of their names) 80 % are for training, 10 % for validation,
    10 % for tests. Sub-folders' names become the classes. Raises DatasetError which names a bad file.
    """
    listing = files.list_images(Path(path).expanduser())
    root, names = listing.root, files.shuffled(listing.names)
    if len(names) < 10:
        raise DatasetError(f"{root}: has {len(names)} images; at least 10 are needed for three splits")
    headers = files.read_headers(listing)
    classes = tuple(sorted({name.split("/")[0] for name in names if "/" in name}))
    pixels = files.decode_files(root, names, Layout(size, channels))
    labels = torch.tensor([classes.index(name.split("/")[0]) for name in names]) if classes else None
    every, held = Images(pixels, labels), len(names) // 10
    train, valid, test = every[: -2 * held], every[-2 * held : -held], every[-held:]
    other = sum((header.width, header.height) != (size, size) for header in headers)
    resized = f"{other:,} cropped to a square and resized to {size} × {size}" if other else ""
    notes = [f"{root}: {listing}", files.channel_note(headers, channels), resized]
    data = _data("images", train, valid, test, classes)
    return replace(data, notes=("; ".join(note for note in notes if note),))


@dataset("tfd", provides=("pixels",))
def tfd(
    _generator: Generator,
    path: str,  # your TFD_48x48.mat or TFD_96x96.mat
    fold: int = 1,  # which of the five official folds, 1 to 5
) -> Data:
    """The Toronto Face Database, 48 × 48 or 96 × 96 grey (Susskind et al. 2010), which its authors give out.

    For training the unlabelled images and the training images of the fold, for validation and tests those
    of the fold; as Goodfellow et al. 2014 do, average scores over the folds. No labels, for most training
    images have none. The file holds `images` [N, 48, 48] of bytes and `folds` [N, 5], in which 0 stands
    for unlabelled, 1 for training, 2 for validation and 3 for test images. Raises DatasetError.
    """
    if not 1 <= fold <= 5:
        raise DatasetError(f"tfd: fold must lie between 1 and 5, got {fold}")
    file = Path(path).expanduser()
    pixels, folds = _read_tfd(file)
    column = folds[:, fold - 1]
    rows = [(column == 0) | (column == 1), column == 2, column == 3]
    if not all(part.any() for part in rows):
        counts = ", ".join(str(int(part.sum())) for part in rows)
        raise DatasetError(f"{file}: fold {fold} has {counts} training, validation and test images")
    train, valid, test = (_images(pixels[part][:, None]) for part in rows)
    return _data("tfd", train, valid, test)


def _read_tfd(file: Path) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Images [N, H, H] and folds [N, 5]."""
    if not file.is_file():
        raise DatasetError(
            f"tfd: {file} is missing. The database is not public: ask its authors (Susskind, Anderson and "
            "Hinton, University of Toronto) for TFD_48x48.mat, then set path to where it lies"
        )
    arrays = read_mat(file, ("images", "folds"))
    pixels, folds = arrays["images"], arrays["folds"]
    square = pixels.ndim == 3 and pixels.shape[1] == pixels.shape[2] and pixels.dtype == np.uint8
    if not square or folds.shape != (len(pixels), 5):
        raise DatasetError(
            f"{file}: has images {pixels.dtype} {pixels.shape} and folds {folds.shape}; expected images of "
            "bytes (uint8) [N, 48, 48] or [N, 96, 96] and folds [N, 5]"
        )
    return pixels, folds
