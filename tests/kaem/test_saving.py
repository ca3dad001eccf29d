"""A model as a folder: what comes back, what is refused, and what an interruption leaves."""

import contextlib
import copy
import json
import pickletools
from pathlib import Path

import pytest
import torch
from reference.linear_gaussian import linear_gaussian_model
from safetensors.torch import load_file, save_file
from support.images import bars
from torch.nn.utils.parametrizations import weight_norm

from kaem import KAEM, load, save
from kaem.bases import BASES
from kaem.errors import NonFiniteError
from kaem.priors import PRIORS
from kaem.reference import REFERENCES
from kaem.saving import SETTINGS, STATE

IMAGE_SHAPE = (1, 8, 8)
SAMPLERS = {
    "importance": {"kind": "importance", "proposals": 100, "survivors": 5},
    "langevin": {"kind": "langevin", "steps": 3, "step_size": 0.02},
    "thermodynamic": {"kind": "thermodynamic", "temperatures": 3, "respace_every": 2},
}


CONV = {"kind": "conv", "width": 4}


def trained(
    sampler="langevin", prior="mixture", seed=0, updates=3, decoder=CONV, copula=None, **options
) -> KAEM:
    """A model after a few updates, none of its parameters as it was built."""
    torch.manual_seed(seed)
    settings = {
        "prior": {"kind": prior, "q": 3, "p": 2, "grid_size": 8, "n_nodes": 50, **options},
        "decoder": decoder,
        "sigma": 0.3,
        "sampler": SAMPLERS[sampler],
        "domain_update": {"every": 2, "margin": 0.05},
        **({"copula": copula} if copula else {}),
    }
    model = KAEM.from_settings(settings, IMAGE_SHAPE)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    draws = torch.Generator().manual_seed(seed)
    for update in range(1, updates + 1):
        model.loss(bars(8, IMAGE_SHAPE, draws), draws, torch.arange(8))[0].backward()
        optimiser.step()
        model.after_update(update, updates)
    return model


def check_same(one: KAEM, other: KAEM) -> None:
    seeded = torch.Generator().manual_seed
    assert one.prior.domain == other.prior.domain
    assert one.updates_done == other.updates_done
    assert torch.equal(one.sample(20, seeded(1)), other.sample(20, seeded(1)))
    z = one.prior.sample(50, seeded(2))
    assert torch.equal(one.prior.log_prob(z), other.prior.log_prob(z))
    assert one.state_dict().keys() == other.state_dict().keys()
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_a_loaded_kan_decoder_has_its_grids_where_they_were(tmp_path):
    model = trained(prior="univariate", decoder={"kind": "kan"})
    save(model, tmp_path)
    with torch.no_grad():
        model.decoder.layers[1].basis.place((-7.0, 5.0))
    save(model, tmp_path)
    loaded = load(tmp_path)
    check_same(model, loaded)
    assert loaded.decoder.layers[1].basis.domain == (-7.0, 5.0)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("basis", BASES)
def test_a_loaded_model_is_the_saved_one(sampler, prior, basis, tmp_path):
    model = trained(sampler, prior, basis=basis)
    assert model.prior.domain != (-4.0, 4.0)
    if sampler == "thermodynamic":  # as re-spacing would
        model.chains.temperatures.copy_(torch.tensor([0.0, 0.2, 0.5, 1.0]))
    save(model, tmp_path / "some" / "model")
    torch.manual_seed(99)
    loaded = load(tmp_path / "some" / "model")
    check_same(model, loaded)
    assert loaded.sampler == model.sampler
    assert (loaded.sigma, loaded.domain_update) == (model.sigma, model.domain_update)
    if sampler == "thermodynamic":
        assert torch.equal(loaded.chains.temperatures, model.chains.temperatures)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prior", PRIORS)
def test_a_loaded_copula_is_the_saved_one(sampler, prior, tmp_path):
    copula = {"components": 3, "first": 2, "draws": 16, "iterations": 2, "in_chains": False}
    model = trained(sampler, prior, copula=copula)
    save(model, tmp_path)
    loaded = load(tmp_path)
    check_same(model, loaded)
    assert loaded.copula_fit == model.copula_fit
    fresh = KAEM.from_settings(*model.origin)
    assert not torch.equal(loaded.prior.mixture.means, fresh.prior.mixture.means)


