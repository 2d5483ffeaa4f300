"""Whether a run may go on in a folder, told before anything is loaded or attacked."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from ansm_fast.errors import InputError
from ansm_fast.training.ansm_config import with_attack_cache
from ansm_fast.training.architecture_config import settings_of_today
from ansm_fast.training.config import MODELS
from ansm_fast.training.state import read_metadata

STATE = "state.safetensors"
_CHECKPOINTS = ("ansm.safetensors", "localizer.safetensors")
# When a run goes on: where it ends, and what it takes of the machine.
_MAY_CHANGE = {"stop_after", "threads", "workers", "device", "report"}
_MOST = 3


def _decisive(settings: str) -> dict[str, object]:
    """Of a run's settings those that decide what its next step does."""
    try:
        found = json.loads(settings)
        # An earlier version's may be of another form, and lack the fields that it did not know.
        if found.get("kind") == "localizer":
            found = settings_of_today(found)
        elif found.get("kind") == "ansm":
            found = with_attack_cache(found)
        with contextlib.suppress(KeyError, ValidationError):
            found = MODELS[found["kind"]].model_validate(found).settings()
        return {k: v for k, v in found.items() if k not in _MAY_CHANGE}
    except (ValueError, AttributeError):  # a file that no training wrote
        return {}


def _fields(settings: object, path: str = "") -> dict[str, object]:
    """Dotted path and value of every field."""
    if isinstance(settings, Mapping):
        parts = settings.items()
    elif isinstance(settings, list) and any(isinstance(one, Mapping) for one in settings):
        parts = dict(enumerate(settings)).items()  # type: ignore[assignment]
    else:
        return {path: settings}
    found: dict[str, object] = {}
    for name, value in parts:
        found |= _fields(value, f"{path}.{name}" if path else str(name))
    return found


def _differences(before: object, now: object) -> str:
    old, new = _fields(before), _fields(now)
    changed = sorted(path for path in old | new if old.get(path) != new.get(path))
    shown = [
        f"{path} {json.dumps(old.get(path))[:40]} there, {json.dumps(new.get(path))[:40]} here"
        for path in changed[:_MOST]
    ]
    more = f" and {len(changed) - _MOST} more" if len(changed) > _MOST else ""
    return "; ".join(shown) + more


def check_same_run(out: Path, settings: Mapping[str, object] | str) -> None:
    """Raise InputError if ``out`` holds the state of a run with another configuration, or a
    checkpoint without the state of its run, which would be written over.

    Where it ends (``stop_after``) and what it takes of the machine may differ.
    """
    path = out / STATE
    if not path.exists():
        for name in _CHECKPOINTS:
            if os.path.lexists(out / name):
                raise InputError(
                    f"{out} holds another {name} and no {STATE} of its run; give another output "
                    "folder, or move the checkpoint away"
                )
        return
    now = settings if isinstance(settings, str) else json.dumps(settings, sort_keys=True)
    there, here = _decisive(read_metadata(path).get("settings", "{}")), _decisive(now)
    if there != here:
        raise InputError(
            f"{out} holds a run with another configuration ({_differences(there, here)}); "
            "give another output folder or remove this one"
        )
