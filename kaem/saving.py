"""A trained KAEM as a folder: `model.json` says what it is, `model.safetensors` holds its state.

Neither file can hold code, so a folder from someone else is safe to load.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from kaem.decoders import ImageShape
from kaem.model import KAEM

FORMAT = "kaem 3"
SETTINGS, STATE = "model.json", "model.safetensors"
DIGITS = 16  # of a state's digest, in the name that it has until the settings are written
PART = ".kaem.part"  # what is being written; the next call overwrites what an interrupted one left

# What files that hold no model lead to, in reading them and in building what they describe.
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    SafetensorError,
)


def save(model: KAEM, folder: str | Path) -> None:
    """Write the model's folder.

    Whenever it is interrupted, the folder holds the old model or the new one; two processes must
    not write one folder at once.

    Persistent chains are left out: they belong to the training. The settings are those that
    `KAEM.from_settings` was given, with the sigma that the model has now.

    Raises:
        ValueError: the model was not made by `KAEM.from_settings`, or a part of it was exchanged
            since, so nothing says what it is; nothing is written then.
    """
    if model.origin is None:
        raise ValueError("only a model that KAEM.from_settings made can be saved with its settings")
    settings, image_shape = model.origin
    settings = settings | {"sigma": float(model.sigma)}
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if differing := _differing(settings, image_shape, state):
        raise ValueError(f"the model is no longer the one of its settings: {differing}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = to_bytes(state)
    digest = _digest(content)
    described = {
        "format": FORMAT,
        "image_shape": list(image_shape),
        "settings": settings,
        "state_sha256": digest,
        "updates_done": model.updates_done,
    }
    # The settings decide which state counts: until they are replaced the old one does, and after
    # that the new one, whatever it is called.
    waiting = folder / _waiting(digest[:DIGITS])
    _write(waiting, content)
    _write(folder / SETTINGS, (json.dumps(described, indent=2) + "\n").encode())
    waiting.replace(folder / STATE)
    for left in folder.glob(_waiting("[0-9a-f]" * DIGITS)):  # by interrupted calls
        left.unlink()


def load(folder: str | Path, device: torch.device | str = "cpu") -> KAEM:
    """Load the model that `save` wrote, ready to sample or to train on.

    Raises:
        ValueError: the folder does not hold a model, or its two files do not belong together.
    """
    folder = Path(folder)
    if not (folder / SETTINGS).exists():
        raise ValueError(
            f"{folder}: cannot be loaded as a KAEM: no {SETTINGS}, which `save` writes, is there"
        )
    try:
        described = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        if described["format"] != FORMAT:
            raise ValueError(f"its format is {described['format']!r}, not {FORMAT!r}")
        state = from_bytes(_state(folder, described["state_sha256"]))
        origin = described["settings"], described["image_shape"]
        if differing := _differing(*origin, state):
            raise ValueError(f"{STATE} does not fit {SETTINGS} in {differing}")
        model = KAEM.from_settings(*origin)
        (dtype,) = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
        model.to(dtype).load_state_dict(state)
        model.updates_done = int(described.get("updates_done", 0))
    except UNREADABLE as error:
        raise ValueError(f"{folder}: cannot be loaded as a KAEM: {error}") from error
    return model.to(device)


def _state(folder: Path, digest: str) -> bytes:
    """Read the state with this digest, under its other name where `save` was interrupted."""
    paths = [folder / STATE, folder / _waiting(digest[:DIGITS])]
    contents = [path.read_bytes() for path in paths if path.exists()]
    if not contents:
        raise ValueError(f"{STATE} is missing")
    for content in contents:
        if _digest(content) == digest:
            return content
    raise ValueError(f"{STATE} is damaged, or not the one that {SETTINGS} was saved with")


def _waiting(digest: str) -> str:
    """Name a state until the settings name its digest."""
    return f"model.{digest}.safetensors"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _differing(settings: dict[str, Any], image_shape: ImageShape, state: dict[str, Tensor]) -> str:
    """Name the first tensors whose shapes are others in a state than in a model of settings.

    Settings may ask for more than any memory holds, and a model on the meta device takes none.
    """
    with torch.device("meta"):
        wanted = {
            k: v.shape for k, v in KAEM.from_settings(settings, image_shape).state_dict().items()
        }
    shapes = {key: value.shape for key, value in state.items()}
    keys = wanted.keys() | shapes.keys()
    return ", ".join(sorted(k for k in keys if wanted.get(k) != shapes.get(k))[:3])


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(PART)
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
