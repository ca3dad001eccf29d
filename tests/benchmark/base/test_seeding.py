"""Seeds are stable, and no two names share one."""

import pytest
import torch

from benchmark.base.seeding import derive_seed, generator


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
