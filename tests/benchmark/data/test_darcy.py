"""Darcy flow: its solver against known solutions, its field against its modes, and its images."""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve

from benchmark.base.errors import DataError
from benchmark.config.facts import Facts
from benchmark.data.darcy import (
    CELLS,
    gaussian_field,
    grey_levels,
    permeability,
    solution,
    solutions,
    solve,
)
from benchmark.data.dataset import load_dataset

FACTS = {
    "image_shape": [1, 8, 8],
    "layout": "computed.darcy_flow",
    "splits": {"train": {"part": "train", "count": 7}, "test": {"part": "test", "count": 3}},
}


# The solver -------------------------------------------------------------------------------------


def corners(n):
    """Coordinates of the inner corners of n x n cells: x (n - 1, 1), y (1, n - 1)."""
    inner = np.arange(1, n) / n
    return inner[:, None], inner[None]


def constant_coefficient(n):
    """-2 Laplace u = 1: the sine series of u, by modes far beyond the grid's."""
    odd = np.arange(1, 400, 2)
    sines = np.sin(np.pi * odd * corners(n)[0])
    weights = 16 / (np.pi**4 * odd[:, None] * odd * (odd[:, None] ** 2 + odd**2)) / 2
    return np.full((n, n), 2.0), np.ones(()), sines @ weights @ sines.T


def smooth_coefficient(n):
    """u = sin(pi x) sin(2 pi y) for a = 2 + sin(3 x + y): the source is -div(a grad u)."""
    centres = (np.arange(n) + 0.5) / n
    x, y = corners(n)
    pi, a, slope = np.pi, 2 + np.sin(3 * x + y), np.cos(3 * x + y)
    u = np.sin(pi * x) * np.sin(2 * pi * y)
    gradient = (
        pi * np.cos(pi * x) * np.sin(2 * pi * y),
        2 * pi * np.sin(pi * x) * np.cos(2 * pi * y),
    )
    source = 5 * pi**2 * a * u - slope * (3 * gradient[0] + gradient[1])
    return 2 + np.sin(3 * centres[:, None] + centres), source, u


@pytest.mark.parametrize("problem", [constant_coefficient, smooth_coefficient])
def test_known_solutions_are_met_with_order_two(problem):
    errors = []
    for n in (16, 32, 64):
        a, source, u = problem(n)
        errors.append(np.abs(solve(a, source) - u).max() / np.abs(u).max())
    assert errors[-1] < 2e-3
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders == pytest.approx([2, 2], abs=0.1)


def test_a_jumping_coefficient_is_solved_as_by_a_matrix():
    n = 16
    a = permeability(5, n)
    number = np.full((n + 1, n + 1), -1)
    number[1:-1, 1:-1] = np.arange((n - 1) ** 2).reshape(n - 1, n - 1)
    entries = []
    for i, j in np.argwhere(number >= 0):  # cell (i, j) lies between corners (i, j), (i + 1, j + 1)
        for di, dj, beside in (
            (1, 0, (a[i, j - 1], a[i, j])),
            (-1, 0, (a[i - 1, j - 1], a[i - 1, j])),
            (0, 1, (a[i - 1, j], a[i, j])),
            (0, -1, (a[i - 1, j - 1], a[i, j - 1])),
        ):
            weight = n**2 * np.mean(beside)
            entries.append((number[i, j], number[i, j], weight))
            if number[i + di, j + dj] >= 0:
                entries.append((number[i, j], number[i + di, j + dj], -weight))
    rows, columns, weights = zip(*entries, strict=True)
    u = spsolve(coo_array((weights, (rows, columns))).tocsc(), np.ones((n - 1) ** 2))
    assert np.abs(solve(a, np.ones(())).ravel() - u).max() < 1e-11 * u.max()


# The field --------------------------------------------------------------------------------------


