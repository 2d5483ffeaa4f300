"""The ANSMs inside the package by name, and which bundled localizer each was trained for."""

from __future__ import annotations

from pathlib import Path

from ansm_fast.models.checkpoint import bundled

# Name on the command line -> checkpoint in the package.
BUNDLED_ANSMS = {
    "robust": "ansm_robust.safetensors",
    "tiny": "ansm_tiny.safetensors",
    "two_view": "ansm_two_view.safetensors",
}
# Localizer -> the ANSM that it gets unless another is asked for.
TRAINED_FOR = {"robust": "robust", "builtin": "two_view"}
DEFAULT_LOCALIZER = "robust"


def ansm_path(weights: str | Path | None = None, localizer: str | None = None) -> Path:
    """Find the file of an ANSM.

    Args:
        weights: a checkpoint, or "robust", "tiny" or "two_view", the bundled ones; None or
            "bundled", the default one of ``localizer``.
        localizer: as the commands take it; one that is not bundled has no ANSM here and gets
            that of the default one.
    """
    if weights is None or str(weights) == "bundled":
        default = TRAINED_FOR[DEFAULT_LOCALIZER]
        weights = TRAINED_FOR.get(str(localizer or DEFAULT_LOCALIZER), default)
    name = BUNDLED_ANSMS.get(str(weights))
    return bundled(name) if name else Path(weights)
