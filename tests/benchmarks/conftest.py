"""Lets the tests import the suites, which are no package; last on the path, as they do it."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))
