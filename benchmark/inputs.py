"""What a step starts from: the device, the dataset, the trained model."""

import argparse

import torch

from benchmark import paths
from benchmark.config import Config
from benchmark.data import Dataset, load_dataset
from benchmark.errors import BenchmarkError
from benchmark.names import DEVICE_LABELS
from benchmark.provenance import available_cores
from benchmark.registry import build
from benchmark.weights import load_weights


def load_data(config: Config, dataset: str) -> Dataset:
    """The dataset, prepared if it is not yet."""
    roots = paths.data_root(config.data_root), paths.cache_root(config.data_root)
    return load_dataset(config.facts(dataset), *roots)


def load_model(
    config: Config,
    dataset: str,
    model: str,
    seed: int,
    device: torch.device,
    *,
    trained: bool = True,
) -> torch.nn.Module:
    """The model of one seed, ready for inference: trained, or as it was built."""
    job = config.training_job(dataset, model)
    shape = tuple(job.settings["data"]["image_shape"])
    fresh = build(job.settings["architecture"], config.model_settings(dataset, model), shape)
    if not trained:
        return fresh.to(device).eval()
    path = paths.fill(paths.WEIGHTS, config.run, dataset=dataset, model=job.model, seed=seed)
    return load_weights(path, fresh, job, device)


def use_device(name: str, threads: int) -> torch.device:
    """The device called `name` ("auto": the GPU if there is one), with this many CPU threads."""
    torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise BenchmarkError("device cuda: no GPU is visible here; set `device: cpu` or `auto`")
    return torch.device(name)


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """The argument that names the devices to measure on; `chosen_devices` reads it."""
    parser.add_argument(
        "--device",
        action="append",
        choices=list(DEVICE_LABELS),
        help="may be given again (default: the CPU, and the GPU where there is one)",
    )


def chosen_devices(options: argparse.Namespace) -> list[torch.device]:
    """The devices to measure on, the CPU with all its cores.

    Raises:
        BenchmarkError: one of them is not there.
    """
    there = [name for name in DEVICE_LABELS if name == "cpu" or torch.cuda.is_available()]
    return [use_device(name, available_cores()) for name in options.device or there]
