"""Names beside points, moved apart where they would lie upon each other."""

import numpy as np
from matplotlib.axes import Axes
from scipy.optimize import isotonic_regression

SIZE = 6.5  # points
LINE, FURTHER_LINE = 1.15, 1.3  # of a name, in sizes
AWAY = 12.0  # points, from the outermost point of a column to its names
COLUMN = 0.12  # of the axes' width: points as near as that in x have one column of names


def name_points(
    axis: Axes, names: list[str], points: list[tuple[float, float]], *, outside: bool = False
) -> None:
    """Write the name of each point beside it, and a thin line from one to the other.

    Args:
        axis: with its final limits, its figure's layout fixed.
        points: (x, y) in data coordinates.
        outside: whether the names stand left and right of all points, where the axis has room for
            them, and not beside each group of points.
    """
    if not points:
        return
    to_points = 72 / axis.figure.dpi
    places = axis.transData.transform(points) * to_points
    left, bottom, right, top = axis.get_window_extent().extents * to_points
    middle = places[:, 0].mean() if outside else (left + right) / 2
    sizes = SIZE * np.array([LINE + FURTHER_LINE * name.count("\n") for name in names])
    halves, columns = _halves(places[:, 0]), _columns(places[:, 0], COLUMN * (right - left))
    for column in halves if outside else columns:
        x, y = places[column].T
        to_left = (x.mean() > middle) != outside
        edge = x.min() - AWAY if to_left else x.max() + AWAY
        heights = apart(y, sizes[column], bottom, top)
        for index, shift in zip(column, np.stack([edge - x, heights - y], axis=1), strict=True):
            axis.annotate(
                names[index],
                points[index],
                xytext=shift,
                textcoords="offset points",
                ha="right" if to_left else "left",
                va="center",
                fontsize=SIZE,
                linespacing=1,
                arrowprops={
                    "arrowstyle": "-",
                    "color": "0.5",
                    "lw": 0.5,
                    "relpos": (float(to_left), 0.5),
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
                zorder=1,  # lines below the markers
            )


def _halves(x: np.ndarray) -> list[list[int]]:
    """Return which points have their names on the left, and which on the right."""
    order, half = np.argsort(x, kind="stable").tolist(), (len(x) + 1) // 2
    return [side for side in (order[:half], order[half:]) if side]


def _columns(x: np.ndarray, width: float) -> list[list[int]]:
    """Return which points share a column of names: those at most so far from its leftmost."""
    columns: list[list[int]] = []
    for index in np.argsort(x, kind="stable").tolist():
        if columns and x[index] - x[columns[-1][0]] <= width:
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
