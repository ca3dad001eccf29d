"""Experiments whose results the pages show: each `python -m studies.X` writes results/studies/X.md.

They use what the tests hold against the code as well: the references and the tiny configurations.
"""

import sys

from benchmark.base.paths import ROOT

if str(ROOT / "tests") not in sys.path:
    sys.path.append(str(ROOT / "tests"))
