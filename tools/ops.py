"""The op folders, as the tools find them: an op's name is that of its folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ROOT / "kernels"
OPS = sorted({path.parent.name for path in KERNELS.glob("*/cuda.cuh")} - {"common"})


def launches(op: str) -> dict[str, Any]:
    """What kernels/<op>/launches.yaml says of the op's CUDA kernels; {} where there is none."""
    path = KERNELS / op / "launches.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else {}
    return found
