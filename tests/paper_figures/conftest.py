"""What the tests of tables and figures share."""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from support.configs import ENTRY_SETTINGS, MODEL_SETTINGS, bars_dataset, tiny_config

import benchmark.steps
from benchmark.config import job_settings
from benchmark.config.config import Config

INSPECTED = ("kaem_is", "kaem_thermo_univariate")
FEW = {
    "images": 60,
    "annealing": 10,
    "burn_in": 5,
    "kept": 10,
    "sobol_draws": 100,
    "bases": 2,
    "positions": 5,
    "moved": 2,
    "decoded": 70,
}


def inspect_little(patch: pytest.MonkeyPatch) -> None:
    """Make looking into a model take seconds."""
    power = job_settings.POWER.model_copy(update={"chains": 20, "sweeps": 4})
    patch.setattr(job_settings, "INSPECTION", job_settings.INSPECTION | FEW)
    patch.setattr(job_settings, "POWER", power)
    patch.setattr(benchmark.steps, "load_data", lambda *_: bars_dataset(100, (1, 16, 16)))


@pytest.fixture(autouse=True)
def _no_figure_is_open():
    plt.close("all")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory, where results go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def copula_config() -> Config:
    """A KAEM with a copula and one without."""
    return tiny_config({"models": {m: ENTRY_SETTINGS[m] for m in ("kaem_copula", "kaem_is")}})


@pytest.fixture(scope="package")
def inspected(tmp_path_factory) -> tuple[Path, Config]:
    """A folder with three trained and inspected models, and the configuration of the two that have
    no copula."""
    folder = tmp_path_factory.mktemp("inspected")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        inspect_little(patch)
        config = tiny_config(
            {f"models.{name}": MODEL_SETTINGS[name] for name in (*INSPECTED, "vae")}
        )
        benchmark.steps.train(config, "digits", "classifier", 0, "none")
        for own, models in ((config, INSPECTED), (copula_config(), ("kaem_copula",))):
            for model in models:
                benchmark.steps.train(own, "digits", model, 0, "none")
                benchmark.steps.inspect(own, "digits", model, 0)
        benchmark.steps.power(config)
    return folder, config


@pytest.fixture
def run(inspected, monkeypatch) -> Config:
    """The configuration of the inspected models, in their folder."""
    folder, config = inspected
    monkeypatch.chdir(folder)
    inspect_little(monkeypatch)
    return config


@pytest.fixture
def copula_run(run) -> Config:
    """The configuration of inspected models with and without a copula, in the folder of `run`."""
    assert "kaem_copula" not in run.models
    return copula_config()
