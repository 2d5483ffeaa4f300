"""The op folders, as the tools find them: an op's name is that of its folders. Without torch."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Mistake:
    """A change of one place of a file of kernels/, which the proof of the operators must find."""

    op: str
    name: str
    file: str
    old: str
    new: str
    operators: tuple[str, ...]


def mistakes(op: str) -> list[Mistake]:
    """Those of kernels/<op>/mistakes.yaml."""
    path = KERNELS / op / "mistakes.yaml"
    found = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else []
    return [Mistake(op, **one | {"operators": tuple(one["operators"])}) for one in found]
