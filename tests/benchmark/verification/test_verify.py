"""Verifying what is published: what is right agrees, and each planted fault is said by name."""

import json
import re
import shutil
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from support.configs import MODEL_SETTINGS, tiny_config
from support.records import forge

from benchmark import steps
from benchmark.base.paths import CHECKSUMS
from benchmark.base.tensors import read_tensors, write_tensors
from benchmark.claims.report import report
from benchmark.cli import main
from benchmark.config.config import Config
from benchmark.evaluation import samples
from benchmark.run.checksums import write_checksums
from benchmark.run.publish import publish
from benchmark.training.weights import publish_weights
from benchmark.verification import redraw as drawing
from benchmark.verification import verify as module

RUN = Path("results/published/tiny")
PAGE = Path("results/verify/index.md")
VERDICTS = ("claims.json", "claims.md", "verdicts.md")
METRICS, TRAINING = (RUN / kind / "digits/vae/seed0.json" for kind in ("metrics", "training"))
WEIGHTS, CLASSIFIER = RUN / "weights/digits/vae/seed0.safetensors", RUN / "classifier/digits"
MODELS = {name: MODEL_SETTINGS[name] for name in ("vae", "kaem_ula")}


def settings() -> Config:
    return tiny_config({"seeds": [0, 1], "models": MODELS, "evaluation.references": {"test": 300}})


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a run of two seeds, made by the steps and published."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = settings()
        steps.train(config, "digits", "classifier", 0, "none")
        for model in config.models:
            for seed in config.seeds:
                steps.train(config, "digits", model, seed, "none")
                steps.sample(config, "digits", model, seed)
                steps.evaluate(config, "digits", model, seed)
        report(config)
        publish(config, weights=True)
        for name in VERDICTS:
            shutil.copy(f"results/tiny/{name}", RUN / name)
    return folder


