"""The readers of files that may come from others, with valid files to start from.

A reader may return or raise one of its named errors; anything else is a fault. To add one, append
a `Reader` to `readers`.
"""

import hashlib
import json
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from hypothesis import strategies as st
from PIL import ExifTags, Image
from support.configs import MODEL_SETTINGS, RUN_CONFIGS, tiny_config, tiny_values
from support.datasets import encoded, facts_of, generated, write_npz
from support.records import (
    bits_and_nats,
    forge,
    mnist_config,
    write_quality,
    write_timing,
    write_training,
)

import kaem
from benchmark.base.arrays import read_arrays, write_arrays
from benchmark.base.errors import BenchmarkError, RecordError
from benchmark.base.process import StopRequests
from benchmark.base.tensors import write_tensors
from benchmark.claims.compare import compare
from benchmark.config.config import Config, load_config
from benchmark.config.jobs import job_of
from benchmark.config.registry import MODELS, build
from benchmark.config.validation import merge
from benchmark.data.cifar import read_batch
from benchmark.data.image_files import BrokenImageError, ImageFiles
from benchmark.data.sources import npz_source
from benchmark.evaluation.samples import open_samples, save_samples
from benchmark.records.record import record_digest
from benchmark.training.checkpoint import Checkpoints
from benchmark.training.loop import History
from benchmark.training.progress_file import PROGRESS, Checkpoint, read_progress, write_progress
from benchmark.training.weights import load_weights
from kaem.saving import SETTINGS, STATE
from paper_figures.base.frames import read_history
from studies.fuzz.mutations import spoilt_bytes, spoilt_npz, spoilt_safetensors, spoilt_tree
from studies.fuzz.run import Reader

CPU = torch.device("cpu")
YAML_TOKENS = tuple(b"&a ;*a ;<<: ;!!int ;!!binary ;- ;: ;? ;[;{;\t;|".split(b";"))
JSON_TOKENS = (b"[" * 2000, b'{"a":' * 2000, b"1e999", b"NaN", b"9" * 5000, b'"\\ud800"', b"null")


def readers(folder: Path) -> list[Reader]:
    """List all of them; valid files are made in `folder`."""
    return [
        _config(),
        _record(),
        _arrays(folder),
        _samples(folder),
        _dataset(folder),
        _weights(folder),
        _checkpoint(folder),
        _progress(folder),
        _history(folder),
        _cifar(),
        _kaem(folder),
        _images(),
    ]


def _config() -> Reader:
    texts = [path.read_bytes() for path in RUN_CONFIGS]
    full = tiny_values(models=MODEL_SETTINGS)
    trees = [full, *(yaml.safe_load(text) for text in texts)]
    inputs = spoilt_bytes(texts, YAML_TOKENS) | spoilt_tree(trees).map(_as_yaml)
    return Reader("config", inputs, lambda path: _use(load_config(path)), suffix=".yaml")


