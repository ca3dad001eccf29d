"""The likelihood of held-out images under a model that has one: nats and bits per dimension."""

import math

import torch
from torch import Tensor

from benchmark.data.pixels import to_float
from benchmark.records.names import count_name
from kaem.likelihood import Evidence, bits_per_dimension

BATCH_SIZE = 50  # images whose evidence is estimated side by side
LOW_ESS = 2.0


def likelihood_metrics(
    model: torch.nn.Module,
    images: Tensor,
    split: str,
    passes: int,
    generator: torch.Generator,
    device: torch.device,
    label: str = "",
) -> dict[str, float]:
    """Average log p(x) of 8-bit images, with its Monte Carlo standard error, for a record.

    Beside them the share of images whose weights have an effective sample size under `LOW_ESS`:
    theirs is a lower bound with an unknown gap. Where no weight of some image counts, or one alone,
    the mean has no finite error and only that share is given.

    Args:
        model: has `log_evidence(x, passes, generator)`.
        images: uint8, (n, C, H, W), the first n of the split.
        split: what to call them.
        passes: network evaluations to spend on each image, as the model's `log_evidence` counts.
        label: what the metrics' plain names end in, such as "_fitted".
    """
    parts = [
        model.log_evidence(to_float(batch.to(device)), passes, generator)
        for batch in images.split(BATCH_SIZE)
    ]
    evidence = Evidence(*(torch.cat(values) for values in zip(*parts, strict=True)))
    nats, error = evidence.mean()
    dimension = images[0].numel()
    suffix = f"{label}_{split}_{count_name(len(images))}"
    low_share = {f"nats_low_ess_share{suffix}": (evidence.ess < LOW_ESS).double().mean().item()}
    if not math.isfinite(error):
        return low_share
    return low_share | {
        f"nats{suffix}": nats,
        f"nats_error{suffix}": error,
        f"bits_per_dimension{suffix}": bits_per_dimension(nats, dimension),
        f"bits_per_dimension_error{suffix}": error / (dimension * math.log(2)),
    }
