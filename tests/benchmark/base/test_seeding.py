"""Seeds are stable, and no two names share one."""

import numpy as np
import pytest
import torch
from scipy import stats

from benchmark.base.seeding import PhiloxStreams, derive_seed, generator


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        (("sample", "mnist", "vae", 0, 17), 2956777187058203670),
        (("weights", "digits", "kaem_is", 1), 3373177865213753037),
        (("order", "digits", 0), 6609953210053088410),
    ],
)
def test_seeds_are_the_same_in_every_version(components, expected):
    # Records and samples that exist already were made with these.
    assert derive_seed(*components) == expected
    draws = torch.rand(8, generator=generator(*components))
    expected = torch.Generator().manual_seed(expected)
    assert torch.equal(draws, torch.rand(8, generator=expected))


def test_no_two_names_share_a_seed():
    names = [
        *(("a", "bc"), ("ab", "c"), ("abc",), ("a", "b", "c"), ("c", "ab"), ("a", "bc", "")),
        *(("noise", "digits", "vae", 0), ("noise", "digits", "vae", 1)),
        *(("weights", "digits", "vae", 0), ("sample", "digits", "vae", 1, 11)),
        ("sample", "digits", "vae", 11, 1),
        *(("x", number) for number in range(200)),
    ]
    seeds = {derive_seed(*name) for name in names}
    assert len(seeds) == len(names)
    assert max(seeds).bit_length() == 63


# Streams ----------------------------------------------------------------------------------------


def test_streams_are_the_same_in_every_version():
    # The known answer of Random123, Philox's authors' library, to a counter and a key of zeros;
    # numpy counts before it draws.
    words = np.random.Philox(key=0, counter=2**256 - 1).random_raw(4)
    known = ["16554d9eca36314c", "db20fe9d672d0fdc", "d7e772cee186176b", "7e68b68aec7ba23b"]
    assert [f"{word:016x}" for word in words.tolist()] == known
    streams = PhiloxStreams(derive_seed("sample", "mnist", "vae", 0), 17, 18)
    uniform, normal = (draw(1, (3,), torch.zeros(()))[0] for draw in (streams.rand, streams.randn))
    assert uniform.tolist() == [0.7704354524612427, 0.6744252443313599, 0.2569425702095032]
    assert normal.tolist() == pytest.approx([0.3815820, 1.5833777, -0.2019825], abs=1e-6)


def test_streams_whose_numbers_shared_a_seed_are_different():
    # Images of one sampling of paper.yaml; a generator of a CPU keeps 32 bits.
    names = ("sample", "svhn", "kaem_is", 1)
    first, second = (torch.rand(4, generator=generator(*names, i)) for i in (26819, 41239))
    assert torch.equal(first, second)
    streams = (PhiloxStreams(derive_seed(*names), i, i + 1) for i in (26819, 41239))
    first, second = (each.rand(1, (4,), torch.zeros(())) for each in streams)
    assert not torch.equal(first, second)


def test_no_two_places_share_a_number():
    # Of so many numbers of 53 bits two are equal with a probability below 1e-6.
    like, drawn = torch.zeros((), dtype=torch.float64), []
    for seed in (0, 1):
        streams = PhiloxStreams(seed, 0, 5000)
        drawn += [streams.rand(5000, shape, like).flatten() for shape in ((1,), (4,), (5,), (1,))]
    numbers = torch.cat(drawn)
    assert len(numbers.unique()) == len(numbers)


# The Kolmogorov-Smirnov test has alpha = 1e-4; correlations are at five standard errors.
@pytest.mark.parametrize("start", [0, 2**40])
def test_neighbours_are_independent(start):
    like, n = torch.zeros(()), 20_000
    streams = PhiloxStreams(3, start, start + n)
    columns = torch.cat([streams.randn(n, (5,), like) for _ in range(2)], dim=1).double()
    columns = torch.cat([columns[1:], columns[:-1]], dim=1)  # a row beside the one before it
    assert stats.kstest(columns[:, :10].flatten().numpy(), stats.norm.cdf).pvalue > 1e-4
    for values in (columns, columns.square()):
        correlation = torch.corrcoef(values.T) - torch.eye(20)
        assert correlation.abs().max() < 5 / n**0.5
