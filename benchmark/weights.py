"""Weights files: safetensors whose metadata say which job they belong to, and their digest."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark.config import Job
from benchmark.errors import RecordError
from benchmark.files import atomic
from benchmark.foreign import parse_json


def save_weights(path: str | Path, module: nn.Module, job: Job) -> None:
    """Write the module's state, atomically; the same state gives the same bytes."""
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    origin = {"settings": job.settings, "hash": job.config_hash}
    origin["digest"] = state_digest(state, origin)
    with atomic(path) as temporary:
        # One entry: safetensors writes several in any order.
        save_file(state, temporary, {"origin": json.dumps(origin, sort_keys=True)})


def load_weights(path: str | Path, module: nn.Module, job: Job, device: torch.device) -> nn.Module:
    """Load a state that `save_weights` wrote for the same job; returns the module, for inference.

    Raises:
        RecordError: the file is missing, damaged, or belongs to other settings.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            origin = parse_json(handle.metadata()["origin"])
            state = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
        found, digest = origin["hash"], origin.pop("digest")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: cannot be read as weights: {error}") from error
    again = f"\n  Run the training of {job.model} on {job.dataset} again."
    if found != job.config_hash:
        raise RecordError(
            f"{path}: was trained with other settings (hash {found}, now {job.config_hash}){again}"
        )
    if digest != state_digest(state, origin):
        raise RecordError(f"{path}: does not match its digest: it is damaged{again}")
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise RecordError(f"{path}: does not fit the network: {error}{again}") from error
    return module.to(device).eval()


def state_digest(state: dict[str, Tensor], origin: dict) -> str:
    """sha256 over the origin, and the names, types, shapes and values of the state."""
    digest = hashlib.sha256(json.dumps(origin, sort_keys=True).encode())
    for key in sorted(state):
        value = state[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
