"""The registry: names, lazily imported classes, and what goes with each name."""

import json
from itertools import product

import pytest
import torch
from support.configs import MODEL_SETTINGS, RUN_CONFIGS, loaded_by, tiny_config

from baselines.diffusion import Diffusion
from baselines.vae import VAE
from benchmark.base.errors import ConfigError
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


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("kaem_ula", "prior"),
        ("two_stage_vae", "second"),
        ("latent_ebm", "energy"),
        ("latent_ebm_thermo", "energy"),
    ],
)
def test_a_part_learns_at_the_rate_that_an_entry_names(name, part):
    def values(rate):
        return tiny_config({f"models.{name}": MODEL_SETTINGS[name] | {f"{part}_rate": rate}})

    model = build(name, values(3).model_settings("digits", name), (1, 8, 8))
    assert model.learning_rate_factors == {part: 3.0}
    with pytest.raises(ConfigError, match=f"{part}_rate: 0 is less than or equal to"):
        values(0)


def test_weights_come_from_the_global_generator():
    settings = tiny_config().model_settings("digits", "vae")

    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build("vae", settings, (1, 8, 8)).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_every_committed_entry_builds_and_draws():
    # The schema cannot know all that a model refuses, such as a width that is odd.
    decoders = {}
    for name, settings, shape in committed_entries():
        with torch.device("meta"):
            model = build(name, settings, shape)
        draws = getattr(model, "decoder", model)  # entries whose decoders are alike draw alike
        key = [type(model), type(getattr(model, "prior", None)), shape]
        key += [tuple(parameter.shape) for parameter in draws.parameters()]
        decoders.setdefault(tuple(key), (name, settings, shape))
    for name, settings, shape in decoders.values():
        model = build(name, settings, shape)
        if isinstance(model, Diffusion):
            model.steps = 1
        with torch.no_grad():
            image = model.sample(1, torch.Generator().manual_seed(0))
        assert image.shape == (1, *shape)


def committed_entries() -> list[tuple[str, dict, tuple[int, ...]]]:
    """Return (model, settings, image shape) of each entry of every run, none of them twice."""
    found = {}
    for config in map(load_config, RUN_CONFIGS):
        for dataset, entry in product(config.datasets, config.models):
            settings = config.model_settings(dataset, config.trained_entry(entry))
            # One step is as good as a thousand for whether a network fits: they are alike.
            settings = settings | dict.fromkeys({"sample_steps"} & settings.keys(), 1)
            shape = tuple(config.facts(dataset).image_shape)
            item = (config.architecture(entry), settings, shape)
            found[json.dumps(item)] = item
    return list(found.values())


def test_naming_models_imports_none():
    script = (
        "import benchmark.config.registry; print({'torch', 'kaem', 'baselines'} & set(sys.modules))"
    )
    assert loaded_by(script) == "set()"
