"""A trained KAEM as a folder: `model.json` says what it is, `model.safetensors` holds its state.

Neither file can hold code, so a folder from someone else is safe to load.
"""

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from kaem.model import KAEM

FORMAT = "kaem 1"
SETTINGS, STATE = "model.json", "model.safetensors"


def save(model: KAEM, folder: str | Path) -> None:
    """Write the folder; each file appears whole or not at all.

    Persistent chains are left out: they belong to the training.

    Raises:
        ValueError: the model was not made by `KAEM.from_settings`, so nothing says what it is.
    """
    if model.origin is None:
        raise ValueError("only a model that KAEM.from_settings made can be saved with its settings")
    settings, image_shape = model.origin
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    content = to_bytes(state)
    described = {
        "format": FORMAT,
        "image_shape": list(image_shape),
        "settings": settings,
        "state_sha256": hashlib.sha256(content).hexdigest(),
        "updates_done": model.updates_done,
    }
    _write(folder / STATE, content)
    _write(folder / SETTINGS, (json.dumps(described, indent=2) + "\n").encode())


def load(folder: str | Path, device: torch.device | str = "cpu") -> KAEM:
    """The model that `save` wrote, ready to sample or to train on.

    Raises:
        ValueError: the folder does not hold a model, or its two files do not belong together.
    """
    folder = Path(folder)
    try:
        described = json.loads((folder / SETTINGS).read_text())
        if described["format"] != FORMAT:
            raise ValueError(f"its format is {described['format']!r}, not {FORMAT!r}")
        content = (folder / STATE).read_bytes()
        if hashlib.sha256(content).hexdigest() != described["state_sha256"]:
            raise ValueError(f"{STATE} is damaged, or not the one that {SETTINGS} was saved with")
        state = from_bytes(content)
        model = KAEM.from_settings(described["settings"], tuple(described["image_shape"]))
        model.to(state["prior.nodes"].dtype).load_state_dict(state)
        model.updates_done = int(described.get("updates_done", 0))
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: cannot be loaded as a KAEM: {error}") from error
    return model.to(device)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
