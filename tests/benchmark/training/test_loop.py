"""The training loop: history, schedule, and the state of the optimiser."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.training.loop import HISTORY_ROWS, Training


def run(updates: int, schedule: str = "cosine", learning_rate: float = 0.1):
    """Minimise a linear function whose logged loss is the update's number.

    Adam moves the weight of a constant gradient by the learning rate itself.

    Returns:
        The history, and the learning rate of each update.
    """
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
    positions = []

    def loss():
        positions.append(model.weight.item())
        number = float(len(positions))
        return model.weight - model.weight.detach() + number, {"square": number**2}

    training = Training(
        model,
        loss,
        updates=updates,
        learning_rate=learning_rate,
        schedule=schedule,
        title="",
    )
    training.run("none")
    positions.append(model.weight.item())
    return training.history, -np.diff(positions)


@pytest.mark.parametrize("updates", [1, 7, HISTORY_ROWS, 3 * HISTORY_ROWS, 2 * HISTORY_ROWS + 50])
def test_each_row_averages_the_updates_since_the_last(updates):
    rows = run(updates)[0].rows
    assert len(rows) == min(updates, HISTORY_ROWS)
    ends = [row["update"] for row in rows]
    assert ends[-1] == updates
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    for row, start in zip(rows, [0, *ends[:-1]], strict=True):
        numbers = np.arange(start + 1, row["update"] + 1)
        assert row["loss"] == pytest.approx(numbers.mean())
        assert row["square"] == pytest.approx((numbers**2).mean())


def test_final_values_are_of_the_last_twentieth():
    updates = 5 * HISTORY_ROWS
    numbers = np.arange(1, updates + 1)[-updates // 20 :]
    final = run(updates)[0].final()
    assert final == pytest.approx({"loss": numbers.mean(), "square": (numbers**2).mean()})
    assert run(1)[0].final() == {"loss": 1.0, "square": 1.0}


def test_a_history_is_written_as_csv(tmp_path):
    history = run(7)[0]
    history.write(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [list(row) for row in rows] == [["update", "seconds", "loss", "square"]] * 7
    assert [float(row["square"]) for row in rows] == [row["square"] for row in history.rows]


def test_the_learning_rate_falls_to_zero_along_a_cosine():
    rates = run(50)[1]
    expected = 0.1 * 0.5 * (1 + np.cos(np.pi * np.arange(50) / 50))
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    assert rates[-1] < 1e-3 * rates[0]


def test_the_learning_rate_can_be_constant():
    np.testing.assert_allclose(run(50, "constant")[1], 0.1, rtol=1e-6)
