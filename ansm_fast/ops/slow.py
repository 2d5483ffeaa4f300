"""The warning that an op runs as plain PyTorch although nobody asked for that."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from ansm_fast.errors import SlowBackendWarning

_PACKAGE = str(Path(__file__).parent.parent)
_KERNELS_OF: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu",), "cuda": ("cuda", "triton"), "meta": (),
}  # fmt: skip
_told: set[str] = set()


def _callers_level() -> int:
    """``stacklevel`` of the first caller outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


def warn_once(op: str, device: str, reasons: Iterable[str]) -> None:
    """Warn that ``op`` is slow on tensors of ``device``; once a process for the same reasons."""
    because = "; ".join(dict.fromkeys(reasons))
    if because in _told:
        return
    _told.add(because)
    warnings.warn(
        f"{op} runs as plain PyTorch on {device!r}, many times slower than its kernel: {because}. "
        "`ansm-fast doctor` shows what runs and why; backend='reference' or "
        "ANSM_FAST_BACKEND=reference asks for it without this warning",
        SlowBackendWarning,
        stacklevel=_callers_level(),
    )


def kernels_of(device: str) -> tuple[str, ...]:
    """The backends whose kernels would run on tensors of a kind of device."""
    return _KERNELS_OF.get(device, ("triton",))


def warn_about(
    op: str, device: str, why_not: Callable[[str], str | None], native: Iterable[str]
) -> None:
    """``warn_once`` with the reasons of the backends of ``native``, each of which cannot run."""
    found = [(name, why_not(name)) for name in native]
    reasons = [f"{name}: {reason}" for name, reason in found if reason is not None]
    if reasons:
        warn_once(op, device, reasons)
