"""IDX files in torchvision's layout, with generated images in place of MNIST's."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class GeneratedMnist:
    """Generated images and the files that hold them.

    Attributes:
        images, labels: by part, "train" and "test"; uint8 (n, 28, 28) and (n,).
        files: name -> bytes.
    """

    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    files: dict[str, bytes]

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name."""
        return {name: len(content) for name, content in self.files.items()}

    def facts(self, validation: int) -> dict:
        """What config/datasets.yaml would say about these images."""
        train, test = len(self.images["train"]), len(self.images["test"])
        return {
            "title": "generated",
            "image_shape": [1, 28, 28],
            "digests": {part: naive_digest(images) for part, images in self.images.items()},
            "splits": {
                "train": {"part": "train", "count": train - validation},
                "validation": {"part": "train", "count": validation},
                "test": {"part": "test", "count": test},
            },
        }

    def write(self, raw: Path) -> None:
        """Write the files into torchvision's `raw` folder."""
        raw.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (raw / name).write_bytes(content)


def generate(train: int = 60, test: int = 20, seed: int = 0) -> GeneratedMnist:
    """Random images whose label is their index modulo ten."""
    draws = np.random.default_rng(seed)
    counts = {"train": train, "test": test}
    images = {k: draws.integers(0, 256, (n, 28, 28), dtype=np.uint8) for k, n in counts.items()}
    labels = {k: (np.arange(n) % 10).astype(np.uint8) for k, n in counts.items()}
    files = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        files[f"{prefix}-images-idx3-ubyte"] = idx_bytes(images[part])
        files[f"{prefix}-labels-idx1-ubyte"] = idx_bytes(labels[part])
    return GeneratedMnist(images, labels, files)


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX format: magic number 0x0000 08 <dimensions>, big-endian sizes, bytes."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">i4").tobytes()
    return header + array.tobytes()


def naive_digest(images: np.ndarray) -> str:
    """sha256 over the sorted, concatenated sha256 digests of the images' pixels, row by row."""
    digests = sorted(sha256(bytes(image.ravel().tolist())).digest() for image in images)
    total = sha256()
    for digest in digests:
        total.update(digest)
    return total.hexdigest()
