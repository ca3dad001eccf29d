"""Weights files: a model's state, and which job it belongs to."""

from pathlib import Path

import torch
from torch import nn

from benchmark.base.errors import RecordError
from benchmark.base.tensors import read_tensors, write_tensors
from benchmark.config.config import Config
from benchmark.config.jobs import Job, job_of
from benchmark.config.registry import build


def save_weights(path: str | Path, module: nn.Module, job: Job) -> None:
    """Write the module's state, atomically; the same state gives the same bytes."""
    write_tensors(
        path, module.state_dict(), {"settings": job.settings.plain(), "hash": job.config_hash}
    )


def load_weights(path: str | Path, module: nn.Module, job: Job, device: torch.device) -> nn.Module:
    """Load a state that `save_weights` wrote for the same job; return the module, for inference.

    Raises:
        RecordError: the file is missing, damaged, or belongs to other settings.
    """
    again = f"\n  Run the training of {job.model} on {job.dataset} again."
    try:
        state, origin = read_tensors(path, "weights")
    except RecordError as error:
        raise RecordError(f"{error}{again}") from error
    digest = origin.get("hash")
    if digest != job.config_hash:
        raise RecordError(
            f"{path}: was trained with other settings (hash {digest}, now {job.config_hash}){again}"
        )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise RecordError(f"{path}: does not fit the network: {error}{again}") from error
    return module.to(device).eval()


def load_model(
    config: Config,
    dataset: str,
    model: str,
    seed: int,
    device: torch.device,
    *,
    trained: bool = True,
) -> torch.nn.Module:
    """Return the model of one seed, ready for inference: trained, or as it was built."""
    shape = config.facts(dataset).image_shape
    fresh = build(config.architecture(model), config.model_settings(dataset, model), shape)
    if not trained:
        return fresh.to(device).eval()
    job = job_of(config, "training", dataset, model, seed)
    return load_weights(job.path("weights"), fresh, job, device)
