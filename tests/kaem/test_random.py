"""Random numbers: shapes, dtypes, and independence of the batch size."""

import pytest
import torch

from benchmark.base.seeding import PhiloxStreams
from kaem.random import rand, randn

LIKE = torch.zeros(1, dtype=torch.float64)
both = pytest.mark.parametrize("draw", [rand, randn])


@both
def test_shape_and_dtype_follow_the_arguments(draw, seeded):
    for like in (LIKE, LIKE.float()):
        for generator in (seeded(), None, PhiloxStreams(0, 4, 7)):
            for shape in ((2, 5), (1,), ()):
                numbers = draw(3, shape, generator, like)
                assert numbers.shape == (3, *shape)
                assert numbers.dtype == like.dtype
                assert len(numbers.unique()) == numbers.numel()


@both
@pytest.mark.parametrize("like", [LIKE, LIKE.float()])
@pytest.mark.parametrize("count", [1, 5, 100])
def test_a_row_of_streams_depends_on_its_own_alone(draw, like, count):
    together, seventh = PhiloxStreams(1, 0, 300), PhiloxStreams(1, 7, 8)
    rows = [draw(300, (count,), together, like) for _ in range(3)]
    for each in rows:
        assert torch.equal(draw(1, (count,), seventh, like), each[7:8])
    later = draw(100, (count,), PhiloxStreams(1, 200, 300), like)
    assert torch.equal(later, rows[0][200:])
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(draw(300, (count,), PhiloxStreams(2, 0, 300), like), rows[0])


@both
def test_none_means_the_global_generator(draw, seeded):
    torch.manual_seed(5)
    assert torch.equal(draw(3, (2,), None, LIKE), draw(3, (2,), seeded(5), LIKE))


@both
def test_no_rows(draw, seeded):
    for generator in (seeded(), PhiloxStreams(0, 3, 3), None):
        assert draw(0, (2,), generator, LIKE).shape == (0, 2)


@both
def test_the_number_of_streams_must_be_the_number_of_rows(draw):
    with pytest.raises(ValueError, match="expected 3 streams, one per row, got 2"):
        draw(3, (1,), PhiloxStreams(0, 5, 7), LIKE)


@both
@pytest.mark.parametrize("other", [5, "cpu", [torch.Generator()]])
def test_what_is_no_generator_is_refused(draw, other):
    with pytest.raises(TypeError, match=r"come from a torch\.Generator, got "):
        draw(3, (1,), other, LIKE)


# Each moment is compared at five standard errors: a correct generator with a new seed fails
# with probability below 1e-6 per comparison.
@pytest.mark.parametrize(
    ("draw", "mean", "variance", "fourth"), [(rand, 0.5, 1 / 12, 1 / 80), (randn, 0.0, 1.0, 3.0)]
)
@pytest.mark.parametrize("generator", [torch.Generator, lambda: PhiloxStreams(0, 0, 50_000)])
def test_moments(draw, mean, variance, fourth, generator):
    n = 100_000
    # Of streams the first number of a row and the second go through different halves.
    numbers = draw(n // 2, (2,), generator(), LIKE)
    assert (abs(numbers.mean(0) - mean) < 5 * (variance / (n / 2)) ** 0.5).all()
    numbers = numbers.flatten()
    error = ((fourth - variance**2) / n) ** 0.5
    assert abs((numbers - mean).square().mean() - variance) < 5 * error
