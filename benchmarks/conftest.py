"""Lets the suites import `benchmarks` and `tools`; last on the path: nothing is shadowed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