def test_the_fields_modes_have_the_variances_of_the_covariance():
    # (-Laplace + 9)^-2 has the eigenfunctions cos(k pi x) cos(l pi y), k and l not both 0. One of
    # 24 variances over n draws is off by 4.5 sqrt(2 / n) with probability 2e-4, one of their 276
    # correlations by 5 / sqrt(n) likewise.
    n, cells, modes = 1000, 16, 5
    draws = np.random.default_rng(0)
    fields = [gaussian_field(draws.standard_normal((8, 8)), cells) for _ in range(n)]
    k, centres = np.arange(modes), (np.arange(cells) + 0.5) / cells
    cosines = np.cos(np.pi * k[:, None] * centres) * np.where(k == 0, 1, np.sqrt(2))[:, None]
    coefficients = np.einsum("ki,nij,lj->nkl", cosines, fields, cosines) / cells**2
    expected = ((k[:, None] ** 2 + k**2) * np.pi**2 + 9.0) ** -2
    ratios = ((coefficients**2).mean(0) / expected).ravel()
    assert ratios[0] < 1e-20  # the constant mode is left out
    assert np.abs(ratios[1:] - 1).max() < 4.5 * np.sqrt(2 / n)
    correlations = np.corrcoef(coefficients.reshape(n, -1)[:, 1:].T) - np.eye(modes**2 - 1)
    assert np.abs(correlations).max() < 5 / np.sqrt(n)


def test_a_finer_grid_has_the_same_field():
    normal = np.random.default_rng(0).standard_normal((4, 4))
    coarse, fine = gaussian_field(normal, 8), gaussian_field(normal, 24)
    assert np.allclose(fine[1::3, 1::3], coarse, rtol=0, atol=1e-12)


def test_the_ground_has_two_permeabilities_in_about_equal_shares():
    grounds = np.stack([permeability(number, 16) for number in range(100)])
    assert set(np.unique(grounds)) == {3.0, 12.0}
    # A field and its negative are as likely; shares have a deviation of 0.06, so that the mean of
    # 100 is off by more than 0.03 with probability 6e-7.
    assert np.mean(grounds == 12) == pytest.approx(0.5, abs=0.03)


# The images -------------------------------------------------------------------------------------


def test_an_image_depends_on_its_number_alone():
    few, many = solutions(3, 8, workers=1), solutions(6, 8, workers=3)
    assert np.array_equal(few, many[:3])
    assert np.array_equal(many[5], solution(5, 8))
    assert len({u.tobytes() for u in many}) == 6


def test_pixels_are_solutions_at_their_centres():
    fine = np.zeros((8 * CELLS + 1,) * 2)
    fine[1:-1, 1:-1] = solve(permeability(2, 8 * CELLS), np.ones(()))
    centres = (np.arange(8) * 2 + 1) * CELLS // 2
    assert np.array_equal(solution(2, 8), fine[np.ix_(centres, centres)])


def test_the_set_is_scaled_as_a_whole_split_and_unlabelled(tmp_path):
    found = load_dataset(Facts.parse("flow", FACTS), tmp_path, tmp_path / "cache")
    assert {split: tuple(x.shape) for split, x in found.images.items()} == {
        "train": (7, 1, 8, 8),
        "test": (3, 1, 8, 8),
    }
    assert found.labels == {}
    u = solutions(10, 8, workers=1)
    levels = np.rint(255 * (u - u.min()) / (u.max() - u.min()))
    assert (levels.min(), levels.max()) == (0, 255)
    assert np.array_equal(grey_levels(u), levels)
    for split, rows in (("train", levels[:7]), ("test", levels[7:])):
        held = {image.numpy().tobytes() for image in found.images[split]}
        assert held == {row.astype(np.uint8).tobytes() for row in rows}


@pytest.mark.parametrize("shape", [[3, 8, 8], [1, 8, 16]])
def test_images_that_it_does_not_have_are_refused(tmp_path, shape):
    facts = Facts.parse("flow", FACTS | {"image_shape": shape})
    with pytest.raises(DataError, match=r"flow: image_shape is .* grey and square"):
        load_dataset(facts, tmp_path, tmp_path / "cache")
