"""Weights files: what was saved comes back, or a message says why it does not."""

import json

import pytest
import torch
from safetensors.torch import save_file
from support.configs import tiny_config
from torch import nn

from benchmark.base.errors import RecordError
from benchmark.training.weights import load_weights, save_weights

CPU = torch.device("cpu")


def make(seed: int = 0, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


@pytest.fixture
def job():
    return tiny_config().training_job("digits", "vae")


@pytest.fixture
def saved(tmp_path, job):
    path = tmp_path / "weights" / "seed0.safetensors"
    save_weights(path, make(0), job)
    return path


def test_round_trip(saved, job):
    state, loaded = make(0).state_dict(), load_weights(saved, make(1), job, CPU)
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(loaded.state_dict()[key], state[key]) for key in state)
    assert not loaded.training
    assert [path.name for path in saved.parent.iterdir()] == ["seed0.safetensors"]


def test_the_same_weights_give_the_same_file(saved, job):
    # The classifier's record names its weights by their file's digest.
    before = saved.read_bytes()
    for _ in range(5):
        save_weights(saved, make(0), job)
        assert saved.read_bytes() == before


def truncated(content: bytes) -> bytes:
    return content[:-5]


def empty(_content: bytes) -> bytes:
    return b""


def text(_content: bytes) -> bytes:
    return b"not weights at all" * 10


def longer(content: bytes) -> bytes:
    return content + b"\0"


def flipped(position: float):
    """One bit of the byte at this fraction of the file."""

    def flip(content: bytes) -> bytes:
        index = int(position * (len(content) - 1))
        return content[:index] + bytes([content[index] ^ 0x40]) + content[index + 1 :]

    return flip


DAMAGES = {each.__name__: each for each in (truncated, empty, text, longer)}
# The first bytes are the header's length, the next the header, the last the numbers.
DAMAGES |= {f"a bit at {at}": flipped(at) for at in (0.0, 0.01, 0.3, 0.98, 1.0)}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_files(saved, job, damage):
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(RecordError, match=r"seed0\.safetensors: "):
        load_weights(saved, make(1), job, CPU)


def test_a_missing_file(tmp_path, job):
    with pytest.raises(RecordError, match=r"absent\.safetensors: cannot be read as weights"):
        load_weights(tmp_path / "absent.safetensors", make(), job, CPU)


@pytest.mark.parametrize(
    ("changes", "entry"),
    [
        ({"models.vae.training.learning_rate": 0.1}, "vae"),
        ({"models.vae.sigma": 0.9}, "vae"),
        ({}, "kaem_is"),
        ({"models.twin": {"model": "vae", "sigma": 0.3, "latents": 3, "encoder_width": 8}}, "twin"),
    ],
    ids=["learning rate", "sigma", "model", "entry of the same settings"],
)
def test_weights_of_another_job(saved, changes, entry):
    other = tiny_config(changes).training_job("digits", entry)
    with pytest.raises(RecordError, match="was trained with other settings") as caught:
        load_weights(saved, make(1), other, CPU)
    assert other.config_hash in str(caught.value)
    assert f"Run the training of {entry} on digits again." in str(caught.value)


def test_weights_that_say_nothing_of_their_job(tmp_path, job):
    path = tmp_path / "foreign.safetensors"
    save_file(make(0).state_dict(), path)
    with pytest.raises(RecordError, match=r"foreign\.safetensors: "):
        load_weights(path, make(1), job, CPU)


def test_weights_of_a_network_that_has_changed_since(saved, job):
    # The same settings, but the code builds another network now.
    with pytest.raises(RecordError, match=r"seed0\.safetensors: "):
        load_weights(saved, make(1, width=5), job, CPU)


def header(content: bytes, change) -> bytes:
    """The file with its header changed."""
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    change(entries)
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


HOSTILE = {
    "a huge tensor": lambda e: e["0.weight"].update(shape=[2**40, 2**20]),
    "a tensor beyond the file": lambda e: e["0.weight"].update(data_offsets=[0, 2**50]),
    "a negative shape": lambda e: e["0.weight"].update(shape=[-4, -3]),
    "no mapping as origin": lambda e: e["__metadata__"].update(origin="[1]"),
    "a deep origin": lambda e: e["__metadata__"].update(origin="[" * 100_000),
    "a type of its own": lambda e: e["0.weight"].update(dtype="O"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header(saved, job, change):
    saved.write_bytes(header(saved.read_bytes(), change))
    with pytest.raises(RecordError, match=r"seed0\.safetensors: cannot be read as weights"):
        load_weights(saved, make(1), job, CPU)


def test_a_header_as_long_as_no_file(saved, job):
    saved.write_bytes((2**62).to_bytes(8, "little") + saved.read_bytes()[8:])
    with pytest.raises(RecordError, match=r"seed0\.safetensors: cannot be read as weights"):
        load_weights(saved, make(1), job, CPU)
