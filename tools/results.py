"""How a result is written: with its date, and whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from ansm_fast.images.atomic import write_text


def today() -> str:
    return date.today().isoformat()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Folders of the path are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_dated(path: Path, content: Mapping[str, Any]) -> None:
    write_json(path, {"date": today(), **content})
