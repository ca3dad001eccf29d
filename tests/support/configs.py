"""Small configurations and data for the tests of the benchmark."""

import copy
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from support.images import bars

from benchmark.config.config import Config
from benchmark.data.dataset import Dataset
from benchmark.data.pixels import to_uint8

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / "config"

# Facts about the datasets, what others reported, and the paper's claims are not configurations.
RUN_CONFIGS = sorted(
    path
    for path in CONFIG_FOLDER.glob("*.yaml")
    if path.stem not in ("datasets", "reported", "claims", "gates")
)

# One entry per registered model, as small as it can be and still learn.
PRIOR = {"q": 3, "p": 2, "grid_size": 8, "n_nodes": 50}
IMPORTANCE = {"proposals": 200, "survivors": 10, "ess_threshold": 1.0}
LANGEVIN = {"steps": 10, "step_size": 0.03, "persistent": False}
THERMODYNAMIC = {"temperatures": 2, "steps": 10, "step_size": 0.03, "persistent": False}
MODEL_SETTINGS = {
    f"kaem_{name}{suffix}": {"sigma": 0.3, "prior": PRIOR, "sampler": sampler}
    for name, sampler in (("is", IMPORTANCE), ("ula", LANGEVIN), ("thermo", THERMODYNAMIC))
    for suffix in ("", "_univariate")
} | {
    "vae": {"sigma": 0.3, "latents": 3, "encoder_width": 8},
    "sigma_vae": {"latents": 3, "encoder_width": 8},
    "two_stage_vae": {"latents": 3, "encoder_width": 8, "second_width": 16},
    "latent_ebm": {"sigma": 0.3, "latents": 3, "energy_width": 16, "prior_steps": 10},
    "latent_ebm_thermo": {
        "sigma": 0.3,
        "latents": 3,
        "energy_width": 16,
        "prior_steps": 10,
        "posterior_steps": 10,
        "temperatures": 2,
    },
    "pixel_ebm": {"width": 8, "steps": 10, "sample_steps": 10, "buffer_size": 64},
    "ddpm": {
        "channels": [8, 16],
        "layers": 1,
        "attention": False,
        "ema_decay": 0.9,
        "sampler": {"kind": "ddim", "steps": 5},
    },
}

# Entries with a copula, by the registered model that each is.
COPULA = {"components": 3, "first": 2, "every": 2, "draws": 40, "iterations": 2}
WITH_COPULA = {
    "kaem_copula": "kaem_ula",
    "kaem_is_copula": "kaem_is",
    "kaem_thermo_copula": "kaem_thermo",
    "univariate_copula": "kaem_ula_univariate",
}


def with_copulas(settings: dict) -> dict:
    """The settings of the registered models, and of entries with a copula."""
    return settings | {
        name: settings[model] | {"model": model, "copula": COPULA}
        for name, model in WITH_COPULA.items()
    }


ENTRY_SETTINGS = with_copulas(MODEL_SETTINGS)

FACES = {
    "title": "Faces",
    "layout": "celeba",
    "image_shape": [3, 64, 64],
    "crop": 140,
    "splits": {"train": {"part": "train", "count": 40}, "test": {"part": "test", "count": 20}},
}
"""A dataset of one's own without labels and without a validation split, as CelebA's files lie."""

LIKELIHOOD = {"split": "test", "images": 5, "passes": 100}

MISSING = ...  # as a value of `changed`: the key is removed


def tiny_values(**top_level) -> dict:
    """A valid configuration, as YAML would give it, of digits, KAEM-IS and a VAE."""
    return copy.deepcopy(
        {
            "run": "tiny",
            "data_root": "data",
            "datasets": ["digits"],
            "seeds": [0],
            "device": "cpu",
            "threads": 1,
            "training": {
                "updates": 5,
                "batch_size": 20,
                "learning_rate": 0.005,
                "betas": [0.9, 0.999],
                "schedule": "cosine",
            },
            "decoder": {"kind": "conv", "width": 8},
            "classifier": {
                "updates": 20,
                "batch_size": 50,
                "learning_rate": 0.002,
                "features": 16,
            },
            "evaluation": {"references": {"test": 64}, "batch_size": 64},
            "timing": {
                "devices": ["cpu"],
                "batch_sizes": [1, 4],
                "warmup": 1,
                "repetitions": 10,
                "seconds": 0.1,
                "longest_call": 60,
                "modes": ["eager"],
                "disturbed": "mark",
            },
            "models": {name: MODEL_SETTINGS[name] for name in ("kaem_is", "vae")},
        }
        | top_level
    )


def changed(values: dict, changes: dict) -> dict:
    """A copy with {"training.updates": 7, ...} set; `MISSING` removes a key."""
    values = copy.deepcopy(values)
    for path, value in changes.items():
        *parents, last = path.split(".")
        inner = values
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if value is MISSING:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(value)
    return values


def tiny_config(changes: dict | None = None) -> Config:
    """The tiny configuration with changes as `changed` takes them."""
    return Config(changed(tiny_values(), changes or {}), "tiny.yaml")


def write_config(path: Path, changes: dict | None = None) -> Path:
    """The tiny configuration as a YAML file."""
    path.write_text(yaml.safe_dump(changed(tiny_values(), changes or {})))
    return path


def bars_dataset(
    n: int = 100, image_shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0
) -> Dataset:
    """Structured images in place of the digits; the label says which half is lit."""
    draws = torch.Generator().manual_seed(seed)
    images = {
        split: to_uint8(bars(n, image_shape, draws)) for split in ("train", "validation", "test")
    }
    labels = {split: (x[:, 0, 0, 0] > 0).long() for split, x in images.items()}
    return Dataset("digits", images, labels, {})


def loaded_by(statements: str, *words) -> str:
    """What a fresh interpreter prints that runs statements in the repository; `sys` is there."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {statements}", *map(str, words)],
        cwd=CONFIG_FOLDER.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
