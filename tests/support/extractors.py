"""Feature extractors that can be checked by hand, and the classifier's without its workflow."""

import torch
from torch import Tensor

from benchmark.data.pixels import to_rgb
from benchmark.evaluation.inception import inception_names


class Pixels:
    """The features of an image are its pixels; counts the images that it has seen."""

    device = torch.device("cpu")

    def __init__(self, dimension: int, digest: str = "pixels"):
        self.dimension, self.digest, self.seen = dimension, digest, 0
        self.names = inception_names(digest)

    def __call__(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.flatten(1).float()


class Images(torch.utils.data.Dataset):
    """As torch-fidelity takes them: uint8 with three channels."""

    def __init__(self, images: Tensor):
        self.images = to_rgb(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i]


def smooth_images(n: int, image_shape: tuple[int, int, int], seed: int) -> Tensor:
    """Smooth random images, so that the features differ between images: uint8 (n, C, H, W)."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, image_shape[0], 4, 4, generator=draws)
    fine = torch.nn.functional.interpolate(coarse, image_shape[1:], mode="bilinear")
    return (255 * fine).round().to(torch.uint8)


def darker(images: Tensor, amount: float) -> Tensor:
    """Everything darker by a factor."""
    return (images * (1 - amount)).round().to(torch.uint8)
