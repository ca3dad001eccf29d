"""The registry: names, lazily imported classes, and what goes with each name."""

import json

import pytest
import torch
from support.configs import RUN_CONFIGS, loaded_by, tiny_config

from baselines.diffusion import Diffusion
from baselines.vae import VAE
from benchmark.config.config import load_config
from benchmark.config.registry import MODELS, VARIANTS, build
from kaem import KAEM, MixturePrior, UnivariatePrior


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_typed_settings(name):
    spec = MODELS[name]
    # What every entry may say, whatever its model.
    assert {"model", "label", "training"} <= spec.entry.model_fields.keys()
    assert ("decoder" in spec.entry.model_fields) == spec.decoder
    assert spec.variant is None or {"weights_of", "label"} <= spec.variant.model_fields.keys()


def test_no_two_models_look_alike():
    for look in ("label", "colour"):
        looks = [getattr(spec, look) for spec in (*MODELS.values(), *VARIANTS.values())]
        assert len(set(looks)) == len(looks)


@pytest.mark.parametrize(
    ("name", "kind", "prior"),
    [
        ("kaem_is", KAEM, MixturePrior),
        ("kaem_is_univariate", KAEM, UnivariatePrior),
        ("vae", VAE, None),
    ],
)
def test_a_name_builds_its_class(name, kind, prior):
    values = tiny_config({"models.kaem_is_univariate": kaem_settings()})
    settings = values.model_settings("digits", name)
    model = build(name, settings, (1, 8, 8))
    assert type(model) is kind
    assert type(getattr(model, "prior", None)) is (prior or type(None))


def kaem_settings() -> dict:
    return tiny_config().values["models"]["kaem_is"]


def test_weights_come_from_the_global_generator():
    settings = tiny_config().model_settings("digits", "vae")

    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build("vae", settings, (1, 8, 8)).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("path", RUN_CONFIGS, ids=lambda path: path.stem)
def test_every_committed_entry_builds(path):
    # The schema cannot know all that a model refuses, such as a width that is odd.
    config = load_config(path)
    shapes = {}
    for dataset in config.datasets:
        for entry in config.models:
            settings = config.model_settings(dataset, config.trained_entry(entry))
            shape = config.facts(dataset).image_shape
            shapes[json.dumps([config.architecture(entry), settings, shape])] = shape
    for text, shape in shapes.items():
        name, settings, _ = json.loads(text)
        # One step is as good as a thousand for whether a network fits: they are alike.
        model = build(name, settings | dict.fromkeys({"sample_steps"} & settings.keys(), 1), shape)
        if isinstance(model, Diffusion):
            model.steps = 1
        with torch.no_grad():
            image = model.sample(1, torch.Generator().manual_seed(0))
        assert image.shape == (1, *shape)


def test_naming_models_imports_none():
    script = (
        "import benchmark.config.registry; print({'torch', 'kaem', 'baselines'} & set(sys.modules))"
    )
    assert loaded_by(script) == "set()"
