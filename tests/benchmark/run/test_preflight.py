"""Preflight: all that a run needs is checked, and all that is missing is said, before it starts."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support import own_dataset
from support.configs import FACES, MISSING, changed, tiny_config
from support.datasets import encoded, generated, write_files

import benchmark.run.preflight
from benchmark.base import paths
from benchmark.base.errors import DataError
from benchmark.config.config import Config
from benchmark.config.jobs import job_of, jobs
from benchmark.config.registry import build
from benchmark.run.preflight import check_all, check_dataset, how_long, preflight
from kaem.laplace import fewest_passes

CLOSED_PORT = "http://127.0.0.1:9"  # a proxy there refuses every connection at once
DIGITS = "digits: ready, 1257 train, 180 validation, 360 test"
PIXELS = 16 * 16
OWN = {key: FACES[key] for key in ("title", "image_shape", "splits")}  # no layout of anybody's


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory on a machine without network and without a GPU."""
    for variable in ("KAEM_DATA_ROOT", "KAEM_CACHE_ROOT", "KAEM_INCEPTION_WEIGHTS", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, CLOSED_PORT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tmp_path


def give_disk(monkeypatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))


def give_gpu(monkeypatch, total: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (total // 2, total))


def refused(config: Config) -> str:
    with pytest.raises(DataError) as caught:
        check_all(config)
    assert not Path("results").exists()
    return str(caught.value)


def prepared(root: str = "data/cache") -> list[Path]:
    return [path for path in Path(root).iterdir() if path.is_dir()]


# All at once ------------------------------------------------------------------------------------


def test_everything_that_is_missing_is_said_in_one_go_with_its_size_and_the_way_to_get_it(
    monkeypatch,
):
    give_disk(monkeypatch, 10_000_000)
    give_gpu(monkeypatch, 10**9)
    config = tiny_config(
        {
            "datasets": ["digits", "mnist", "faces"],
            "own_datasets.faces": OWN,
            "device": "auto",
            "evaluation.inception": True,
        }
    )
    text = refused(config)
    for said in (
        # Data
        "mnist: data/MNIST/raw/train-images-idx3-ubyte is missing and cannot be downloaded",
        "It is 12 MB. With no network, put mnist.npz into data by hand, or MNIST/raw/train-images",
        "faces: neither data/faces.npz nor data/faces is there",
        "Put the images into data/faces/train/ and data/faces/test/, or into data/faces.npz as",
        # Weights
        "Inception weights: data/weights-inception-2015-12-05-6726825d.pth is missing (96 MB)",
        "or name a file in KAEM_INCEPTION_WEIGHTS",
        # Disk space
        "disk: about 0.1 GB are needed in",
        "0.0 GB are free",
        "KAEM_CACHE_ROOT for prepared data",
    ):
        assert text.count(said) == 1, (said, text)
    assert not Path("data/cache").exists()


def test_what_is_ready_is_listed_and_prepared():
    assert check_all(tiny_config()) == [DIGITS]
    assert not Path("results").exists()
    (folder,) = prepared()
    assert folder.name.startswith("digits-")


def test_images_that_no_distance_can_be_measured_of_are_named():
    facts = {key: value for key, value in own_dataset.OWN.items() if key != "classes"}
    own_dataset.write_own(Path("data"))
    config = {"own_datasets.own": facts, "datasets": ["own"]}
    _, notice = check_all(tiny_config(config))
    assert notice.startswith("own: no distance will be measured")
    assert len(check_all(tiny_config(config | {"evaluation.efficientnet": True}))) == 1


@pytest.mark.parametrize("check", [check_all, lambda config: [check_dataset(config, "faces")]])
def test_files_that_are_left_out_are_counted_where_it_is_ready(check):
    images = generated((8, 8, 3))["train"][0]
    for part in ("train", "test"):
        files = {f"{k}.png": encoded(images[k], "PNG") for k in range(3)}  # the same in both
        write_files(Path("data/faces") / part, files | {"a.tif": b"", "b.TIF": b"", "c.gif": b""})
    splits = {part: {"part": part, "count": 3} for part in ("train", "test")}
    own = changed(OWN, {"image_shape": [3, 8, 8], "splits": splits})
    line, *_ = check(tiny_config({"own_datasets.faces": own, "datasets": ["faces"]}))
    assert line.startswith(
        "faces: ready, 3 train, 3 test\n  Left out: 4 .tif, 2 .gif; images are .jpg"
    )
    assert line.endswith("\n  3 images of other splits are training images too")


def test_one_dataset_alone():
    assert check_dataset(tiny_config(), "digits") == DIGITS
    summary = json.loads(paths.fill(paths.DATA, "tiny", dataset="digits").read_text())
    assert summary["counts"] == {"train": 1257, "validation": 180, "test": 360}
    assert summary["image_shape"] == [1, 16, 16]
    assert summary["digests"] == tiny_config().facts("digits").digests


def test_of_several_datasets_one_says_what_the_run_lacks():
    config = tiny_config({"datasets": ["mnist", "digits", "fashion_mnist"]})

    def said(dataset: str) -> str:
        with pytest.raises(DataError) as caught:
            preflight(config, dataset, whole=True)
        return str(caught.value)

    whole = said("mnist")
    for dataset in ("MNIST", "FashionMNIST"):
        assert whole.count(f"data/{dataset}/raw/train-images-idx3-ubyte is missing") == 1
    for dataset in ("digits", "fashion_mnist"):  # none begins, and none says it again
        log = "results/tiny/logs/data/mnist.log"
        assert said(dataset) == f"{dataset}: waits for what {log} asks for"
    # By itself a dataset asks for no other, and is said to be ready once.
    assert preflight(config, "digits") == [DIGITS]
    assert preflight(tiny_config(), "digits", whole=True) == [DIGITS]


def test_the_first_line_says_how_long_the_run_takes_and_where_fewer_hours_are_to_be_had(
    monkeypatch, capsys
):
    config = tiny_config({"datasets": ["digits", "mnist"]})
    takes = {("digits", "vae"): 60.0, ("mnist", "vae"): 180.0}
    monkeypatch.setattr(benchmark.run.preflight, "measure_trainings", lambda *_: takes)
    with pytest.raises(DataError):  # mnist is not there
        preflight(config, "digits", whole=True)
    text = "tiny: 4 trainings, about 8 min one after the other, by updates of 2 of 4 models"
    assert capsys.readouterr().out.splitlines()[0] == text
    with pytest.raises(DataError):
        preflight(config, "mnist", whole=True)
    assert capsys.readouterr().out == ""  # one of the jobs says it
    takes |= dict.fromkeys(takes, 1e6)
    assert "config/cpu.yaml" in how_long(config)
    for job in jobs(config, "training", dataset="mnist"):
        job.path().parent.mkdir(parents=True, exist_ok=True)
        job.path().touch()
    assert how_long(config).startswith("tiny: 2 trainings, about 23.1 d")


@pytest.mark.parametrize("check", [check_all, lambda config: check_dataset(config, "digits")])
def test_damaged_prepared_images_are_prepared_again(check):
    check(tiny_config())
    (folder,) = prepared()
    file = folder / "train.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    check(tiny_config())
    assert (prepared()[0] / "train.npy").read_bytes() == content


# Models that a dataset is not made for ----------------------------------------------------------


def test_a_model_that_cannot_be_built_for_a_dataset_is_found_before_anything_trains(monkeypatch):
    give_gpu(monkeypatch, 10**12)
    odd = changed(OWN, {"image_shape": [1, 30, 30]})
    config = tiny_config({"own_datasets.odd": odd, "datasets": ["digits", "odd"], "device": "cuda"})
    text = refused(config)
    for model in ("kaem_is", "vae"):
        assert f"odd · {model}: image sides must be multiples of 4, got (1, 30, 30)" in text
    assert "odd: neither" in text
    assert "digits" not in text


def test_too_few_passes_for_a_likelihood_are_found_before_anything_trains():
    def config(passes):
        likelihood = {"split": "test", "images": 5, "passes": passes}
        return tiny_config({"evaluation.likelihood": likelihood, "models.vae": MISSING})

    fewest = fewest_passes(latents=3)
    assert refused(config(fewest - 1)) == (
        f"digits · kaem_is: evaluation.likelihood.passes is {fewest - 1}; an estimate of its "
        f"likelihood takes at least {fewest}"
    )
    assert check_all(config(fewest))


# Disk space -------------------------------------------------------------------------------------


def result_bytes(config: Config) -> int:
    """Weights and images of two models, and real images, for each seed."""
    weights = 0
    for model in config.trained_models:
        job = job_of(config, "training", "digits", model)
        fresh = build(model, job.settings.model, (1, 16, 16))
        weights += sum(value.nbytes for value in fresh.state_dict().values())
    return len(config.seeds) * (3 * 64 * PIXELS + weights)


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_the_disk_must_hold_results_and_data_prepared_twice(monkeypatch, seeds):
    config = tiny_config({"seeds": seeds})
    needed = result_bytes(config) + 2 * 1797 * PIXELS
    give_disk(monkeypatch, needed - 1)
    assert refused(config).startswith("disk: about ")
    give_disk(monkeypatch, needed)
    assert check_all(config) == [DIGITS]
    # What is prepared takes no more room.
    give_disk(monkeypatch, result_bytes(config))
    assert check_all(config) == [DIGITS]
    # And is looked for where it lies.
    monkeypatch.setenv("KAEM_CACHE_ROOT", "elsewhere")
    with pytest.raises(DataError, match="disk: about"):
        check_all(config)


def test_space_is_asked_for_where_the_folders_will_be(monkeypatch, folder):
    asked = []

    def disk_usage(path):
        asked.append(Path(path))
        return SimpleNamespace(free=10**12)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    monkeypatch.setenv("KAEM_CACHE_ROOT", "not/there/yet")
    check_all(tiny_config())
    assert asked == [folder]  # results and cache on one disk: their sum is asked for, once
    assert prepared("not/there/yet")


def test_a_gpu_that_is_not_there_is_listed_with_the_rest():
    text = refused(
        tiny_config({"device": "cuda", "datasets": ["faces"], "own_datasets.faces": OWN})
    )
    assert "device cuda: no GPU is visible here; set `device: cpu` or `auto`" in text
    assert "faces: neither" in text


# Inception weights ------------------------------------------------------------------------------


def test_a_run_goes_on_without_inception_weights_and_says_what_will_be_empty():
    ready, notice = check_all(tiny_config({"evaluation.inception": True}))
    assert ready == DIGITS
    for said in ("(96 MB)", "FID and KID cells will be empty", "KAEM_INCEPTION_WEIGHTS"):
        assert said in notice
    # No part of a file stays, and nothing is asked for that nobody measures with.
    assert [path.name for path in Path("data").iterdir()] == ["cache"]
    assert check_all(tiny_config()) == [DIGITS]


def test_inception_weights_are_fetched_once(monkeypatch):
    fetched = []

    def download(url, path, *_arguments, **_options):
        fetched.append(url)
        Path(path).write_bytes(b"the weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    official = sha256(b"the weights").hexdigest()
    monkeypatch.setattr("benchmark.evaluation.inception.OFFICIAL_SHA256", official)
    monkeypatch.setattr("benchmark.config.config.OFFICIAL_SHA256", official)
    for _ in range(2):
        assert check_all(tiny_config({"evaluation.inception": True})) == [DIGITS]
    assert len(fetched) == 1
    assert paths.inception_weights(Path("data")).read_bytes() == b"the weights"


def test_weights_of_ones_own_are_taken_by_their_digest(monkeypatch):
    Path("mine.pth").write_bytes(b"my weights")
    monkeypatch.setenv("KAEM_INCEPTION_WEIGHTS", "mine.pth")
    mine = {"evaluation.inception": True}
    text = refused(tiny_config(mine))
    assert "Inception weights: mine.pth is damaged or another network's" in text
    assert sha256(b"my weights").hexdigest() in text
    mine["evaluation.inception_sha256"] = sha256(b"my weights").hexdigest()
    assert check_all(tiny_config(mine)) == [DIGITS]


def test_only_the_datasets_of_the_run_ask_for_weights():
    asked = tiny_config({"per_dataset.mnist.evaluation.inception": True})
    assert check_all(asked) == [DIGITS]
