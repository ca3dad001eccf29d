"""Weights files: safetensors whose metadata say which job they belong to."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from benchmark.config import Job
from benchmark.errors import RecordError
from benchmark.files import atomic


def save_weights(path: str | Path, module: nn.Module, job: Job) -> None:
    """Write the module's state, atomically."""
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    with atomic(path) as temporary:
        save_file(state, temporary, {"job": json.dumps(job.settings), "hash": job.config_hash})


def load_weights(path: str | Path, module: nn.Module, job: Job, device: torch.device) -> nn.Module:
    """Load a state that `save_weights` wrote for the same job; returns the module, for inference.

    Raises:
        RecordError: the file is missing, damaged, or belongs to other settings.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            found = (handle.metadata() or {}).get("hash")
            state = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{path}: cannot be read as weights: {error}") from error
    if found != job.config_hash:
        raise RecordError(
            f"{path}: was trained with other settings (hash {found}, now {job.config_hash})\n"
            f"  Run the training of {job.model} on {job.dataset} again."
        )
    module.load_state_dict(state)
    return module.to(device).eval()
