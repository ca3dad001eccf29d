"""Equal time for all: how many updates fit, and what else stays."""

import pytest
import yaml
from support.configs import MODEL_SETTINGS
from support.records import mnist_config, write_training

from benchmark import cli
from benchmark.base.errors import RecordError
from benchmark.claims.equal_time import equal_time
from benchmark.config.config import Config
from benchmark.config.jobs import job_of


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def config_of_three() -> Config:
    """Two entries that YAML wrote as one, and one that trains nothing of its own."""
    shared = MODEL_SETTINGS["kaem_ula"]
    other = {"weights_of": "latent_ebm", "prior_steps": 0}
    models = {"kaem_ula": shared, "kaem_ula_univariate": shared}
    models |= {"latent_ebm": MODEL_SETTINGS["latent_ebm"], "latent_ebm_gaussian": other}
    return mnist_config(models=models)


def write_costs(config: Config, **seconds_per_update: list[float]) -> None:
    """One training of each seed."""
    for model, costs in seconds_per_update.items():
        updates = job_of(config, "training", "mnist", model).settings.training.updates
        for seed, cost in enumerate(costs):
            write_training(config, model, seed, cost * updates)


def test_as_many_updates_as_fit_by_the_median_of_the_records():
    config = config_of_three()
    ulas = {"kaem_ula": [0.1, 0.2, 5.0], "kaem_ula_univariate": [0.4]}
    write_costs(config, **ulas, latent_ebm=[400.0])
    values = yaml.safe_load(equal_time(config, 120))
    again = Config(values, "equal_time")
    updates = {
        m: job_of(again, "training", "mnist", m).settings.training.updates for m in again.models
    }
    assert updates == {
        "kaem_ula": 600,
        "kaem_ula_univariate": 300,
        "latent_ebm": 1,
        "latent_ebm_gaussian": 1,
    }
    assert again.run == "equal_time"
    assert "2 min" in again.note


def test_nothing_else_changes():
    config = config_of_three()
    write_costs(config, kaem_ula=[0.1], kaem_ula_univariate=[0.2], latent_ebm=[0.4])
    values = yaml.safe_load(equal_time(config, 120))
    for model in config.trained_models:
        del values["models"][model]["training"]["updates"]
        assert values["models"][model].pop("training") == {}
        assert values["models"][model] == config.values["models"][model]
    same = set(config.values) - {"run", "note", "models"}
    assert {key: values[key] for key in same} == {key: config.values[key] for key in same}


def test_a_training_without_a_record_is_named():
    config = config_of_three()
    write_costs(config, kaem_ula=[0.1], latent_ebm=[0.4])
    with pytest.raises(RecordError, match="no training of kaem_ula_univariate"):
        equal_time(config, 120)


def test_the_command_prints_a_configuration(capsys, tmp_path):
    config = config_of_three()
    write_costs(config, kaem_ula=[0.1], kaem_ula_univariate=[0.2], latent_ebm=[0.4])
    (tmp_path / "here.yaml").write_text(yaml.safe_dump(config.values))
    records = ["--records", "results/tiny"]
    assert cli.main(["equal-time", "--config", "here.yaml", "--budget", "90s", *records]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["models"]["kaem_ula"]["training"]["updates"] == 900
    assert "python -m benchmark equal-time" in printed
