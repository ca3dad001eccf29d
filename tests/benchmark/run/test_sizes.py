"""What is committed stays small: whoever clones it waits for all of it."""

import subprocess

import pytest

from benchmark.base.paths import PUBLISHED, ROOT

TREE, RESULTS, FILE = 40_000_000, 25_000_000, 3_000_000  # bytes


@pytest.fixture(scope="module")
def sizes() -> dict[str, int]:
    """The bytes of each committed file."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = listed.stdout.decode().split("\0")[:-1]
    if not names:
        pytest.skip("no checkout")
    return {name: (ROOT / name).stat().st_size for name in names if (ROOT / name).is_file()}


def test_the_tree_the_published_results_and_each_file_are_small(sizes):
    published = [size for name, size in sizes.items() if name.startswith(f"{PUBLISHED}/")]
    assert sum(sizes.values()) <= TREE
    assert sum(published) <= RESULTS
    assert {name: size for name, size in sizes.items() if size > FILE} == {}
