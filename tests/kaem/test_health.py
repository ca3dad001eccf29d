"""Warnings about trainings that run but do not learn."""

import logging

import pytest
import torch
from support.images import bars

from kaem import KAEM
from kaem.health import PATIENCE, SYMPTOMS, HealthWatch

# An ill value, a well one at the limit's other side, and words of the advice.
CASES = {
    "ess": (1.1, 1.11, "Use more proposals, fewer latents, a larger sigma"),
    "acceptance": (0.099, 0.1, "Lower step_size"),
    "outside": (0.051, 0.05, "Widen the domain, let domain_update move it"),
    "stiffness": (1.01, 1.0, 'Lower step_size, raise sigma, or take the kernel "mala"'),
}
cases = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def warnings(caplog):
    """The messages that the logger "kaem" has taken so far."""
    caplog.set_level(logging.WARNING, logger="kaem")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "kaem"]


def see(values: list[float], name: str, watch: HealthWatch | None = None, first: int = 1) -> None:
    watch = watch or HealthWatch()
    for update, value in enumerate(values, first):
        watch.see(update, {name: value, "log_likelihood": -1.0})


def test_every_symptom_is_tested():
    assert CASES.keys() == SYMPTOMS.keys()
    assert PATIENCE == 100


@cases
def test_a_spell_gives_one_warning_that_names_the_updates(name, warnings):
    ill, _, advice = CASES[name]
    see([ill] * 99, name)
    assert warnings() == []
    see([ill] * 350, name)
    (message,) = warnings()
    assert message.startswith("updates 1 to 100: ")
    assert advice in message


@cases
def test_an_interruption_starts_the_count_again(name, warnings):
    ill, well, _ = CASES[name]
    see([*[ill] * 99, well, *[ill] * 99], name)
    assert warnings() == []
    see([*[ill] * 99, well, *[ill] * 100], name)
    (message,) = warnings()
    assert message.startswith("updates 101 to 200: ")


@cases
def test_a_second_spell_warns_again(name, warnings):
    ill, well, _ = CASES[name]
    see([*[ill] * 150, well, *[ill] * 150], name)
    assert [m.split(":")[0] for m in warnings()] == ["updates 1 to 100", "updates 152 to 251"]


@cases
def test_the_well_are_left_alone(name, warnings):
    see([CASES[name][1]] * 300, name)
    watch = HealthWatch()
    for update in range(1, 300):
        watch.see(update, {})  # a model without this value
    assert warnings() == []


def test_symptoms_are_counted_apart(warnings):
    watch = HealthWatch()
    for update in range(1, 121):
        watch.see(update, {"acceptance": 0.0, "outside": 1.0 if update > 20 else 0.0})
    assert [m.split(":")[0] for m in warnings()] == ["updates 1 to 100", "updates 21 to 120"]


def model(sampler: dict, **changes) -> KAEM:
    settings = {
        "prior": {"kind": "mixture", "q": 3, "p": 1, "grid_size": 5, "n_nodes": 20},
        "decoder": {"kind": "conv", "width": 4},
        "sigma": 0.3,
        "sampler": sampler,
    }
    return KAEM.from_settings(settings | changes, (1, 4, 4))


@pytest.mark.parametrize(
    ("sampler", "changes", "advice"),
    [
        # Two proposals under a likelihood this narrow: one always outweighs the other.
        ({"kind": "importance", "proposals": 2}, {"sigma": 0.0001}, "Use more proposals"),
        ({"kind": "langevin", "kernel": "mala", "step_size": 1e3}, {}, "Lower step_size"),
        ({"kind": "langevin", "step_size": 1e3}, {}, "Widen the domain"),
    ],
    ids=["ess", "acceptance", "outside"],
)
def test_a_sick_training_is_noticed(sampler, changes, advice, warnings):
    trained = model(sampler, **changes)
    draws, messages = torch.Generator().manual_seed(0), []
    for update in range(1, 131):
        trained.loss(bars(4, (1, 4, 4), draws), draws, torch.arange(4))
        trained.after_update(update, 130)
        messages.append(len([m for m in warnings() if advice in m]))
    assert messages == [0] * 99 + [1] * 31
    assert next(m for m in warnings() if advice in m).startswith("updates 1 to 100: ")


def test_a_sound_training_logs_nothing(warnings):
    trained = model({"kind": "importance", "proposals": 200})
    draws = torch.Generator().manual_seed(0)
    for update in range(1, 131):
        trained.loss(bars(4, (1, 4, 4), draws), draws)
        trained.after_update(update, 130)
    assert warnings() == []
