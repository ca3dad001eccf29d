"""The Inception network behind FID and KID: its weights, checked, and its features.

torch-fidelity holds the network; its weights are the ones of the original TensorFlow code
(Heusel et al. 2017, arXiv 1706.08500), converted. Without them there is no FID.
"""

import pickle
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor

from benchmark.base.errors import DataError
from benchmark.base.files import atomic, file_digest
from benchmark.base.paths import inception_weights
from benchmark.config.settings import OFFICIAL_SHA256
from benchmark.data.pixels import to_rgb

SIZE = "96 MB"
LAYER = "2048"

# What torch raises for a file that is damaged or holds something else than a network's state.
UNLOADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    pickle.UnpicklingError,
)


def find_weights(root: Path, sha256: str = OFFICIAL_SHA256) -> Path | None:
    """Return the weights' file, see `benchmark.base.paths`; None where there is none.

    Raises:
        DataError: a file is there and is not the expected one.
    """
    path = inception_weights(root)
    if not path.is_file():
        return None
    digest = file_digest(path)
    if digest != sha256:
        raise DataError(
            f"Inception weights: {path} is damaged or another network's\n"
            f"  expected sha256 {sha256}\n  found           {digest}\n"
            "  Delete it and run `python -m benchmark preflight`; for weights of your own, give "
            "their digest as evaluation.inception_sha256."
        )
    return path


def fetch_weights(root: Path, sha256: str = OFFICIAL_SHA256) -> Path:
    """Download the official weights into the data root; only a whole file takes its place.

    Raises:
        DataError: they cannot be had.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = inception_weights(root)
    if sha256 != OFFICIAL_SHA256:
        raise DataError(_missing(root))
    try:
        with atomic(path) as temporary:
            torch.hub.download_url_to_file(
                URL_INCEPTION_V3, str(temporary), OFFICIAL_SHA256, progress=False
            )
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the hash differs
        raise DataError(_missing(root) + f"\n  The download failed: {error}") from error
    return path


def _missing(root: Path) -> str:
    """Write what to say where there are no weights."""
    return (
        f"Inception weights: {inception_weights(root)} is missing ({SIZE}): FID and KID cells "
        "will be empty\n  `python -m benchmark preflight` with network access fetches it; or name "
        "a file in KAEM_INCEPTION_WEIGHTS."
    )


def inception_names(sha256: str) -> tuple[str, str]:
    """Return `names` of the features by weights with a digest: with other weights than the standard
    ones nothing is called FID."""
    return ("fid", "") if sha256 == OFFICIAL_SHA256 else (f"frechet_{sha256[:8]}", f"_{sha256[:8]}")


class InceptionFeatures:
    """The 2,048 features of torch-fidelity's Inception-v3.

    Attributes:
        digest: sha256 of the weights.
        dimension: of the features.

    Raises:
        DataError: the file does not hold this network's weights, or holds more than weights.
    """

    dimension = 2048

    def __init__(self, path: Path, device: torch.device):
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.digest = file_digest(path)
        try:
            # torch-fidelity would unpickle anything: what is no state of a network ends here.
            torch.load(path, map_location="cpu", weights_only=True)
            network = FeatureExtractorInceptionV3(
                "inception-v3-compat", [LAYER], feature_extractor_weights_path=str(path)
            )
        except UNLOADABLE as error:
            raise DataError(f"Inception weights: {path} cannot be loaded: {error}") from error
        self.network, self.device = network.to(device), device
        self.names = inception_names(self.digest)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Map uint8 (n, 1 or 3, H, W) to (n, 2048), resized as the TensorFlow code did."""
        return self.network(to_rgb(images.to(self.device)).contiguous())[0].cpu()
