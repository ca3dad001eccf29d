"""An Inception weights file in the real file's format, with random weights."""

from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

# How many of the 2,048 features are live; the others are 0. A few images then give covariances of
# full rank in what is left, and eigenvalues take no ten seconds.
LIVE = 6


def random_state(seed: int = 0) -> dict[str, Tensor]:
    """The state of torch-fidelity's Inception with random weights and `LIVE` live features."""
    torch.manual_seed(seed)
    with (
        patch("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url"),
        patch.object(FeatureExtractorInceptionV3, "load_state_dict"),
    ):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    _let_live(network.Mixed_7c)
    return network.state_dict()


def _let_live(block: nn.Module) -> None:
    """Silence the features of the last block but for some of each of its branches."""
    ends = [
        block.branch1x1,
        block.branch3x3_2a,
        block.branch3x3_2b,
        block.branch3x3dbl_3a,
        block.branch3x3dbl_3b,
        block.branch_pool,
    ]
    for end in ends:
        mask = torch.arange(len(end.bn.weight)) < LIVE // len(ends)
        end.bn.weight.mul_(mask)
        end.bn.bias.copy_(mask.float())  # a live unit is rarely cut off at 0


def write_random_weights(path: Path, seed: int = 0) -> Path:
    """Such a file, as torch.save writes it."""
    torch.save(random_state(seed), path)
    return path
