"""Ways between prior draws: arcs of one length, quantiles that grow evenly, and both ends."""

import numpy as np
import pytest
import torch

from benchmark.data.pixels import to_uint8
from benchmark.inspection.interpolation import PAIRS, POSITIONS, interpolations, slerp
from kaem import KAEM, CopulaPrior, MixturePrior


def test_an_arc_turns_evenly_at_one_length():
    start, end = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 3.0], [2.0, 2.0]])
    turned, straight = slerp(start, end, torch.linspace(0, 1, 4))
    angles = torch.linspace(0, torch.pi / 2, 4)
    torch.testing.assert_close(turned, 3 * torch.stack([angles.cos(), angles.sin()], dim=1))
    torch.testing.assert_close(straight, torch.linspace(1, 2, 4)[:, None].expand(4, 2))


class _Shown(torch.nn.Module):
    """Shows the quantile of each latent as a pixel."""

    def __init__(self, prior):
        super().__init__()
        self.quantiles = prior.feature_density().cdf

    def forward(self, h):
        return self.quantiles(h)[:, None, None]


@pytest.mark.parametrize("copula", [False, True])
def test_quantiles_grow_evenly_from_one_draw_to_the_other(copula, seeded):
    prior = MixturePrior(4, 2, n_nodes=50)
    if copula:
        prior = CopulaPrior(prior, components=3)
        draws = prior.sample_features(300, seeded(1))
        prior.fit(draws[:, :1] + 0.3 * draws, iterations=5)
    model = KAEM(prior, _Shown(prior), sigma=0.3)
    paths = interpolations(model, [2, 0, 1, 3], seeded(0))
    ends = to_uint8(model.decoder(prior.sample_features(2 * PAIRS, seeded(0)))).chunk(2)
    assert set(paths) == {"path_arc", "path_quantiles"} | (
        {"path_conditional"} if copula else set()
    )
    for images in paths.values():
        assert images.shape == (PAIRS, POSITIONS, 1, 1, 4)
        for image, end in zip((images[:, 0], images[:, -1]), ends, strict=True):
            np.testing.assert_allclose(image, end, atol=1)
    steps = np.diff(paths["path_quantiles"].astype(int), axis=1)
    assert np.ptp(steps, axis=1).max() <= 1  # rounding to 8 bits
    if copula:  # the first of the ranking is given nothing
        steps = np.diff(paths["path_conditional"][..., 2].astype(int), axis=1)
        assert np.ptp(steps, axis=1).max() <= 2
