"""Files that are there whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file; its folder must exist. A failure leaves neither the file nor a part of it.

    Raises:
        OSError: the folder is missing, cannot be written to, or is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8; see ``write_bytes``."""
    write_bytes(path, text.encode("utf-8"))


def write_png(path: str | Path, pixels: NDArray[np.uint8]) -> None:
    """Write RGB (H, W, 3) or grey (H, W) as PNG, making the folder; see ``write_bytes``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    if not done:
        raise OSError(f"PNG encoder failed on an image of shape {pixels.shape}")
    write_bytes(path, encoded.tobytes())
