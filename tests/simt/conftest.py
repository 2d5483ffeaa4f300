"""Modules of this folder, for its tests."""

from __future__ import annotations

import sys
from pathlib import Path

# `import harness`: the folder is no package, and the package under test does not contain it.
sys.path.insert(0, str(Path(__file__).parent))
