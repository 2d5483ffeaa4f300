"""A hidden file in a folder of masks that says where the manifest is which tells of them: that need
not be where a search for photographs comes by."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from ansm_fast.images.atomic import write_text
from ansm_fast.images.regular_files import read_regular
from ansm_fast.inference.stores import MANIFEST

POINTER = ".ansm-fast-manifest"
_LONGEST = 1 << 16


def leave_pointer(masks: Path, manifest: Path) -> None:
    """Say in ``masks`` where ``manifest`` is, as seen from there; where that cannot be written, or
    somebody else's file has this name, nothing."""
    path = masks / POINTER
    with contextlib.suppress(OSError, ValueError):  # ValueError: on another drive
        text = os.path.relpath(manifest, masks) + "\n"
        if not os.path.lexists(path) or _read(path) not in ("", text):
            write_text(path, text)


def find_pointers(folders: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Manifest and folder of masks of each of ``folders`` that says where its manifest is."""
    found = []
    for folder in folders:
        if text := _read(folder / POINTER):
            found.append((Path(os.path.normpath(folder / text[:-1])), folder))
    return found


def _read(path: Path) -> str:
    """What a pointer says; "" of a file that is none."""
    try:
        if os.stat(path).st_size > _LONGEST:  # whatever that is, it is not read
            return ""
        text = read_regular(path).decode("utf-8", errors="surrogateescape")
    except OSError:
        return ""
    is_one = text.endswith(f"{MANIFEST}\n") and "\0" not in text
    return text if is_one else ""
