"""Registered models, as small as they can be, on images of 8 x 8."""

import torch
from support.configs import ENTRY_SETTINGS, tiny_config
from support.images import bars

from benchmark.config.jobs import job_of
from benchmark.config.registry import build
from benchmark.training.loop import Training

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


def first_moves(model: torch.nn.Module, x: torch.Tensor, learning_rate: float) -> dict[str, float]:
    """By how much each parameter moves in the first update: Adam's moves all by their rate."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    Training(
        model,
        lambda: model.loss(x, generator),
        updates=1,
        learning_rate=learning_rate,
        schedule="constant",
        title="one update",
    ).run("none")
    return {n: (p.detach() - before[n]).abs().max().item() for n, p in model.named_parameters()}


def batch(n: int = 16, seed: int = 0) -> torch.Tensor:
    """Structured images, (n, 1, 8, 8)."""
    return bars(n, IMAGE_SHAPE, torch.Generator().manual_seed(seed))
