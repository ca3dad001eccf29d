"""Seeds are stable, and no two names share one."""

import hashlib

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


def test_a_seed_is_63_bits_of_a_hash():
    digest = hashlib.sha256(b"a\x1fb").digest()
    assert derive_seed("a", "b") == int.from_bytes(digest, "big") >> (256 - 63)
    assert max(derive_seed("x", i) for i in range(200)).bit_length() == 63


def test_no_two_names_share_a_seed():
    names = [
        ("a", "bc"),
        ("ab", "c"),
        ("abc",),
        ("a", "b", "c"),
        ("c", "ab"),
        ("a", "bc", ""),
        ("noise", "digits", "vae", 0),
        ("noise", "digits", "vae", 1),
        ("weights", "digits", "vae", 0),
        ("sample", "digits", "vae", 1, 11),
        ("sample", "digits", "vae", 11, 1),
    ]
    assert len({derive_seed(*name) for name in names}) == len(names)


def test_generators_follow_their_names():
    draw = torch.rand(8, generator=generator("a", 1))
    assert torch.equal(draw, torch.rand(8, generator=generator("a", 1)))
    assert torch.equal(
        draw, torch.rand(8, generator=torch.Generator().manual_seed(derive_seed("a", 1)))
    )
    assert not torch.equal(draw, torch.rand(8, generator=generator("a", 2)))
