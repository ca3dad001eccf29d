"""Weights files: a model's state, and which job it belongs to.

A published file holds what it takes to draw images: no encoders, and decoders and energies in half
precision, by which a pixel changes by a fraction of a grey level.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.base.errors import RecordError
from benchmark.base.tensors import LEFT_OUT, read_tensors, tensors_digest, write_tensors
from benchmark.config.config import Config
from benchmark.config.jobs import Job, job_of
from benchmark.config.registry import build_entry

# Parts of the names of tensors.
ENCODER = "encoder"
HALVED = {"decoder", "energy"}


class LeftOut(nn.Module):
    """The place of an encoder that was not published."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def forward(self, *_inputs: Tensor) -> Tensor:
        raise RecordError(
            f"{self.path}: holds what draws images alone, without the encoder\n"
            "  Train the model again for what looks at real images, such as its likelihood."
        )


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
    try:
        state, origin = read_tensors(path, "weights")
    except RecordError as error:
        raise RecordError(f"{error}{job.advice}") from error
    digest = origin.get("hash")
    if digest != job.config_hash:
        raise RecordError(
            f"{path}: was trained with other settings (hash {digest}, now {job.config_hash})"
            f"{job.advice}"
        )
    for name in sorted({_parent(key) for key in origin.get(LEFT_OUT, ())}):
        module.set_submodule(name, LeftOut(Path(path)))
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise RecordError(f"{path}: does not fit the network: {error}{job.advice}") from error
    return module.to(device).eval()


def _parent(key: str) -> str:
    """Return the name of the encoder that a tensor belongs to."""
    parts = key.split(".")
    return ".".join(parts[: parts.index(ENCODER) + 1])


def publish_weights(source: Path, target: Path) -> None:
    """Write the part of a weights file that draws images; of such a part, the same again.

    Raises:
        RecordError: the source is damaged.
    """
    state, origin = read_tensors(source, "weights")
    left_out = sorted(set(state) - set(drawing_part(state))) or origin.get(LEFT_OUT)
    write_tensors(target, drawing_part(state), origin | ({LEFT_OUT: left_out} if left_out else {}))


def drawing_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that are published."""
    return {
        key: value.half() if HALVED & set(key.split(".")) and value.is_floating_point() else value
        for key, value in state.items()
        if ENCODER not in key.split(".")
    }


def weights_digest(path: Path) -> str:
    """Return `drawing_digest` of a file, whole or published.

    Raises:
        RecordError: it is damaged.
    """
    return drawing_digest(read_tensors(path, "weights")[0])


def drawing_digest(state: dict[str, Tensor]) -> str:
    """Return the digest of the part that is published, by which a record knows it."""
    return tensors_digest(drawing_part(state), {})


def load_model(
    config: Config,
    dataset: str,
    model: str,
    seed: int,
    device: torch.device,
    *,
    trained: bool = True,
    folder: Path | None = None,
) -> nn.Module:
    """Return the model of one seed, ready for inference: trained, or as it was built.

    Args:
        folder: of the weights; the run's own by default.
    """
    fresh = build_entry(config, dataset, model)
    if not trained:
        return fresh.to(device).eval()
    job = job_of(config, "training", dataset, model, seed)
    return load_weights(job.path("weights", folder), fresh, job, device)
