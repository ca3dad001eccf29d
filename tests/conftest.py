"""Helpers shared by the tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmark.base.devices import available_cores

TESTS = Path(__file__).parent


def pytest_xdist_auto_num_workers() -> int:
    """Take two workers for each core: half of the time tests wait for what they started."""
    return 2 * available_cores()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest modules, which no worker is to begin last: Slurm's, which waits most;
    the workflow's, whose runs take a minute; then those of this folder itself."""
    items.sort(
        key=lambda item: (
            item.path.name != "test_slurm.py",
            "workflow" not in item.path.parts,
            item.path.parent != TESTS,
        )
    )


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
