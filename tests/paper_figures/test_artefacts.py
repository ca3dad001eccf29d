"""The list of tables and figures: declarations as the workflow reads them, commands, refusals."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
from support.configs import MODEL_SETTINGS, loaded_by, tiny_config, write_config
from support.rendering import shapes_config, write_training

import paper_figures.cli
from benchmark.base.paths import ROOT
from benchmark.config.config import load_config
from paper_figures.artefacts import ARTEFACTS, MEASURED, MODULES, read_declaration
from paper_figures.base.artefact import Artefact
from paper_figures.cli import render_all


def test_every_module_of_a_table_or_figure_is_listed():
    files = [*ROOT.glob("paper_figures/tables/*.py"), *ROOT.glob("paper_figures/figures/*.py")]
    modules = {f"paper_figures.{path.parent.name}.{path.stem}" for path in files}
    modules = {name for name in modules if "__init__" not in name}
    of_all_runs = {"paper_figures.tables.experiments"}
    listed = {*MODULES, *MEASURED.values()}
    assert modules | {"paper_figures.overview.overview"} == listed | of_all_runs
    assert len(ARTEFACTS) == len(MODULES)


def test_reading_the_list_loads_neither_pandas_nor_matplotlib():
    slow = {"pandas", "matplotlib", "seaborn", "scipy", "torch"}
    statements = f"import paper_figures.artefacts; print({slow} & set(sys.modules))"
    assert loaded_by(statements) == "set()"


def test_figures_draw_into_files_whatever_a_notebook_or_a_home_says(monkeypatch, tmp_path):
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\n")
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "module://not_installed_here")
    asked = "mpl.get_backend().lower(), mpl.rcParams['axes.facecolor']"
    statements = f"import paper_figures.base.style, matplotlib as mpl; print({asked})"
    assert loaded_by(statements) == "agg white"


def test_a_module_without_a_declaration_is_named():
    with pytest.raises(LookupError, match=r"base/style.py: declares no TABLE, FIGURE or PAGE"):
        read_declaration("paper_figures.base.style")


@pytest.mark.parametrize("name", ARTEFACTS)
def test_what_is_read_is_what_the_module_has(name):
    artefact = ARTEFACTS[name]
    module = import_module(artefact.module)
    (own,) = (value for value in vars(module).values() if isinstance(value, Artefact))
    assert (own.name, own.caption, own.category) == (
        artefact.name,
        artefact.caption,
        artefact.category,
    )
    assert artefact.caption.endswith(".")
    assert artefact.category
    assert all((ROOT / source).is_file() for source in artefact.sources)
    assert artefact.sources[0] == str(Path(module.__file__).relative_to(ROOT))


def names(config, name: str) -> list[str]:
    artefact = ARTEFACTS[name]
    places = artefact.places(config, gpu=False)
    return [artefact.paths(config.run, **place)[0].stem for place in places]


def test_a_run_has_what_its_configuration_gives_reason_for():
    demo = load_config(ROOT / "config/demo.yaml")
    bias = load_config(ROOT / "config/bias.yaml")
    only_vae = tiny_config({"models": {"vae": MODEL_SETTINGS["vae"]}})
    assert names(bias, "inductive_bias") == ["inductive_bias"]
    assert names(demo, "inductive_bias") == names(demo, "independence") == []
    assert names(demo, "tradeoff") == ["tradeoff_cpu"]
    assert names(demo, "latents") == ["latents_digits_kaem_copula"]
    assert names(demo, "summary")
    assert names(demo, "cost") == []  # it is left out
    of_kaem = {"latents", "prior_densities", "explorer", "training_health", "power_posteriors"}
    had = {name for name in ARTEFACTS if names(only_vae, name)}
    assert had.isdisjoint(of_kaem)
    assert had >= {"quality", "timing", "cost", "reported", "loss_curves", "sample_grids"}


def test_inputs_are_those_of_the_chosen_dataset_or_device():
    config = tiny_config({"datasets": ["digits", "mnist"], "seeds": [0, 1]})
    inputs = {name: ARTEFACTS[name].inputs for name in ARTEFACTS}
    assert list(map(str, inputs["sample_grids"](config, False, dataset="mnist"))) == [
        f"results/tiny/samples/mnist/{model}/seed0.npz" for model in ("real", "kaem_is", "vae")
    ]
    histories = inputs["training_health"](config, False, dataset="digits")
    assert [str(path) for path in histories] == [
        f"results/tiny/training/digits/kaem_is/seed{seed}.csv" for seed in (0, 1)
    ]
    times = {str(path) for path in inputs["tradeoff"](config, False, device="cpu")}
    assert "results/tiny/timing/cpu/mnist/vae.json" in times
    assert "results/tiny/metrics/mnist/vae/seed1.json" in times
    assert not any("/cuda/" in path for path in times)


# Commands ---------------------------------------------------------------------------------------


def render(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["paper_figures", *words])
    return paper_figures.cli.main()


@pytest.mark.parametrize("name", [*ARTEFACTS, *MEASURED])
def test_help_of_each_rendering(name, capsys, monkeypatch):
    for words in (["--help"], [name, "--help"]):
        with pytest.raises(SystemExit) as stopped:
            render(monkeypatch, *words)
        assert stopped.value.code == 0
        assert name in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quality", "--config", "absent.yaml"], "absent.yaml: 1 problem"),
        (["loss_curves", "--config", "tiny.yaml", "--dataset", "digts"], "--dataset digts"),
        (["loss_curves", "--config", "tiny.yaml", "--dataset", "svhn"], "svhn: not among digits"),
        (["prior_densities", "--config", "tiny.yaml", "--dataset", "digits"], "no records"),
        (["all", "--config", "tiny.yaml"], "results/tiny: no records are there"),
        (["bench"], "make bench"),
    ],
    ids=["no file", "unknown", "another dataset", "no run", "no run at all", "nothing measured"],
)
def test_rendering_refuses_with_one_message(folder, capsys, monkeypatch, words, message):
    write_config(folder / "tiny.yaml")
    assert render(monkeypatch, *words) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert [path.name for path in folder.rglob("*")] == ["tiny.yaml"]


@pytest.mark.usefixtures("folder")
def test_a_damaged_record_is_not_rendered(capsys, monkeypatch):
    config = write_config(Path("tiny.yaml"))
    path = write_training(load_config(config), "vae", 1.0, dataset="digits").path
    path.write_text(json.dumps(json.loads(path.read_text()) | {"wall_time_s": 0.5}))
    assert render(monkeypatch, "quality", "--config", "tiny.yaml") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ")
    assert "edited or damaged" in error


@pytest.mark.usefixtures("folder")
def test_a_rendering_says_its_files_and_knows_its_devices(capsys, monkeypatch):
    write_training(load_config(write_config(Path("tiny.yaml"))), "vae", 1.0, dataset="digits")
    assert render(monkeypatch, "quality", "--config", "tiny.yaml") == 0
    assert "results/tiny/tables/quality.md\n" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        render(monkeypatch, "tradeoff", "--config", "tiny.yaml", "--device", "tpu")
    assert "invalid choice: 'tpu'" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_all_leaves_out_what_has_no_records(capsys):
    config = shapes_config({"models": {"kaem_is": MODEL_SETTINGS["kaem_is"]}})
    render_all(config)
    lines = capsys.readouterr().err.splitlines()
    assert "tiny quality" in lines
    assert "tiny tradeoff cpu" in lines
    reason = "left out: tiny: no prior densities of shapes are stored"
    assert f"tiny prior_densities shapes: {reason}" in lines
    assert len(lines) == len(set(lines))
