"""What is published here is whole: every file as it was published, every record of its job."""

from pathlib import Path

import pytest

from benchmark.base.paths import PUBLISHED, ROOT
from benchmark.config.config import load_config
from benchmark.verification.integrity import faults

FOLDERS = sorted(path.parent for path in Path(ROOT, PUBLISHED).glob("*/config.yaml"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_published_runs_have_no_faults(folder):
    assert list(faults(load_config(folder / "config.yaml").of_folder(folder), folder)) == []
