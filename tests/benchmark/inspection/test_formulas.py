"""Formulas: what is in the library is found again, and an error is what it says."""

import re

import numpy as np
import pytest

from benchmark.inspection.formulas import FORMS, fit_formula

Z = np.linspace(-4, 4, 200)
WEIGHTS = np.exp(-0.25 * Z**2)

CURVES = {
    "constant": np.full_like(Z, 1.5),
    "linear": 0.5 - 2 * Z,
    "quadratic": 1 + Z - 0.4 * Z**2,
    "cubic": 1 - Z + 0.2 * Z**2 + 0.3 * Z**3,
    "absolute": 2 - 1.5 * np.abs(Z - 0.7),
    "sine": 1 + 0.8 * np.sin(2 * Z + 0.5),
    "exponential": -1 + 0.5 * np.exp(0.9 * Z),
    "tanh": 0.3 + 2 * np.tanh(1.5 * (Z + 0.4)),
    "bump": 0.2 + 3 * np.exp(-0.5 * (1.2 * (Z - 0.6)) ** 2),
}


def value_of(formula: str, z: np.ndarray) -> np.ndarray:
    """The formula as a reader would type it into a calculator."""
    text = formula.replace("z²", "z**2").replace("z³", "z**3").replace("²", "**2")
    text = re.sub(r"\|([^|]*)\|", r"abs(\1)", text)
    text = re.sub(r"(?<=\d) (?=[a-z(])", "*", text)  # a space between factors
    names = {"z": z, "abs": np.abs, "sin": np.sin, "exp": np.exp, "tanh": np.tanh}
    return eval(text.replace("exp(-(", "exp(-1*("), {"__builtins__": {}}, names) + 0 * z


def test_every_form_is_tried():
    assert CURVES.keys() == FORMS.keys()


@pytest.mark.parametrize("form", CURVES)
def test_a_function_of_the_library_is_found_again(form):
    fit = fit_formula(Z, CURVES[form], WEIGHTS)
    assert fit.form == form
    assert fit.relative_error < 1e-3
    np.testing.assert_allclose(fit.curve, CURVES[form], atol=0.01 * np.ptp(CURVES[form]) + 1e-9)
    # Three digits of each number, where the weights are.
    seen = np.abs(Z) < 3
    tolerance = 0.03 * np.abs(CURVES[form]).max()
    np.testing.assert_allclose(value_of(fit.formula, Z)[seen], CURVES[form][seen], atol=tolerance)


def test_the_errors_are_weighted_and_relative_to_the_spread():
    rough = np.sign(np.sin(9 * Z))
    fit = fit_formula(Z, 3 * Z + rough, WEIGHTS)
    weights = WEIGHTS / WEIGHTS.sum()
    left, values = 3 * Z + rough - fit.curve, 3 * Z + rough
    assert fit.error == pytest.approx(np.sqrt(weights @ left**2))
    spread = np.sqrt(weights @ values**2 - (weights @ values) ** 2)
    assert fit.relative_error == pytest.approx(fit.error / spread)
    assert 0.5 < fit.error < 1.1  # the rough part is in no form of the library


def test_a_simple_form_is_kept_where_a_rich_one_gains_little():
    """A straight line with a ripple: a cubic comes closer, by less than its parameters cost."""
    values = Z + 0.3 * np.sin(9 * Z)
    cubic = np.polynomial.polynomial.Polynomial.fit(Z, values, 3, w=np.sqrt(WEIGHTS))
    fit = fit_formula(Z, values, WEIGHTS)
    assert fit.form == "linear"
    assert WEIGHTS @ (cubic(Z) - values) ** 2 < WEIGHTS @ (fit.curve - values) ** 2


@pytest.mark.parametrize("form", ["linear", "tanh"])  # without and with inner parameters
def test_what_has_no_weight_does_not_count(form):
    values = np.where(Z > 2, 50.0, CURVES[form])
    fit = fit_formula(Z, values, np.where(Z > 2, 0.0, 1.0))
    assert fit.form == form
    assert fit.error == pytest.approx(0, abs=1e-3)
