"""IDX files as MNIST has them, and the digest of images, written out."""

from hashlib import sha256

import numpy as np


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
