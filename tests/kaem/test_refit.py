"""Refits: curves beyond their domain by hand, least squares against numpy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from kaem.refit import LEVELLING, least_squares, levelled_off

LEVEL_DOMAIN = (0.0, 1.0)


def waves() -> tuple[Callable, Callable]:
    """40 sine waves and their slopes, as functions of points: (m,) -> (40, m)."""
    frequency, phase = torch.rand(2, 40, 1, dtype=torch.float64)
    frequency, phase = 10 * frequency, 7 * phase
    return (
        lambda z: torch.sin(frequency * z + phase),
        lambda z: frequency * torch.cos(frequency * z + phase),
    )


def far_and_near() -> torch.Tensor:
    """Points beyond both ends."""
    away = torch.logspace(-9, 3, 200, dtype=torch.float64)
    return torch.cat([-away, 1 + away])


def test_levelling_off_by_hand():
    # Two parabolas, of which the second has little room on the left, and a line that has none.
    def curves(z):
        return torch.stack([(z - 0.3).square(), (z - 0.48).square(), 2 * z])

    away = torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64)
    left = levelled_off(curves, LEVEL_DOMAIN, -away)
    expected = [
        0.09 + 0.6 * 0.05 * (1 - (-away / 0.05).exp()),
        0.2304 + 0.04 * (1 - (-away * 0.96 / 0.04).exp()),
        0 * away,
    ]
    # The slope at the end is a difference over a thousandth of the domain.
    torch.testing.assert_close(left, torch.stack(expected), atol=1e-3 * LEVELLING, rtol=0)
    right = levelled_off(curves, LEVEL_DOMAIN, 1 + away)
    ends = torch.tensor([0.49, 0.2704, 2.0], dtype=torch.float64)
    torch.testing.assert_close(right, ends[:, None].expand(3, 3), atol=1e-12, rtol=0)


def test_levelling_off_leaves_what_is_inside():
    curves, _ = waves()
    z = torch.linspace(*LEVEL_DOMAIN, 501, dtype=torch.float64)
    assert torch.equal(levelled_off(curves, LEVEL_DOMAIN, z), curves(z))


def test_levelling_off_starts_with_the_value_and_the_slope_at_the_end():
    curves, slopes = waves()
    dense = curves(torch.linspace(*LEVEL_DOMAIN, 5001, dtype=torch.float64))
    for end, outwards in ((0.0, -1), (1.0, 1)):
        at = torch.tensor([end], dtype=torch.float64)
        value, slope = curves(at), outwards * slopes(at)
        room = torch.where(slope > 0, dense.amax(1, True) - value, value - dense.amin(1, True))
        start = levelled_off(curves, LEVEL_DOMAIN, at + outwards * 1e-6)
        torch.testing.assert_close(start, value, atol=1.1e-5, rtol=0)
        has_room = room > 0.01
        assert 10 < has_room.sum() < 40
        result = ((start - value) / 1e-6)[has_room]
        # Half the curvature, below 50, times a thousandth.
        torch.testing.assert_close(result, slope[has_room], atol=0.06, rtol=0)
        assert slope[has_room].abs().max() > 3


def test_levelling_off_never_leaves_the_range_of_the_curve():
    curves, _ = waves()
    dense = curves(torch.linspace(*LEVEL_DOMAIN, 20_001, dtype=torch.float64))
    beyond = levelled_off(curves, LEVEL_DOMAIN, far_and_near())
    assert (beyond <= dense.amax(1, True) + 1e-9).all()
    assert (beyond >= dense.amin(1, True) - 1e-9).all()
    # It levels off within a few twentieths of the domain.
    ends = levelled_off(curves, LEVEL_DOMAIN, torch.tensor([-0.5, -900, 1.5, 901]).double())
    torch.testing.assert_close(ends[:, 0], ends[:, 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(ends[:, 2], ends[:, 3], atol=1e-3, rtol=0)


@pytest.mark.parametrize("height", [2.0, 0.0])
def test_a_flat_curve_stays_flat(height):
    result = levelled_off(lambda z: height + 0 * z[None], LEVEL_DOMAIN, far_and_near())
    assert (result == height).all()


def test_least_squares_is_numpys_where_the_curves_are_beyond_the_basis():
    design = torch.randn(40, 5, dtype=torch.float64)
    values = torch.randn(2, 40, dtype=torch.float64)
    expected = np.linalg.lstsq(design.numpy(), values.T.numpy(), rcond=None)[0].T
    np.testing.assert_allclose(least_squares(design, values), expected, atol=1e-6)


def test_functions_that_no_point_reaches_get_the_coefficient_zero():
    design = torch.eye(5, dtype=torch.float64)[:, :3] @ torch.eye(3, 4, dtype=torch.float64)
    result = least_squares(design, torch.ones(1, 5, dtype=torch.float64))
    torch.testing.assert_close(result[0], torch.tensor([1.0, 1, 1, 0]).double())