def _as_yaml(tree) -> bytes:
    # JSON is YAML, and written much faster.
    return json.dumps(tree, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _use(config: Config) -> None:
    """Use a configuration as the workflow and the steps do before they start anything."""
    assert "\n" not in "".join([config.run, *config.datasets, *config.models])
    json.dumps([config.wording, config.inspected_models, config.evaluated_models])
    for dataset in config.datasets:
        facts = config.facts(dataset)
        assert facts.cache_bytes > 0
        config.prior_grid(dataset)
        for model in config.models:
            for kind in ("training", "sampling", "metrics", "timing"):
                assert len(job_of(config, kind, dataset, model).config_hash) == 16


def _record() -> Reader:
    """Compare a folder of results, `results/tiny`, that holds one record, with a healthy one."""
    likelihood = {"split": "test", "images": 10_000, "passes": 9}
    config = mnist_config(**{"evaluation.likelihood": likelihood})
    values = bits_and_nats(20.0, 0.5)
    places = [
        write_training(config, "vae", 0, 10.0),
        write_quality(config, "vae", 0, fd_classifier=20.0, recall_classifier=0.5, **values),
        write_timing(config, "vae", {1: 5.0, 4: 8.0}),
    ]
    whole = [path.read_bytes() for path in places]
    for number, path in enumerate(places):  # to be compared with: other values and digests
        forge(path, partial(_remeasured, number), Path("healthy", *path.parts[2:]))
        path.unlink()

    def read(path: Path) -> None:
        for place in places:  # a record in the wrong place is refused for that alone
            try:
                place.write_bytes(path.read_bytes())
                compare("results/tiny", "healthy")
            except BenchmarkError as error:
                refused = error
            else:
                return
            finally:
                place.unlink()
        raise refused

    trees = [json.loads(text) for text in whole]
    inputs = spoilt_bytes(whole, JSON_TOKENS) | spoilt_tree(trees).map(_with_digest)
    return Reader("record", inputs, read)


def _remeasured(number: int, record: dict) -> None:
    record["sample_count"] += 1 + number


def _with_digest(tree) -> bytes:
    """Write a record as somebody would forge it: its digest is right."""
    if isinstance(tree, dict) and "digest" in tree:
        tree["digest"] = record_digest(tree)
    return json.dumps(tree).encode()


def _arrays(folder: Path) -> Reader:
    arrays = {"z": np.linspace(0, 1, 30, dtype=np.float32).reshape(5, 6), "n": np.arange(4)}
    write_arrays(folder / "arrays", **arrays)
    inputs = spoilt_bytes([(folder / "arrays").read_bytes()]) | spoilt_npz(arrays)
    return Reader("arrays (npz)", inputs, lambda path: read_arrays(path, "arrays"))


def _samples(folder: Path) -> Reader:
    job = job_of(tiny_config({"evaluation.references": {"test": 6}}), "sampling", "digits", "vae")
    images = torch.arange(6 * 64, dtype=torch.int32).remainder(256).to(torch.uint8).view(6, 1, 8, 8)
    save_samples(folder / "samples", [images], images.shape, job)
    arrays = {"images": images.numpy(), "config_hash": np.array(job.config_hash)}

    def read(path: Path) -> None:
        for batch in open_samples(path, job, (1, 8, 8)).batches(4):
            assert batch.shape[1:] == (1, 8, 8)

    inputs = spoilt_bytes([(folder / "samples").read_bytes()]) | spoilt_npz(arrays)
    return Reader("samples (npz)", inputs, read)


def _dataset(folder: Path) -> Reader:
    images = generated((6, 6))
    facts = facts_of(images)
    arrays = {
        f"{part}_{kind}": array
        for part, pair in images.items()
        for kind, array in zip(("images", "labels"), pair, strict=True)
    }
    whole = write_npz(folder / "data", images).read_bytes()
    inputs = spoilt_bytes([whole]) | spoilt_npz(arrays)
    return Reader("dataset (npz)", inputs, lambda path: npz_source(facts, path).read())


def _weights(folder: Path) -> Reader:
    job = job_of(tiny_config(), "training", "digits", "vae")
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    header = {"settings": job.settings.plain(), "hash": job.config_hash}
    inputs = _tensors(folder / "weights", network.state_dict(), header)
    return Reader("weights", inputs, lambda path: load_weights(path, network, job, CPU))


def _checkpoint(folder: Path) -> Reader:
    job = job_of(tiny_config(), "training", "digits", "vae")
    kept = Checkpoints(job, CPU, 0, StopRequests())
    header = {"hash": job.config_hash, "device": "cpu", "update": 3}
    header["values"] = {"seconds": 1.5, "history": {"rows": [], "stretch": [{"loss": 2.0}]}}
    state = {"model.weight": torch.rand(3, 4), "stream.global": torch.get_rng_state()[:100]}
    inputs = _tensors(folder / "checkpoint", state, header)
    return Reader("checkpoint", inputs, kept._read)


def _tensors(path: Path, state: dict[str, torch.Tensor], header: dict):
    """Spoil files, and forge some whose digest is right."""
    write_tensors(path, state, header)
    whole = path.read_bytes()

    def forged(change: tuple[str, torch.Tensor, object]) -> bytes:
        name, value, other = change
        write_tensors(path, state | {name: value}, other if isinstance(other, dict) else header)
        return path.read_bytes()

    names = st.sampled_from([*state, "another", "_extra_state", ""])
    changes = st.tuples(names, tensors, st.none() | spoilt_tree([header]))
    return spoilt_bytes([whole]) | spoilt_safetensors(whole) | changes.map(forged)


tensors = st.builds(
    lambda shape, dtype: torch.zeros(shape, dtype=dtype),
    st.lists(st.integers(0, 5), max_size=3),
    st.sampled_from(
        [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
    ),
)


def _kaem(folder: Path) -> Reader:
    """Join model.json and model.safetensors; the length of the first comes before them."""
    settings = merge(
        {**MODEL_SETTINGS["kaem_thermo"], "decoder": {"kind": "conv", "width": 4}},
        MODELS["kaem_thermo"].fixed,
    ) | {"domain_update": {"every": 2}, "regulariser": {}}
    kaem.save(build("kaem_thermo", settings, (1, 8, 8)), folder / "kaem")
    described = json.loads((folder / "kaem" / SETTINGS).read_text(encoding="utf-8"))
    state = (folder / "kaem" / STATE).read_bytes()

    def joined(text: bytes, content: bytes) -> bytes:
        return len(text).to_bytes(8, "little") + text + content

    def consistent(tree, content: bytes) -> bytes:
        if isinstance(tree, dict) and "state_sha256" in tree:
            tree["state_sha256"] = hashlib.sha256(content).hexdigest()
        return joined(json.dumps(tree).encode(), content)

    def read(path: Path) -> None:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        target = path.with_name("folder")
        target.mkdir(exist_ok=True)
        (target / SETTINGS).write_bytes(content[8 : 8 + length])
        (target / STATE).write_bytes(content[8 + length :])
        kaem.load(target)

    whole = (folder / "kaem" / SETTINGS).read_bytes()
    states = spoilt_bytes([state]) | spoilt_safetensors(state)
    inputs = (
        st.builds(joined, spoilt_bytes([whole], JSON_TOKENS), st.just(state))
        | st.builds(consistent, spoilt_tree([described]), st.just(state))
        | st.builds(consistent, st.just(described), states)
    )
    return Reader("kaem.load", inputs, read, (ValueError,))


def _images() -> Reader:
    pixels = generated((16, 16, 3))["train"][0][0]
    kinds = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "GIF", "TIFF", "EPS")
    whole = [encoded(pixels, kind) for kind in kinds]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    whole += [encoded(pixels, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP")]
    whole += [encoded(pixels, "PNG", transparency=(1, 2, 3))]

    def read(path: Path) -> None:
        assert ImageFiles(["x"], lambda _: path.read_bytes(), (8, 8), "RGB", None)[0].shape

    return Reader("image file", spoilt_bytes(whole), read, (BrokenImageError,))


def _progress(folder: Path) -> Reader:
    place = folder / "training"
    place.mkdir()
    progress = {"update": 3, "updates": 10, "rate": 0.5, "values": {"loss": 1.5}}
    write_progress(place, checkpoint=Checkpoint(update=2, written=1e9), **progress)
    whole = (place / PROGRESS).read_bytes()

    def read(path: Path) -> None:
        (place / PROGRESS).write_bytes(path.read_bytes())
        progress = read_progress(place)
        if progress is None:
            raise RecordError("damaged")
        assert progress.seconds_left is None or progress.seconds_left >= 0

    trees = spoilt_tree([json.loads(whole)]).map(lambda tree: json.dumps(tree).encode())
    return Reader("progress", spoilt_bytes([whole], JSON_TOKENS) | trees, read, (RecordError,))


def _history(folder: Path) -> Reader:
    rows = [{"update": update, "seconds": update / 9, "loss": -1.5 * update} for update in range(9)]
    History(rows).write(folder / "history.csv")
    tokens = (b",", b'"', b"\n", b"nan", b"1e999", b"\xff", b"\r", b"loss")
    inputs = spoilt_bytes([(folder / "history.csv").read_bytes()], tokens)
    return Reader("history (csv)", inputs, read_history, suffix=".csv")


def _cifar() -> Reader:
    """Read a batch as pickles hold it; where it is called, ValueErrors become DataErrors."""
    images = generated((32, 32, 3))["train"][0][:2]
    held = {"labels": [3, 7], "data": images.transpose(0, 3, 1, 2).reshape(2, -1)}
    whole = [pickle.dumps(held, protocol) for protocol in (2, 4)]
    return Reader("CIFAR-10 batch", spoilt_bytes(whole), read_batch, (ValueError,))
