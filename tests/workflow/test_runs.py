"""Runs of a dataset of one's own, of hostile names, and of a step that fails."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from support.configs import FACES, LIKELIHOOD, MODEL_SETTINGS, write_config
from support.workflow import snakemake, snapshot

from benchmark.evaluation.samples import open_samples
from benchmark.records.record import read_record

PORTRAITS = {1: 40, 182638: 20}  # the first numbers of the parts train and test


def write_faces(root: Path) -> None:
    """Generated portraits as CelebA's archive holds its own: 178x218, numbered by their part."""
    images = root / "img_align_celeba"
    images.mkdir(parents=True)
    draws = np.random.default_rng(0)
    rows, columns = np.mgrid[:218, :178]
    numbers = (first + i for first, count in PORTRAITS.items() for i in range(count))
    for number in numbers:
        pixels = np.empty((218, 178, 3), np.uint8)
        pixels[:] = draws.integers([0, 80, 120], [60, 160, 200])  # a cool background
        radius = draws.uniform(40, 60)
        head = (rows - 109) ** 2 + (columns - 89) ** 2 < radius**2
        pixels[head] = draws.integers([200, 100, 50], [256, 150, 100])  # a warm face
        Image.fromarray(pixels).save(images / f"{number:06d}.jpg", quality=90)


def test_faces_in_celebas_layout_go_all_the_way(tmp_path):
    write_faces(tmp_path / "data")
    write_config(
        tmp_path / "tiny.yaml",
        {
            "own_datasets": {"faces": FACES},
            "datasets": ["faces"],
            "training.updates": 3,
            "training.batch_size": 8,
            "decoder.width": 4,
            "models": {"kaem_ula": MODEL_SETTINGS["kaem_ula"]},
            "evaluation": {
                "references": {"test": 16, "train": 24},
                "batch_size": 16,
                "likelihood": LIKELIHOOD,
            },
        },
    )
    results = tmp_path / "results" / "tiny"
    table, grid = results / "tables" / "quality.md", results / "figures" / "samples_faces.png"
    targets = [path.relative_to(tmp_path) for path in (table, grid)]
    done = snakemake(tmp_path, *targets, "--configfile", "tiny.yaml")
    assert done.returncode == 0, done.stdout
    assert not (results / "classifier").exists()

    for model in ("real", "kaem_ula"):
        metrics = read_record(results / "metrics" / "faces" / model / "seed0.json").metrics
        assert metrics.reference_count_test == PORTRAITS[182638]
        assert metrics.reference_count_train == PORTRAITS[1]
        keys = {measured.key for measured in metrics.values}
        assert ("bits_per_dimension_test_5" in keys) == (model != "real")
        # Without labels and without Inception there is no space to compare in.
        assert not any(name.startswith(("fid", "fd", "kid")) for name in keys)
    rows = [line.split("|") for line in table.read_text().splitlines() if line.startswith("|")]
    titles = [title.strip() for title in rows[0]]
    shown = {
        row[2].strip(): dict(zip(titles, map(str.strip, row), strict=True)) for row in rows[2:]
    }
    assert list(shown) == ["real images", "constant image", "KAEM-ULA"]
    assert {row["Dataset"] for row in shown.values()} == {"Faces"}
    assert float(shown["constant image"]["Bits per dimension, fitted sigma (test 5)"]) > 0
    for bits in ("Bits per dimension", "Bits per dimension, fitted sigma"):
        assert float(shown["KAEM-ULA"][f"{bits} (test 5)"].rstrip("‡")) > 0
    assert shown["KAEM-ULA"]["Updates"] == "3"
    # The centre of the real images is a warm face, and the grid shows it in colour.
    real = open_samples(results / "samples" / "faces" / "real" / "seed0.npz")
    assert real.shape == (24, 3, 64, 64)
    red, green, blue = real.first(24)[:, :, 24:40, 24:40].double().mean((0, 2, 3)).tolist()
    assert red > 190 > 160 > green > 95 > blue
    picture = plt.imread(grid)[..., :3]
    assert np.ptp(picture, axis=-1).max() > 0.3


def test_what_a_shell_would_run_is_taken_for_a_name(tmp_path):
    name = "-o {x} $(touch pwned) 'q; touch pwned.yaml"
    write_config(tmp_path / name)
    overrides = ["note=b; touch pwned $(touch pwned) {params} ' \"", "training={updates: 6}"]
    words = ("results/tiny/data/digits.json", "--configfile", name, "--config", *overrides)
    done = snakemake(tmp_path, *words)
    assert done.returncode == 0, done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {name, "data", "results", ".snakemake"}


def test_a_step_that_fails_ends_the_run_with_its_own_message(tmp_path):
    write_config(tmp_path / "tiny.yaml", {"datasets": ["mnist"]})
    (tmp_path / "empty").mkdir()
    done = snakemake(tmp_path, "--configfile", "tiny.yaml", KAEM_DATA_ROOT="empty")
    assert done.returncode != 0
    assert (
        done.stdout.count("error: mnist: empty/MNIST/raw/train-images-idx3-ubyte is missing") == 1
    )
    assert "set KAEM_DATA_ROOT to a torchvision root that has it" in done.stdout
    # The step itself is seen to fail: Snakemake does not go looking for late files instead.
    assert "returned non-zero exit status 1" in done.stdout
    assert "latency" not in done.stdout
    assert "Traceback" not in done.stdout
    assert set(snapshot(tmp_path)) == {"tiny.yaml", "results/tiny/logs/data/mnist.log"}
    assert list((tmp_path / "empty").iterdir()) == []
