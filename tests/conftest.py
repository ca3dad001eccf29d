"""Helpers shared by the tests."""

from collections.abc import Callable

import pytest
import torch

from benchmark.base.devices import available_cores

# The modules that wait longest, and between them one that takes no time: it is the second of the
# worker that has Slurm's two tests, behind which nothing else is to wait.
FIRST = ("test_slurm", "test_full_run", "test_plans", "test_runs")
FIRST += ("test_cuda", "test_kills", "test_contract")


def pytest_xdist_auto_num_workers() -> int:
    """Take two workers for each core: half of the time tests wait for what they started."""
    return 2 * available_cores()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest modules, which no worker is to begin last."""
    first = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: first.get(item.path.stem, len(FIRST)))


@pytest.fixture
def seeded() -> Callable[[int], torch.Generator]:
    """seed -> a CPU generator. A test that only needs weights calls torch.manual_seed."""
    return lambda seed=0: torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _one_thread_and_one_seed():
    # Tests compute with small tensors: on a busy machine a second thread makes them wait, by
    # seconds. Steps that a test runs set the threads of their configuration.
    torch.set_num_threads(1)
    # Modules draw their initial weights from the global generator.
    torch.manual_seed(0)
