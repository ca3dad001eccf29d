"""Timing published models again: which batches, of what, and what the records say."""

from pathlib import Path

import numpy as np
import pytest
from support.configs import MODEL_SETTINGS, tiny_config
from support.records import timing_metrics, timing_row, write_any

from benchmark.claims.judge import DRIFT, drift_of
from benchmark.config.jobs import job_of
from benchmark.records.checks import contradiction
from benchmark.records.folder import by_subject
from benchmark.timing.series import Limits
from benchmark.verification import retime

MODELS = ("kaem_is", "kaem_ula", "vae", "sigma_vae")
IMAGES = {"digits": np.zeros((40, 1, 8, 8), np.uint8)}


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(retime, "LIMITS", Limits(warmup=1, repetitions=3, seconds=0.01))
    monkeypatch.setattr(retime, "LOOK", 0.0)
    monkeypatch.setattr(retime, "_is_busy", lambda _device: False)
    monkeypatch.setattr(retime, "available_cores", lambda: 1)  # a second thread waits for others
    models = {name: MODEL_SETTINGS[name] for name in MODELS}
    return tiny_config({"models": models, "timing.batch_sizes": [1, 4, 64]})


def published(config, seconds: float) -> dict:
    """Published times of a model that takes so long for 64 images."""
    job = job_of(config, "timing", "digits", "sigma_vae")
    rows = [timing_row(64, 1e3 * seconds)]
    return by_subject([write_any(job.path(), "timing", timing_metrics(rows), job)])


@pytest.mark.parametrize(("seconds", "sizes"), [(1.0, {64}), (3.0, set())])
def test_what_claims_compare_is_timed_and_what_does_not_take_long(config, seconds, sizes):
    records = list(retime.time_again(config, published(config, seconds), IMAGES, Path("here")))
    found = {record.model: record for record in records}
    timed = {model: set(record.metrics.latencies()) for model, record in found.items()}
    # A claim compares 64 images of KAEM-ULA and the VAE, none those of one image of this run's.
    expected = {"kaem_ula": {64}, "vae": {64}} | ({"sigma_vae": sizes} if sizes else {})
    assert timed == expected
    assert found["vae"].metrics.update_time()  # beside KAEM-IS, of which no sampling was timed
    assert drift_of(records) == DRIFT  # in turns
    assert [contradiction(record) for record in records] == [None] * len(records)
    assert found["vae"].config_hash != job_of(config, "timing", "digits", "vae").config_hash


def test_a_busy_machine_times_nothing(config, monkeypatch):
    monkeypatch.setattr(retime, "_is_busy", lambda _device: True)
    assert not list(retime.time_again(config, published(config, 1.0), IMAGES, Path("here")))
