"""Lets the suites import their neighbours and `tools`; last on the path: nothing is shadowed."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent)]
