"""The three posterior samplers' gradients of log p(x) against dense quadrature.

The seeds are fixed; the margins are many of the standard errors ("noise") that are measured.
"""

from functools import cache

import pytest

from studies.gradient_bias import (
    Case,
    exact_integral,
    importance,
    langevin,
    measure,
    population,
    shown_bias,
    toy,
)

COPIES = 250  # a quarter of the study's, for twice its noise


@cache
def bias(make, *settings) -> float:
    copies = () if make is importance else (COPIES,)
    case: Case = make(*settings, *copies)
    return measure(*toy(), case)["bias"]


def ula(steps: int, step_size: float = 0.04) -> float:
    return bias(langevin, "ula", steps, step_size)


def test_importance_sampling_loses_its_bias_as_one_over_s():
    assert 0.03 < bias(importance, 10) < 0.15
    assert bias(importance, 1000) < 0.01


def test_more_langevin_steps_leave_less_of_the_start():
    biases = [ula(steps) for steps in (1, 4, 16, 64)]
    assert biases == sorted(biases, reverse=True)
    assert biases[0] > 0.7
    assert biases[-1] < 0.15


def test_a_small_step_needs_more_steps():
    assert ula(64, 0.01) > 2 * ula(64)


@pytest.mark.parametrize("steps", [16, 64])
def test_mala_agrees_with_ula(steps):
    assert bias(langevin, "mala", steps, 0.04) == pytest.approx(ula(steps), abs=0.05)


def test_a_population_forgets_the_start_sooner_than_one_chain():
    # Sixteen steps at eta = 0.01 leave a single chain with over half of its bias.
    assert all(bias(population, temperatures) < 0.3 for temperatures in (1, 2, 4, 8))
    assert bias(population, 8) < bias(population, 1)


def test_the_integral_objective_is_biased_in_the_decoder_alone_however_many_temperatures():
    biases = [exact_integral(*toy(), 400, power) for power in (2.0, 1.0)]
    assert biases[0]["bias"] == pytest.approx(biases[1]["bias"], abs=0.01)  # the integral itself
    assert biases[0]["bias"] > 0.25
    assert biases[0]["prior_bias"] < 1e-9


def test_a_bias_that_noise_could_hide_is_only_bounded():
    assert shown_bias({"bias": 0.05, "noise": 0.02}) == "5.0%"
    assert shown_bias({"bias": 0.03, "noise": 0.02}) == "< 4.0%"
