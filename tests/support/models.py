"""Registered models, as small as they can be, on images of 8 x 8."""

import torch
from support.configs import ENTRY_SETTINGS, tiny_config
from support.images import bars

from benchmark.config.jobs import job_of
from benchmark.config.registry import build

IMAGE_SHAPE = (1, 8, 8)


def make(name: str, seed: int = 0) -> torch.nn.Module:
    """The model, built from a configuration as training builds it."""
    config = tiny_config({f"models.{name}": ENTRY_SETTINGS[name]})
    settings = job_of(config, "training", "digits", name).settings
    torch.manual_seed(seed)
    model = build(settings.architecture, settings.model, IMAGE_SHAPE)
    if getattr(model, "copula_fit", None):  # for latents that depend on one another
        features = model.prior.sample_features(60)
        features[::2] = features[::2].sort(dim=0).values
        model.prior.fit(features, model.copula_fit.iterations)
    return model


def batch(n: int = 16, seed: int = 0) -> torch.Tensor:
    """Structured images, (n, 1, 8, 8)."""
    return bars(n, IMAGE_SHAPE, torch.Generator().manual_seed(seed))
