"""Claims about the records of `support.records`."""

from benchmark.claims.claims import Claim

QUALITY = Claim(
    id="quality",
    claim="KAEM is as good.",
    source="abstract",
    datasets=["mnist"],
    metric="fd_classifier",
    model="kaem_ula",
    against="vae",
    effect="ratio",
    comparison="below",
    margin=1.1,
    seeds=3,
    evidence="L4",
)


def a_claim(like: Claim = QUALITY, **changes) -> Claim:
    """A claim with other values; None takes one away."""
    values = like.model_dump(exclude_unset=True) | changes
    return Claim(**{key: value for key, value in values.items() if value is not None})


SPEED = a_claim(id="speed", metric="latency", batch_size=4, margin=0.1, seeds=None, evidence="L2")
UPDATE = a_claim(metric="update", margin=0.1, seeds=None, evidence="L2")
