"""Images as the models take them."""

from torch import Tensor, nn

from kaem.errors import NonFiniteError

FARTHEST = 10.0  # from [0, 1] that a pixel may lie: noise leads beyond it, but not to 255


def checked_images(x: Tensor, network: nn.Module) -> Tensor:
    """Return images in the dtype of a network's parameters, once they are seen to be such.

    Args:
        x: (n, C, H, W) in [0, 1], of any floating-point dtype. Noise may lead beyond [0, 1].
        network: makes or takes the images; (C, H, W) is its `image_shape`, where it has one.

    Raises:
        TypeError: no tensor of floating-point numbers.
        ValueError: another shape, no image at all, or values far beyond [0, 1].
        NonFiniteError: NaN or infinity.
    """
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"images are a floating-point tensor, got {given}; divide bytes by 255")
    shape = tuple(getattr(network, "image_shape", x.shape[1:]))
    if x.shape[1:] != shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"images of shape {tuple(x.shape)} for a model of (n, {wanted})")
    if not len(x):
        raise ValueError("a batch without images")
    if not ((x >= -FARTHEST) & (x <= 1 + FARTHEST)).all():  # false for NaN
        _check_finite(x)
        low, high = x.aminmax()
        raise ValueError(f"images hold values from {low:g} to {high:g}, far beyond [0, 1]")
    return x.to(next(network.parameters(), x).dtype)


def _check_finite(x: Tensor) -> None:
    if x.isfinite().all():
        return
    place = (~x.isfinite()).nonzero()[0].tolist()
    images = int((~x.isfinite()).flatten(1).any(1).sum())
    raise NonFiniteError(
        f"{images} of the batch's {len(x)} images hold NaN or infinity; the first at "
        f"image {place[0]}, channel, row and column {place[1:]}"
    )