@pytest.mark.parametrize("reference", REFERENCES)
def test_every_reference_density_comes_back(reference, tmp_path):
    domain = (0.1, 4.0) if reference == "lognormal" else (-3.0, 3.0)
    model = trained(reference=reference, domain=domain)
    save(model, tmp_path)
    check_same(model, load(str(tmp_path)))


def test_a_loaded_model_can_be_trained_and_saved_again(tmp_path, seeded):
    save(trained(), tmp_path / "first")
    model = load(tmp_path / "first")
    assert model.chains.store.table is None  # the chains belong to the training
    assert model.updates_done == 3
    with pytest.raises(NonFiniteError, match=r"^update 4: "):  # errors go on counting
        model.loss(bars(8, IMAGE_SHAPE, seeded()) / 0, seeded(), torch.arange(8))
    model.loss(bars(8, IMAGE_SHAPE, seeded()), seeded(), torch.arange(8))[0].backward()
    save(model, tmp_path / "second")
    check_same(model, load(tmp_path / "second"))
    first, second = ((tmp_path / name / SETTINGS).read_text() for name in ("first", "second"))
    assert first == second


def test_the_settings_are_readable_and_nothing_is_pickled(tmp_path):
    model = trained()
    save(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [SETTINGS, STATE]
    text = (tmp_path / SETTINGS).read_text()
    described = json.loads(text)
    assert described["image_shape"] == [1, 8, 8]
    assert described["updates_done"] == 3
    assert described["settings"]["prior"]["q"] == 3
    assert len(text.splitlines()) > 10
    # The state starts with the length of a JSON header: the format cannot hold code.
    content = (tmp_path / STATE).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header.keys() - {"__metadata__"} == model.state_dict().keys()
    with pytest.raises(ValueError, match=r"opcode|pickle"):
        list(pickletools.genops(content))


# Folders that hold no model ----------------------------------------------------------------------


def rewrite(folder, **changes) -> None:
    described = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps(described | changes))


def other_prior(folder) -> None:
    settings = json.loads((folder / SETTINGS).read_text())["settings"]
    settings["prior"]["q"] = 4
    rewrite(folder, settings=settings)


def change_settings(change):
    """Changes the settings, and nothing of the state."""

    def changed(folder) -> None:
        settings = json.loads((folder / SETTINGS).read_text())["settings"]
        change(settings)
        rewrite(folder, settings=settings)

    return changed


