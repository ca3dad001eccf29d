"""Helpers shared by the tests."""

from collections.abc import Callable

import pytest
import torch

# Tests compute with small tensors: on a busy machine a second thread makes them wait, by seconds.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the workflow's tests: a run of it takes a minute, which no worker is to begin
    last."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


@pytest.fixture
def seeded() -> Callable[[int], torch.Generator]:
    """seed -> a CPU generator. A test that only needs weights calls torch.manual_seed."""
    return lambda seed=0: torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _seed_the_global_generator():
    # Modules draw their initial weights from the global generator.
    torch.manual_seed(0)
