"""Seeds derived from names, so that no two uses of randomness share a stream by accident."""

import hashlib

import torch


def derive_seed(*components: str | int) -> int:
    """Hash named components, e.g. ("sample", "mnist", "vae", seed, index), into a 63-bit seed."""
    text = "\x1f".join(str(c) for c in components)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*components: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded with `derive_seed(*components)`."""
    return torch.Generator(device=device).manual_seed(derive_seed(*components))
