"""Files that are there whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ansm_fast.errors import InputError


def temporary_name(path: Path, token: str) -> Path:
    """``.NAME.TOKEN.tmp`` beside ``path``; a long NAME becomes its digest, as names have limits."""
    name = path.name
    if len(os.fsencode(name)) > 200:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}.{token}.tmp")


def temporary_beside(path: Path, token: str | None = None) -> Path:
    """A new, empty file of a ``temporary_name``: never one that was there before.

    Args:
        token: random by default; a given one names the run whose leftovers these are.

    Raises:
        OSError: the folder is missing, cannot be written to, or is full.
    """
    while True:
        temporary = temporary_name(path, token or secrets.token_hex(4))
        try:
            # As any new file, the user's umask decides who may read it; tempfile's are private.
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            if token is not None:
                raise
        else:
            return temporary


def check_unused(folder: Path, names: Iterable[str]) -> None:
    """See that a folder has none of the files and none but empty folders of ``names``.

    Raises:
        InputError: it has one, which would be written over or taken for a part of the result.
    """
    for name in names:
        path = folder / name
        if path.is_dir() and any(path.iterdir()):
            raise InputError(f"{folder} holds other {name}; give another output folder")
        if os.path.lexists(path) and not path.is_dir():
            raise InputError(f"{folder} holds another {name}; give another output folder")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file; its folder must exist. A failure leaves neither the file nor a part of it.

    Raises:
        OSError: the folder is missing, cannot be written to, or is full.
    """
    path = Path(path)
    try:
        temporary = temporary_beside(path)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)  # not the temporary one; a full disk tells none
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, names of files in it byte by byte; see ``write_bytes``."""
    write_bytes(path, text.encode("utf-8", errors="surrogateescape"))


def write_png(path: str | Path, pixels: NDArray[np.uint8]) -> None:
    """Write RGB (H, W, 3) or grey (H, W) as PNG, making the folder; see ``write_bytes``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    if not done:
        raise OSError(f"PNG encoder failed on an image of shape {pixels.shape}")
    write_bytes(path, encoded.tobytes())
