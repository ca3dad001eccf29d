"""Names beside points: apart from each other, inside the axes, and next to what they name."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from paper_figures.base.point_labels import apart, name_points


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([10.0, 50.0], [10, 50]),  # far apart already
        ([50.0, 50.0], [45, 55]),  # the first of equals below
        ([55.0, 50.0, 20.0], [57.5, 47.5, 20]),  # in any order; what is free stays
        ([50.0, 51.0, 52.0], [41, 51, 61]),
        ([0.0, 1.0, 30.0], [0, 10, 30]),  # pushed back from below
        ([70.0, 99.0, 100.0], [70, 90, 100]),  # and from above
        ([97.0] * 3, [80, 90, 100]),
        ([], []),
    ],
)
def test_places_are_moved_apart(places, expected):
    np.testing.assert_allclose(apart(np.array(places), 10, 0, 100), expected)


def test_larger_names_have_more_room():
    moved = apart(np.array([50.0, 50.0, 50.0]), np.array([10, 20, 10]), 0, 100)
    np.testing.assert_allclose(moved, [35, 50, 65])


def test_the_moves_are_the_least():
    """No other places that keep the distance need a smaller sum of squared moves."""
    random = np.random.default_rng(0)
    places = np.sort(random.normal(50, 8, 6))
    moved = apart(places, 5, -1000, 1000)
    least = np.sum((moved - places) ** 2)
    for _ in range(2000):
        other = moved + random.normal(0, 1, 6) * random.choice([0.01, 0.1, 1])
        if np.diff(other).min() >= 5:
            assert np.sum((other - places) ** 2) > least


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_no_name_lies_upon_another(scale):
    figure, axis = plt.subplots(figsize=(3.5, 3.5))
    axis.set(xscale=scale, yscale=scale, xlim=(0.9, 110), ylim=(0.9, 110))
    random = np.random.default_rng(1)
    left = [(random.uniform(1, 1.05), y) for y in random.uniform(40, 100, 9)]
    points = [*left, (99, 50), (100, 50.5)]
    names = [f"model {index}" for index in range(len(points))]
    names[3] += "\n(in two lines)"
    limits = axis.get_xlim(), axis.get_ylim()
    name_points(axis, names, points)
    figure.draw_without_rendering()
    assert (axis.get_xlim(), axis.get_ylim()) == limits
    frame = axis.get_window_extent()
    boxes = {text.get_text(): Text.get_window_extent(text) for text in axis.texts}
    assert boxes.keys() == set(names)
    for first, second in itertools.combinations(boxes.values(), 2):
        assert not first.overlaps(second)
    for name, point in zip(names, points, strict=True):
        box, x = boxes[name], axis.transData.transform(point)[0]
        assert frame.x0 < box.x0
        assert box.x1 < frame.x1
        assert x < box.x0 if name in names[:9] else x > box.x1
    heights = [boxes[name].y0 for name in names[:9]]
    assert np.argsort(heights).tolist() == np.argsort([y for _, y in left]).tolist()
    plt.close(figure)


@pytest.mark.parametrize(
    ("names", "points", "others", "sides"),
    [
        ("a", [(30, 50)], [], ["left"]),  # towards the middle
        ("a", [(30, 50)], [(37, 50)], ["right"]),  # but not upon another marker
        ("ab", [(60, 50), (68, 50)], [], ["right", "left"]),  # nor a line upon one
        ("a", [(4, 50)], [(11, 50)], ["left"]),  # nor outside the axes
    ],
)
def test_names_and_their_lines_keep_clear_of_markers(names, points, others, sides):
    """A text that is aligned left stands on the right of its point."""
    figure, axis = plt.subplots(figsize=(3.5, 3.5))
    axis.set(xlim=(0, 100), ylim=(0, 100))
    name_points(axis, list(names), points, others)
    assert [text.get_ha() for text in axis.texts] == sides
    plt.close(figure)


def test_nothing_is_written_without_points():
    figure, axis = plt.subplots()
    name_points(axis, [], [])
    assert not axis.texts
    plt.close(figure)
