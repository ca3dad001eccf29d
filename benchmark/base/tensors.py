"""Files of tensors: safetensors whose header says what they are, with a digest over all of it."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from benchmark.base.errors import RecordError, unreadable
from benchmark.base.files import atomic
from benchmark.base.foreign import parse_json

LEFT_OUT = "left_out"  # what a header of weights calls the tensors that publishing left out
HEADER = "origin"  # one entry of the metadata: safetensors writes several in any order


def write_tensors(path: str | Path, tensors: dict[str, Tensor], header: dict) -> None:
    """Write named tensors and a header of plain values, atomically; same bytes for the same."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    header = header | {"digest": tensors_digest(tensors, header)}
    content = save(tensors, {HEADER: json.dumps(header, sort_keys=True)})
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: str | Path, what: str) -> tuple[dict[str, Tensor], dict]:
    """Read the tensors and the header that `write_tensors` wrote, onto the CPU.

    Args:
        what: the file should hold, for messages.

    Raises:
        RecordError: the file cannot be read, or does not match its digest.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            header = parse_json(handle.metadata()[HEADER])
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
        digest = header.pop("digest")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(path, what, error) from error
    if digest != tensors_digest(tensors, header):
        raise RecordError(f"{path}: does not match its digest: it is damaged")
    return tensors, header


def tensors_digest(tensors: dict[str, Tensor], header: dict) -> str:
    """Hash the header, and the names, types, shapes and values of the tensors."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key].detach().cpu()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