class AtOnce:
    """An executor that works where it is asked: a process would take seconds to start."""

    def __init__(self, *_arguments, **_options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass

    def submit(self, function, *arguments) -> Future:
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # as of an executor
            future.set_exception(error)
        return future


@pytest.fixture
def here(made, tmp_path, monkeypatch) -> Path:
    """A copy of it, without the data; the working directory."""
    shutil.copytree(made / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "ProcessPoolExecutor", AtOnce)
    return tmp_path


@pytest.mark.usefixtures("here")
def test_what_is_right_agrees(capsys):
    assert main(["verify"]) == 0
    text = PAGE.read_text()
    assert "no faults" in text
    assert "8 agree, 0 disagree, 0 not checked here" in text  # values
    assert "1 agree, 0 disagree" in text  # KAEM's samples against the VAE's
    assert "300 of 300" in text
    assert "sortable" in PAGE.with_suffix(".html").read_text()
    out = capsys.readouterr().out
    assert str(PAGE) in out
    assert "Verdicts on claims: 1 agree, 0 disagree" in out
    assert [path.name for path in Path("results").iterdir() if path.name.startswith(".")] == []


def renewed(plant):
    """The same fault by a forger, who renews the digests of the files."""

    def planted() -> None:
        plant()
        rendered = {name: (RUN / name).read_bytes() for name in VERDICTS}
        for name in (*VERDICTS, CHECKSUMS):
            (RUN / name).unlink()
        write_checksums(RUN)
        for name, content in rendered.items():
            (RUN / name).write_bytes(content)

    return planted


def edit_record() -> None:
    METRICS.write_text(METRICS.read_text().replace('"sample_count": 300', '"sample_count": 299'))


def forge_value(key: str, more: float):
    def change(record: dict) -> None:
        record["metrics"][f"{key}_test_300"] += more

    return lambda: forge(METRICS, change)


def swap_weights() -> None:
    publish_weights(Path("results/tiny/weights/digits/vae/seed1.safetensors"), WEIGHTS)


def swap_weights_and_forget_their_digest() -> None:
    swap_weights()
    forge(TRAINING, lambda record: record["metrics"].pop("weights_sha256"))


def train_classifier_again() -> None:
    path = CLASSIFIER.with_suffix(".safetensors")
    state, header = read_tensors(path, "weights")
    write_tensors(path, {key: value * 1.01 for key, value in state.items()}, header)


def edit_verdicts() -> None:
    content = json.loads((RUN / "claims.json").read_text())
    told = next(v for v in content["verdicts"] if v["claim"]["id"] == "quality_of_vae")
    assert told["verdict"] == "inconclusive"
    told["verdict"] = "supported"
    (RUN / "claims.json").write_text(json.dumps(content))


FAULTS = {
    "an edited record": (edit_record, f"{METRICS}: .*edited or damaged"),
    "a record that says another distance": (
        renewed(forge_value("fd_classifier", 5.0)),
        "vae: fd_classifier_test_300 .* published",
    ),
    "a record that says another recall": (
        renewed(forge_value("recall_classifier", 0.05)),
        "vae: recall_classifier_test_300 .* published",
    ),
    "weights of another seed": (swap_weights, f"{WEIGHTS}: is not the file that was published"),
    "the same, and their digest": (
        renewed(swap_weights),
        f"{WEIGHTS}: is not what {TRAINING} describes",
    ),
    "the same, and no digest in the record": (
        renewed(swap_weights_and_forget_their_digest),
        "vae: .*_test_300 .* published",
    ),
    "a classifier of another training": (
        renewed(train_classifier_again),
        f"{CLASSIFIER}.safetensors: is not what {CLASSIFIER}.json describes",
    ),
    "damaged weights": (
        renewed(lambda: WEIGHTS.write_bytes(WEIGHTS.read_bytes()[:-9])),
        f"{WEIGHTS}: cannot be read as weights",
    ),
    "a history that is missing": (
        TRAINING.with_suffix(".csv").unlink,
        "seed0.csv: is missing",
    ),
    "a file too many": (
        lambda: shutil.copy(METRICS, METRICS.with_name("seed7.json")),
        "seed7.json: is not among the published files",
    ),
    "an edited verdict": (edit_verdicts, "claims.json: says supported of quality_of_vae on digits"),
    "an edited page of verdicts": (
        lambda: (RUN / "verdicts.md").write_text("**supported**"),
        "verdicts.md: is not what follows from the records",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("plant", "message"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_said_by_name(capsys, plant, message):
    plant()
    assert main(["verify"]) == 1
    error = capsys.readouterr().err.replace("\n", " ")
    assert re.search(message, error), error
    text = PAGE.read_text()
    assert "What is not as it was published" in text
    assert ("git checkout results/published" in error) == ("no faults" not in text)


@pytest.mark.usefixtures("here")
def test_other_images_of_the_same_model_agree(monkeypatch):
    monkeypatch.setattr(samples, "derive_seed", lambda *_names: 99)
    assert main(["verify"]) == 0
    assert "| others" in PAGE.read_text()


@pytest.mark.usefixtures("here")
def test_of_a_slow_model_fewer_images_are_drawn(monkeypatch):
    monkeypatch.setattr(drawing, "SECONDS", 0.0)
    assert main(["verify"]) == 0
    text = PAGE.read_text()
    assert f"{samples.BATCH_SIZE} of 300" in text
    assert "too slow here" in text
    targets = "results/tiny/metrics/digits/{kaem_ula,vae}/seed{0,1}.json"
    assert f"`snakemake --cores all {targets} --configfile {RUN}/config.yaml`" in text
    assert "recall" not in text.split("## Models drawn again")[1]  # it grows with their number
    assert not Path("results/verify/tiny/metrics").exists()


def test_nothing_published(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["verify"]) == 1
    assert "results/published: no run is published there" in capsys.readouterr().err
    assert not Path("results/verify").exists()


def test_the_weights_that_are_published_have_no_encoder(made):
    state, header = read_tensors(made / WEIGHTS, "weights")
    assert not any("encoder" in key for key in state)
    assert all("encoder" in key for key in header["left_out"])
    state |= read_tensors(made / f"{CLASSIFIER}.safetensors", "weights")[0]
    assert {value.dtype for value in state.values()} == {torch.float16}