def truncate(path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def lose_a_tensor(folder) -> None:
    state = load_file(folder / STATE)
    del state["prior.nodes"]
    save_file(state, folder / STATE)


BROKEN = {
    "no settings": lambda folder: (folder / SETTINGS).unlink(),
    "no state": lambda folder: (folder / STATE).unlink(),
    "state cut in its tensors": lambda folder: truncate(folder / STATE, 0.5),
    "state cut in its header": lambda folder: truncate(folder / STATE, 0.001),
    "an empty state": lambda folder: truncate(folder / STATE, 0),
    "settings cut": lambda folder: truncate(folder / SETTINGS, 0.5),
    "another format": lambda folder: rewrite(folder, format="kaem 99"),
    "no format": lambda folder: (folder / SETTINGS).write_text("{}"),
    "no mapping": lambda folder: (folder / SETTINGS).write_text("[1, 2]"),
    "no count of updates": lambda folder: rewrite(folder, updates_done=None),
    "no image shape": lambda folder: rewrite(folder, image_shape=None),
    "unknown settings": lambda folder: rewrite(folder, settings={"prior": {"kind": "nope"}}),
    "another prior": other_prior,
    "a tensor lost": lose_a_tensor,
    # Building such a model would take all memory, or for ever.
    "a huge prior": change_settings(lambda s: s["prior"].update(q=10**9, p=10**6)),
    "a huge copula": change_settings(lambda s: s.update(copula={"components": 10**12})),
    "a huge decoder": change_settings(lambda s: s["decoder"].update(width=10**8)),
    "a huge image": lambda folder: rewrite(folder, image_shape=[1, 4 * 10**6, 4 * 10**6]),
    "a number beyond integers": change_settings(lambda s: s["prior"].update(n_nodes=10**40)),
    "settings in settings": lambda folder: (folder / SETTINGS).write_text("[" * 100_000),
    "a list as settings": lambda folder: rewrite(folder, settings=[1]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_model_is_refused_by_name(name, tmp_path):
    folder = tmp_path / "my model"
    save(trained(), folder)
    BROKEN[name](folder)
    with pytest.raises(ValueError, match=r"my model: cannot be loaded as a KAEM: .") as error:
        load(folder)
    if name == "another format":
        assert "its format is 'kaem 99', not 'kaem 3'" in str(error.value)
    if name == "no state":
        assert STATE in str(error.value)
    if name == "another prior":
        assert "does not fit model.json in decoder.linear.weight" in str(error.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: cannot be loaded as .*: no model.json, which"):
        load(tmp_path / "nowhere")


def test_a_model_without_settings_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match=r"only a model that KAEM\.from_settings made"):
        save(linear_gaussian_model(1), tmp_path / "model")
    assert not (tmp_path / "model").exists()


PARTS = {
    "decoder": lambda model: setattr(model, "decoder", torch.nn.Linear(3, 64)),
    "parametrised": lambda model: weight_norm(model.decoder.linear),
    "prior": lambda model: setattr(model, "prior", PRIORS["mixture"](3, 1)),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_model_that_load_would_refuse_is_not_saved(part, tmp_path):
    model = trained()
    save(model, tmp_path)
    PARTS[part](model)
    with pytest.raises(ValueError, match="the model is no longer the one of its settings: "):
        save(model, tmp_path)
    check_same(load(tmp_path), trained())


def test_saving_draws_no_random_numbers_and_leaves_the_settings(tmp_path):
    model = trained()
    before, origin = torch.get_rng_state(), copy.deepcopy(model.origin)
    save(model, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.origin == origin


def test_the_sigma_of_the_moment_is_saved(tmp_path):
    model = trained()
    model.sigma = torch.tensor(0.5)
    save(model, tmp_path)
    assert load(tmp_path).sigma == 0.5


@pytest.mark.parametrize("name", ["file", "file/model"])
def test_a_file_in_the_way_is_named(name, tmp_path):
    (tmp_path / "file").write_text("something else")
    with pytest.raises(OSError, match=f"{tmp_path / name}'"):
        save(trained(), tmp_path / name)
    assert (tmp_path / "file").read_text() == "something else"


# Interruptions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_model(error, monkeypatch, tmp_path):
    old = trained(seed=0)
    save(old, tmp_path)

    whole = Path.write_bytes

    def half(path, content):
        whole(path, content[: len(content) // 2])
        raise error

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(type(error)):
        save(trained(seed=1), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [SETTINGS, STATE]
    check_same(old, load(tmp_path))
    with pytest.raises(type(error)):
        save(old, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


class Killed(BaseException):
    """The process ends here."""


def killed_save(model: KAEM, folder, steps: int) -> None:
    """A save whose process is killed after so many of its three steps; it cleans nothing up."""
    done, replace = [], Path.replace

    def step(path, target):
        if len(done) == steps:
            raise Killed
        done.append(target)
        return replace(path, target)

    with pytest.MonkeyPatch.context() as patched, contextlib.suppress(Killed):
        patched.setattr(Path, "replace", step)
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        save(model, folder)
    assert len(done) == steps


@pytest.mark.parametrize("second", range(4))
@pytest.mark.parametrize("first", range(4))
def test_saves_that_are_killed_leave_the_old_or_the_new_model(first, second, tmp_path):
    models = trained(seed=0), trained(prior="univariate", seed=1), trained(seed=2)
    save(models[0], tmp_path)
    (tmp_path / "model.fp16.safetensors").write_bytes(b"not ours")
    expected = models[0]
    for model, steps in zip(models[1:], (first, second), strict=True):
        killed_save(model, tmp_path, steps)
        expected = model if steps >= 2 else expected
        check_same(expected, load(tmp_path))
    # The next one tidies up, and leaves alone what is not its own.
    save(models[0], tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["model.fp16.safetensors", SETTINGS, STATE]
    check_same(models[0], load(tmp_path))


def test_saving_over_a_model_replaces_it(tmp_path):
    save(trained(seed=0), tmp_path)
    new = trained(prior="univariate", seed=1)
    save(new, tmp_path)
    check_same(new, load(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
