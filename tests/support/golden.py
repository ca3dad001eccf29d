"""The tables of one made-up run, as text that tests compare with.

`PYTHONPATH=tests python -m support.golden` writes them anew into tests/paper_figures/golden; read
the difference before you commit it.
"""

import os
import tempfile
from pathlib import Path

from support.configs import FACES, MODEL_SETTINGS, tiny_config
from support.records import timing_row, update_row
from support.rendering import (
    CUDA,
    LIKELIHOOD,
    likelihood,
    pretended,
    table_file,
    write_quality,
    write_timing,
    write_training,
)

from benchmark.config.config import REAL, Config
from paper_figures.tables import cost, quality, reported, timing

GOLDEN = Path(__file__).resolve().parents[1] / "paper_figures" / "golden"
FILES = ("quality.md", "quality.tex", "timing.md", "cost.md", "reported.md")

MACHINE = {"cpu": "CPU Y", "threads": 2}
HEALTHY = {"class_coverage_test_10k": 0.9, "recall_classifier_test_10k": 0.7}


def golden_config() -> Config:
    """One model of each kind, on a dataset that all comparisons suit and on one that is small."""
    splits = {split: {"part": split, "count": 360} for split in ("train", "test")}
    names = ("kaem_thermo", "kaem_ula")
    return tiny_config(
        {
            "run": "golden",
            "note": "Made up.",
            "datasets": ["mnist", "shapes"],
            "own_datasets.shapes": FACES | {"title": "Shapes", "splits": splits},
            "seeds": [0, 1],
            "training.updates": 1500,
            "evaluation.references": {"test": 10_000},
            "evaluation.inception": True,
            "per_dataset.shapes.evaluation.references.test": 64,
            "timing.devices": ["cpu", "cuda"],
            "timing.modes": ["eager", "compiled"],
            **{f"models.{name}": MODEL_SETTINGS[name] for name in names},
            "models.vae.label": "VAE & co, 50%",
            "models.vae_b": {"model": "vae"} | MODEL_SETTINGS["vae"],
            **LIKELIHOOD,
        }
    )


def write_golden_run(config: Config) -> None:
    """Write records in which each note below a table has its reason."""
    of_inception = {"fid_test_10k": 1.25, "kid_test_10k": 0.0005}
    digest = {"classifier_sha256": "c" * 64}
    with pretended(source_digest="a" * 16, **MACHINE):
        write_quality(config, REAL, 2.6, dataset="mnist", **of_inception, **digest)
        for seed in config.seeds:
            drawn = HEALTHY | digest | {"fid_test_10k": 20.0 + seed, "kid_test_10k": 0.02}
            bits = likelihood(1.5 + seed)
            write_quality(config, "kaem_is", 10.0 + 4 * seed, seed, "mnist", **drawn, **bits)
            write_training(config, "kaem_is", 30.0 + 10 * seed, seed, "mnist", ess=1.25 + seed)
    with pretended(source_digest="b" * 16, **MACHINE):  # without FID, nor the classifier's digest
        write_quality(config, "kaem_thermo", 20.0, dataset="mnist", **HEALTHY)
        write_training(config, "kaem_thermo", 50.0, dataset="mnist", swap_1=0.5, swap_2=0.125)
        loose = likelihood(2.5) | {"nats_low_ess_share_test_20": 0.2}
        collapsed = HEALTHY | {"class_coverage_test_10k": 0.01}
        write_quality(config, "vae", 15.0, dataset="mnist", **collapsed, **loose)
        write_quality(config, "vae_b", 16.0)
        parts = (timing_row(1, 0.25, part="latents"), timing_row(1, 0.75, mode="compiled"))
        times = {1: 1.0, 4: 2.0}
        update = update_row(100, 7.0, warmup=12)
        write_timing(config, "kaem_is", times, rows=parts, dataset="mnist", update=update)
        write_timing(config, "kaem_is", {1: 0.25, 4: 0.5}, CUDA, dataset="mnist")
        too_large = {
            "mode": "eager",
            "part": "images",
            "batch_size": 4,
            "left_out": "out of memory",
        }
        write_timing(
            config,
            "vae",
            {1: 0.5},
            rows=(too_large,),
            dataset="mnist",
            session="f" * 16,
            disturbed=True,
            trained=False,
            update=update_row(100, 3.0, warmup=15),
        )


def render_golden_run() -> dict[str, str]:
    """Render the tables in the working directory and return their texts."""
    config = golden_config()
    write_golden_run(config)
    for table in (quality, timing, cost, reported):
        table.render(config)
    return {name: table_file(*name.split(".", 1), "golden").read_text() for name in FILES}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        texts = render_golden_run()
    GOLDEN.mkdir(exist_ok=True)
    for name, text in texts.items():
        (GOLDEN / name).write_text(text)
