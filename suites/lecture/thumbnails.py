"""Photographs and digits at half their size, in small splits: seconds where the whole sets take minutes."""

from dataclasses import replace
from typing import Literal

from torch.nn.functional import avg_pool2d

from ganbench import Labels, dataset, load_data, random_subset


@dataset("thumbnails", provides=("pixels", "labels"))
def thumbnails(
    generator,
    source: Literal[
        "mnist", "fashion-mnist", "cifar10", "cifar10-jpeg"
    ] = "mnist",  # where the images come from
    n_train: int = 4000,  # training images, the first ones of the source
    n_test: int = 2000,  # test images, drawn at random but always the same
):
    """Images of another dataset whose sides are halved by averaging 2 × 2 pixels, rounded: MNIST at 14 × 14, CIFAR-10
    at 16 × 16. All validation images of the source. Raises DatasetError as the source does."""
    data = load_data(source, n_train=n_train)

    def halved(pixels):
        return avg_pool2d(pixels.float(), 2).round().to(pixels.dtype)

    _, valid, test = data.labels
    labels = Labels(data.labels.train, valid, random_subset(test, n_test))
    splits = {"train": data.train, "valid": data.valid, "test": random_subset(data.test, n_test)}
    small = {name: halved(pixels) for name, pixels in splits.items()}
    return replace(data, name="thumbnails", shape=tuple(small["train"].shape[1:]), labels=labels, **small)
