"""The training loop: history, schedule, and what follows an update."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.training.loop import HISTORY_ROWS, Training


class Line(nn.Module):
    """A linear function whose logged loss is the update's number.

    Adam moves the weight of a constant gradient by the learning rate itself.
    """

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.number, self.positions, self.calls = 0, [0.0], []

    def loss(self):
        self.number += 1
        loss = self.weight - self.weight.detach() + float(self.number)
        return loss, {"square": float(self.number) ** 2}

    def after_update(self, update, updates):
        self.calls.append((update, updates))
        self.positions.append(self.weight.item())


def run(updates: int, schedule: str = "cosine") -> Training:
    model = Line()
    options = {"learning_rate": 0.1, "schedule": schedule, "title": ""}
    options |= {"milestones": [20, 35], "factor": 0.3}
    training = Training(model, model.loss, updates=updates, **options)
    training.run("none")
    return training


@pytest.mark.parametrize("updates", [1, 7, HISTORY_ROWS, 3 * HISTORY_ROWS, 2 * HISTORY_ROWS + 50])
def test_each_row_averages_the_updates_since_the_last(updates):
    training = run(updates)
    rows = training.history.rows
    assert len(rows) == min(updates, HISTORY_ROWS)
    ends = [row["update"] for row in rows]
    assert ends[-1] == updates
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[-1] == pytest.approx(training.seconds, abs=1e-3)
    assert training.seconds > 0
    for row, start in zip(rows, [0, *ends[:-1]], strict=True):
        numbers = np.arange(start + 1, row["update"] + 1)
        assert row["loss"] == pytest.approx(numbers.mean())
        assert row["square"] == pytest.approx((numbers**2).mean())


@pytest.mark.parametrize("updates", [1, 5 * HISTORY_ROWS])
def test_final_values_are_of_the_last_twentieth(updates):
    numbers = np.arange(1, updates + 1)[-max(1, updates // 20) :]
    final = {"loss": numbers.mean(), "square": (numbers**2).mean()}
    assert run(updates).history.final() == pytest.approx(final)


def test_a_history_is_written_as_csv(tmp_path):
    history = run(7).history
    history.write(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [list(row) for row in rows] == [["update", "seconds", "loss", "square"]] * 7
    assert [float(row["square"]) for row in rows] == [row["square"] for row in history.rows]


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("cosine", 0.5 * (1 + np.cos(np.pi * np.arange(50) / 50))),
        ("constant", np.ones(50)),
        ("milestones", np.repeat([1, 0.3, 0.09], [20, 15, 15])),
    ],
)
def test_the_learning_rate_follows_its_schedule(schedule, factors):
    rates = -np.diff(run(50, schedule).model.positions)
    np.testing.assert_allclose(rates, 0.1 * factors, rtol=1e-6)


def test_nesterov_is_its_update_with_a_rate_for_each_part():
    model = nn.ModuleDict({"slow": nn.Linear(2, 1, bias=False), "fast": nn.Linear(2, 1)}).double()
    model.learning_rate_factors = {"fast": 3.0}
    target = torch.tensor([[1.0, -2.0]], dtype=torch.float64)

    def loss():
        (slow,), (fast, bias) = (list(part.parameters()) for part in model.values())
        return ((slow - target) ** 2).sum() + ((fast * slow) ** 2).sum() + (bias**2).sum(), {}

    before = [p.detach().clone() for p in model.parameters()]
    options = {"optimiser": "nesterov", "momentum": 0.8, "learning_rate": 0.01}
    training = Training(model, loss, updates=6, schedule="constant", title="", **options)
    training.run("none")
    # Nesterov (1983): the velocity at x is that of the gradient where it would carry x. Of the
    # point that it carries, as Sutskever et al. 2013 have it in their appendix A.1.
    (slow, fast, bias), velocity = before, [0.0, 0.0, 0.0]
    rates = [0.01, 0.03, 0.03]
    for _ in range(6):
        gradients = [2 * (slow - target) + 2 * fast**2 * slow, 2 * fast * slow**2, 2 * bias]
        old = velocity
        velocity = [0.8 * v - r * g for v, r, g in zip(old, rates, gradients, strict=True)]
        slow, fast, bias = (
            x - 0.8 * v0 + 1.8 * v
            for x, v0, v in zip((slow, fast, bias), old, velocity, strict=True)
        )
    for parameter, expected in zip(model.parameters(), (slow, fast, bias), strict=True):
        torch.testing.assert_close(parameter.detach(), expected)


def test_after_update_follows_every_step():
    model = run(12).model
    assert model.calls == [(update, 12) for update in range(1, 13)]
    assert all(np.diff(model.positions) < 0)  # the optimiser's step comes first


def test_a_norm_of_gradients_that_overflows_is_no_fault():
    weight = nn.Parameter(torch.ones(2))
    model = nn.ParameterList([weight])
    loss = lambda: (1e30 * weight.sum(), {})  # noqa: E731
    training = Training(model, loss, updates=1, learning_rate=0.1, title="")
    training.run("none")
    assert nn.utils.get_total_norm([weight.grad]).isinf()
    assert training.update == 1
