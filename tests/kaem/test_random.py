"""Random numbers: shapes, dtypes, and independence of the batch size."""

import pytest
import torch

from kaem.random import rand, randn

LIKE = torch.zeros(1, dtype=torch.float64)
both = pytest.mark.parametrize("draw", [rand, randn])


@both
def test_shape_and_dtype_follow_the_arguments(draw, seeded):
    for like in (LIKE, LIKE.float()):
        for generator in (seeded(), [seeded(i) for i in range(3)], None):
            numbers = draw(3, (2, 5), generator, like)
            assert numbers.shape == (3, 2, 5)
            assert numbers.dtype == like.dtype


@both
def test_with_one_generator_per_row_a_row_depends_on_its_own_generator_alone(draw, seeded):
    seeds = (11, 12, 13, 14, 15)
    together = draw(5, (4,), [seeded(s) for s in seeds], LIKE)
    reverse = draw(5, (4,), [seeded(s) for s in seeds[::-1]], LIKE)
    alone = torch.cat([draw(1, (4,), [seeded(s)], LIKE) for s in seeds])
    assert torch.equal(together, alone)
    assert torch.equal(together, reverse.flip(0))
    assert len(together.unique()) == together.numel()


@both
def test_none_means_the_global_generator(draw, seeded):
    torch.manual_seed(5)
    assert torch.equal(draw(3, (2,), None, LIKE), draw(3, (2,), seeded(5), LIKE))


@both
def test_no_rows(draw, seeded):
    for generator in (seeded(), [], None):
        assert draw(0, (2,), generator, LIKE).shape == (0, 2)


@both
def test_the_number_of_generators_must_be_the_number_of_rows(draw, seeded):
    with pytest.raises(ValueError, match="expected 3 generators, one per row, got 2"):
        draw(3, (1,), [seeded(0), seeded(1)], LIKE)


# Each moment is compared at five standard errors: a correct generator with a new seed fails
# with probability below 1e-6 per comparison.
@pytest.mark.parametrize(
    ("draw", "mean", "variance", "fourth"), [(rand, 0.5, 1 / 12, 1 / 80), (randn, 0.0, 1.0, 3.0)]
)
def test_moments(draw, mean, variance, fourth, seeded):
    n = 100_000
    numbers = draw(n, (1,), seeded(), LIKE)
    assert abs(numbers.mean() - mean) < 5 * (variance / n) ** 0.5
    error = ((fourth - variance**2) / n) ** 0.5
    assert abs((numbers - mean).square().mean() - variance) < 5 * error
