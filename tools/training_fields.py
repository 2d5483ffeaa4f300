"""Writes docs/training_fields.md: what `ansm-fast train localizer|ansm --fields` print."""

from __future__ import annotations

from pathlib import Path

from ansm_fast.images.atomic import write_text
from ansm_fast.training.config import MODELS
from ansm_fast.training.field_table import field_text

TARGET = Path(__file__).resolve().parents[1] / "docs" / "training_fields.md"


def page() -> str:
    parts = [
        "# The fields of a training's config",
        "Made by `python -m tools.training_fields`; `ansm-fast train localizer --fields` and "
        "`ansm-fast train ansm --fields` print the same. A field inside another one is set with "
        "dots, an item of a list with its number in place of N (-1: the last): "
        "`--set optimizer.lr=1e-3`, `--set attacks.0.name=pgd`, `--set attacks.-1.weight=2`.",
    ]
    for kind, model in MODELS.items():
        parts += [f"## {kind}", f"```text\n{field_text(model)}```"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    write_text(TARGET, page())
