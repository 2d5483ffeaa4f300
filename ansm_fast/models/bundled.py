"""The ANSMs inside the package by name, and which bundled localizer each was trained for."""

from __future__ import annotations

from pathlib import Path

from ansm_fast.models.checkpoint import bundled

# Name on the command line -> checkpoint in the package.
BUNDLED_ANSMS = {"tiny": "ansm_tiny.safetensors", "robust": "ansm_robust.safetensors"}
TRAINED_FOR = {"builtin": "tiny", "robust": "robust"}


def ansm_path(weights: str | Path | None = None, localizer: str | None = None) -> Path:
    """The file of an ANSM.

    Args:
        weights: a checkpoint, or "tiny" or "robust", the bundled ones; None or "bundled", the one
            that was trained for ``localizer``.
        localizer: as the commands take it; one that is not bundled has no ANSM here and gets
            "tiny".
    """
    if weights is None or str(weights) == "bundled":
        weights = TRAINED_FOR.get(str(localizer or "builtin"), "tiny")
    name = BUNDLED_ANSMS.get(str(weights))
    return bundled(name) if name else Path(weights)
