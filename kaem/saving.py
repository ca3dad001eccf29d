"""A trained KAEM as a folder: `model.json` says what it is, `model.safetensors` holds its state.

Neither file can hold code, so a folder from someone else is safe to load.
"""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

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
    described = {"format": FORMAT, "image_shape": list(image_shape), "settings": settings}
    text = json.dumps(described, indent=2) + "\n"
    _write(folder / STATE, lambda path: save_file(state, path))
    _write(folder / SETTINGS, lambda path: path.write_text(text))


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
        model = KAEM.from_settings(described["settings"], tuple(described["image_shape"]))
        model.load_state_dict(load_file(folder / STATE))
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: cannot be loaded as a KAEM: {error}") from error
    return model.to(device)


def _write(path: Path, write) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
