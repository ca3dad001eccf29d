"""Weights files: a model's state, and which job it belongs to."""

from pathlib import Path

import torch
from torch import nn

from benchmark.config import Job
from benchmark.errors import RecordError
from benchmark.tensors import read_tensors, write_tensors


def save_weights(path: str | Path, module: nn.Module, job: Job) -> None:
    """Write the module's state, atomically; the same state gives the same bytes."""
    write_tensors(path, module.state_dict(), {"settings": job.settings, "hash": job.config_hash})


def load_weights(path: str | Path, module: nn.Module, job: Job, device: torch.device) -> nn.Module:
    """Load a state that `save_weights` wrote for the same job; returns the module, for inference.

    Raises:
        RecordError: the file is missing, damaged, or belongs to other settings.
    """
    again = f"\n  Run the training of {job.model} on {job.dataset} again."
    try:
        state, origin = read_tensors(path, "weights")
    except RecordError as error:
        raise RecordError(f"{error}{again}") from error
    found = origin.get("hash")
    if found != job.config_hash:
        raise RecordError(
            f"{path}: was trained with other settings (hash {found}, now {job.config_hash}){again}"
        )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise RecordError(f"{path}: does not fit the network: {error}{again}") from error
    return module.to(device).eval()
