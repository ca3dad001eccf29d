"""Figures of a KAEM with a copula, from a trained one; other entries do not have them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from benchmark.base.errors import MissingError
from paper_figures.artefacts import ARTEFACTS
from paper_figures.base.frames import inspection
from paper_figures.figures import components, dependence, filling_in

NAMES = ("components", "dependence", "filling_in")


@pytest.mark.parametrize("name", NAMES)
def test_entries_with_a_copula_alone_have_the_figure(copula_run, run, name):
    artefact = ARTEFACTS[name]
    (place,) = artefact.places(copula_run, gpu=False)
    assert place == {"dataset": "digits", "model": "kaem_copula"}
    artefact.render(copula_run, dataset="digits")
    pdf, png = artefact.paths("tiny", **place)
    assert pdf.read_bytes().startswith(b"%PDF")
    assert plt.imread(png)[..., :3].std() > 0.05  # something is drawn
    assert not png.with_stem(f"{name}_digits_kaem_is").exists()
    assert plt.get_fignums() == []
    assert artefact.places(run, gpu=False) == []
    with pytest.raises(MissingError, match="no latents of digits were looked into"):
        artefact.render(run, dataset="digits")


def test_what_is_stored_of_a_copula(copula_run):
    metrics, arrays = inspection(copula_run, "digits", "kaem_copula")
    assert metrics["dependence"]["rank_largest_difference"] < 1
    shapes = {name: values.shape for name, values in arrays.items()}
    assert shapes["followed"] == shapes["images"]
    assert shapes["path_conditional"] == shapes["path_quantiles"] == (3, 11, 1, 16, 16)
    assert shapes["component_classes"] == (3, 2)
    np.testing.assert_allclose(arrays["component_classes"].sum(axis=0), 1, atol=1e-6)


def test_rows_show_the_image_ever_more_known_latents_and_all(copula_run):
    _, arrays = inspection(copula_run, "digits", "kaem_copula")
    rows = filling_in._rows(arrays)
    np.testing.assert_array_equal(rows[0, :, 1], arrays["filled_images"])
    np.testing.assert_array_equal(rows[1:-1], arrays["filled"])
    np.testing.assert_array_equal(rows[-1, :, 1], arrays["filled_from"])
    assert (rows[[0, -1]][:, :, [0, 2]] == 255).all()


def test_a_component_is_called_by_the_class_that_it_holds_most_of():
    arrays = {"component_weights": np.array([0.7, 0.3]), "labels": np.array([4, 9, 4])}
    assert components._label(arrays, 0) == "70.0%"
    arrays["component_classes"] = np.array([[0.9, 0.2], [0.1, 0.8]])
    assert components._label(arrays, 1) == "30.0%\n9: 89%"
    arrays["component_classes"][1] = 0  # no image is in it
    assert components._label(arrays, 1) == "30.0%"


def test_regions_hold_their_share():
    """The smallest region that holds a share m of a normal in two dimensions ends where its
    density is 1 - m of the largest."""
    x = np.linspace(-5, 5, 400)
    density = np.exp(-0.5 * (x[:, None] ** 2 + x**2))
    expected = 1 - np.array(dependence.SHARES)
    np.testing.assert_allclose(dependence._levels(density), expected, atol=2e-3)
