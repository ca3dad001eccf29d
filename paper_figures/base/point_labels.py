"""Names beside points, moved apart where they would lie upon each other."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from scipy.optimize import isotonic_regression
from scipy.spatial import KDTree

SIZE = 6.5  # points
LINE, FURTHER_LINE, LETTER = 1.15, 1.3, 0.55  # heights and mean width of a name, in sizes
AWAY = 12.0  # points, from the outermost point of a column to its names
COLUMN = 25.0  # points in x: what is as near as that shares a column of names
UPON, CROSSING = 5.0, 2.5  # points: as near as that is a name or its line to a marker; to another
STEPS, ROUNDS, OUTSIDE = 25, 2, 1000
LEFT, RIGHT = -1, 1

Point = tuple[float, float]


def name_points(
    axis: Axes, names: list[str], points: list[Point], others: Sequence[Point] = ()
) -> None:
    """Write the name of each point left or right of it, and a thin line from one to the other.

    Args:
        axis: with its final limits, its figure's layout fixed.
        points: (x, y) in data coordinates.
        others: what else names and lines keep clear of.
    """
    if not points:
        return
    to_points = 72 / axis.figure.dpi
    marks = axis.transData.transform([*points, *others]) * to_points
    frame = axis.get_window_extent().extents * to_points
    sides, ends = _layout(names, marks, frame)
    for name, point, side, shift in zip(
        names, points, sides, ends - marks[: len(ends)], strict=True
    ):
        axis.annotate(
            name,
            point,
            xytext=shift,
            textcoords="offset points",
            ha="right" if side == LEFT else "left",
            va="center",
            fontsize=SIZE,
            linespacing=1,
            arrowprops={
                "arrowstyle": "-",
                "color": "0.5",
                "lw": 0.5,
                "relpos": (float(side == LEFT), 0.5),
                "shrinkA": 0,
                "shrinkB": 0,
            },
            zorder=1,  # lines below the markers
        )


def _layout(
    names: list[str], marks: np.ndarray, frame: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return on which side of its point each name stands, and where its line ends.

    A column has the names of its leftmost points, some, none or all, on the left, the others on the
    right. At first all are towards the middle; another choice has to have less upon markers, names
    and lines, or outside the axes.

    Args:
        marks: points on the page, first those with names.
        frame: left, bottom, right and top of the axes.
    """
    places, tree = marks[: len(names)], KDTree(marks)
    left, bottom, right, top = frame
    heights = SIZE * np.array([LINE + FURTHER_LINE * name.count("\n") for name in names])
    widths = SIZE * LETTER * np.array([max(map(len, name.split("\n"))) for name in names])
    columns = _columns(places[:, 0])

    def ends_of(sides: np.ndarray) -> np.ndarray:
        ends = np.empty_like(places)
        for column, side in product(columns, (LEFT, RIGHT)):
            own = [index for index in column if sides[index] == side]
            x, y = places[own].T
            ends[own, 0] = side * ((side * x).max(initial=-np.inf) + AWAY)
            ends[own, 1] = apart(y, heights[own], bottom, top)
        return ends

    def hits(sides: np.ndarray) -> int:
        ink, owners = _ink(places, ends_of(sides), sides * widths, heights)
        upon = tree.query(ink)[0] < UPON
        pairs = KDTree(ink).query_pairs(CROSSING, output_type="ndarray")
        crossing = np.unique(pairs[np.diff(owners[pairs])[:, 0] != 0])
        outside = (ink[:, 0] < left) | (ink[:, 0] > right)
        return int(upon.sum() + len(crossing) + OUTSIDE * outside.sum())

    sides = np.empty(len(places), int)
    for column in columns:
        sides[column] = LEFT if places[column, 0].mean() > (left + right) / 2 else RIGHT
    for column in columns * ROUNDS:
        parted = np.tile(sides, (len(column) + 1, 1))  # left and right of each place in the column
        parted[:, column] = np.where(np.tri(len(column) + 1, len(column), -1), LEFT, RIGHT)
        sides = min([sides, *parted], key=hits)
    return sides, ends_of(sides)


def _ink(
    places: np.ndarray, ends: np.ndarray, widths: np.ndarray, heights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return points (n, 2) on the lines from places to names, but for those at their own markers,
    and on the names, whose widths are negative to the left; and to which name each belongs."""
    steps = np.linspace(0, 1, STEPS)[:, None]
    lines = places[:, None] + steps * (ends - places)[:, None]
    texts = ends[:, None] + steps * np.stack([widths, 0 * widths], axis=-1)[:, None]
    half = np.stack([0 * heights, heights / 4], axis=-1)[:, None]
    ink = np.concatenate([lines, texts - half, texts + half], axis=1)
    away = np.linalg.norm(ink - places[:, None], axis=-1) > UPON
    return ink[away], np.nonzero(away)[0]


def _columns(x: np.ndarray) -> list[list[int]]:
    """Return which points share a column of names: those at most so far from its leftmost."""
    columns: list[list[int]] = []
    for index in np.argsort(x, kind="stable").tolist():
        if columns and x[index] - x[columns[-1][0]] <= COLUMN:
            columns[-1].append(index)
        else:
            columns.append([index])
    return columns


def apart(places: np.ndarray, sizes: np.ndarray | float, low: float, high: float) -> np.ndarray:
    """Return the middles of names of these sizes in the same order, none upon another and, where
    they fit, between `low` and `high`; with the least sum of squared moves before the latter."""
    order = np.argsort(places, kind="stable")
    sizes = np.broadcast_to(sizes, len(places))[order]
    steps = np.append(0, 0.5 * (sizes[1:] + sizes[:-1])).cumsum()[: len(places)]
    fitted = isotonic_regression(places[order] - steps).x + steps
    moved = np.empty(len(places))
    moved[order] = np.clip(fitted, low + steps, high - (steps[-1:] - steps))
    return moved
