"""A formula for a curve: the best of a small library of functions of one variable.

Each form is linear in some coefficients and has at most two inner parameters. For given inner
ones the coefficients are a linear least-squares problem, so only the inner ones are searched
(variable projection, Golub & Pereyra 1973): on a coarse grid, then by least squares from its best
points.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import least_squares

STARTS = 3  # points of the grid from which the inner parameters are refined
# A curve has no noise to count by. The Bayesian information criterion is taken as if it were seen
# at so many independent points, with noise of so small a share of its spread: each more parameter
# must lower the squared error by 4.5%, and errors below a thousandth are as good as none.
POINTS, FLOOR = 100, 1e-3


@dataclass(frozen=True)
class Form:
    """A family of curves.

    Attributes:
        features: (z, *inner) -> the functions that are combined with a constant.
        inner: (middle, spread) of the weighted points -> the grid of each inner parameter.
        text: (coefficients, *inner) -> the formula.
    """

    features: Callable[..., list[np.ndarray]]
    text: Callable[..., str]
    inner: Callable[[float, float], list] = lambda _middle, _spread: []


def _rates(spread: float) -> np.ndarray:
    return np.array([0.25, 0.5, 1.0, 2.0, 4.0]) / spread


def _places(middle: float, spread: float) -> np.ndarray:
    return middle + spread * np.linspace(-2, 2, 9)


def _polynomial(coefficients) -> str:
    powers = ("", " z", " z²", " z³")
    return _sum(*(f"{c:.3g}{power}" for c, power in zip(coefficients, powers, strict=False)))


def _sum(*terms: str) -> str:
    """Join terms that begin with their sign, if it is a minus."""
    return terms[0] + "".join(f" - {t[1:]}" if t[0] == "-" else f" + {t}" for t in terms[1:])


def _shifted(place: float) -> str:
    return _sum("z", f"{-place:.3g}")


FORMS = {
    "constant": Form(lambda z: [], _polynomial),  # noqa: ARG005
    "linear": Form(lambda z: [z], _polynomial),
    "quadratic": Form(lambda z: [z, z**2], _polynomial),
    "cubic": Form(lambda z: [z, z**2, z**3], _polynomial),
    "absolute": Form(
        lambda z, c: [np.abs(z - c)],
        lambda b, c: _sum(f"{b[0]:.3g}", f"{b[1]:.3g} |{_shifted(c)}|"),
        lambda m, s: [_places(m, s)],
    ),
    "sine": Form(  # sine and cosine alike: the phase is free
        lambda z, w: [np.sin(w * z), np.cos(w * z)],
        lambda b, w: _sum(
            f"{b[0]:.3g}",
            f"{np.hypot(b[1], b[2]):.3g} sin("
            + _sum(f"{w:.3g} z", f"{np.arctan2(b[2], b[1]):.3g}")
            + ")",
        ),
        lambda _m, s: [np.linspace(0.5, 6.0, 12) / s],
    ),
    "exponential": Form(
        lambda z, w: [np.exp(w * z)],
        lambda b, w: _sum(f"{b[0]:.3g}", f"{b[1]:.3g} exp({w:.3g} z)"),
        lambda _m, s: [np.concatenate([-_rates(s), _rates(s)])],
    ),
    "tanh": Form(
        lambda z, w, c: [np.tanh(w * (z - c))],
        lambda b, w, c: _sum(f"{b[0]:.3g}", f"{b[1]:.3g} tanh({w:.3g} ({_shifted(c)}))"),
        lambda m, s: [_rates(s), _places(m, s)],
    ),
    "bump": Form(
        lambda z, w, c: [np.exp(-0.5 * (w * (z - c)) ** 2)],
        lambda b, w, c: _sum(f"{b[0]:.3g}", f"{b[1]:.3g} exp(-({w:.3g} ({_shifted(c)}))²/2)"),
        lambda m, s: [_rates(s), _places(m, s)],
    ),
}


@dataclass(frozen=True)
class Fit:
    """A formula.

    Attributes:
        form: its name in `FORMS`.
        formula: as text, in z.
        error: root of the weighted mean square of what it leaves.
        relative_error: that, as a share of the curve's weighted standard deviation; 1 is no better
            than a constant.
        curve: (n,), its values at the points.
    """

    form: str
    formula: str
    error: float
    relative_error: float
    curve: np.ndarray


def fit_formula(z: np.ndarray, values: np.ndarray, weights: np.ndarray) -> Fit:
    """Choose the form of `FORMS` with the least Bayesian information criterion, at its best.

    Args:
        z, values: (n,), the curve.
        weights: (n,), what each point counts, at least 0: a density of z, say.
    """
    weights = weights / weights.sum()
    middle = float(weights @ z)
    spread = float(np.sqrt(weights @ (z - middle) ** 2))
    deviation = float(np.sqrt(weights @ (values - weights @ values) ** 2))
    floor = FLOOR * deviation + 1e-9
    best = None
    for name, form in FORMS.items():
        grids = form.inner(middle, spread)
        inner = _inner_parameters(form, grids, z, values, weights)
        coefficients, curve = _project(form, inner, z, values, weights)
        error = float(np.sqrt(weights @ (values - curve) ** 2))
        count = len(coefficients) + len(inner)
        criterion = POINTS * np.log(error**2 + floor**2) + count * np.log(POINTS)
        if best is None or criterion < best[0]:
            formula = form.text(coefficients, *inner)
            relative = error / deviation if deviation > 1e-9 else 0.0
            best = criterion, Fit(name, formula, error, relative, curve)
    return best[1]


def _inner_parameters(form: Form, grids: list, z, values, weights) -> np.ndarray:
    if not grids:
        return np.empty(0)
    low, high = ([extreme(grid) for grid in grids] for extreme in (np.min, np.max))

    def left(inner) -> np.ndarray:
        return np.sqrt(weights) * (values - _project(form, inner, z, values, weights)[1])

    points = [np.array(point) for point in product(*grids)]
    points.sort(key=lambda point: float(np.square(left(point)).sum()))
    tries = [least_squares(left, point, bounds=(low, high)) for point in points[:STARTS]]
    return min(tries, key=lambda fit: fit.cost).x


def _project(form: Form, inner, z, values, weights) -> tuple[np.ndarray, np.ndarray]:
    """Fit the coefficients for these inner parameters; return them and their curve."""
    design = np.stack([np.ones_like(z), *form.features(z, *inner)], axis=1)
    root = np.sqrt(weights)
    coefficients, *_ = np.linalg.lstsq(root[:, None] * design, root * values, rcond=None)
    return coefficients, design @ coefficients
