"""Scores of one image behind one defence, kept by content.

One file of JSON lines for each localizer and defence. A line is found by the digest of the image
and mask files, so that no figure is ever taken for another image's, whatever its name.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from ansm_fast import json_lines
from ansm_fast.errors import InputError
from ansm_fast.evaluation.metrics import Scores

# Part of every file name; to be raised when a metric, or the reading of images and masks, changes.
EDITION = 3


def content_key(*paths: Path) -> str:
    """SHA-256 over the files, shortened to 32 hex digits."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]


class ScoreStore:
    """Scores by content, in memory and in a file of ``folder``.

    Args:
        folder: made when the first figure is kept.
        identity: what the scores depend on besides the image: the localizer and the defence.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        digest = hashlib.sha256(f"{EDITION} {identity}".encode()).hexdigest()[:16]
        self._path = folder / f"{digest}.jsonl"
        self._scores: dict[str, Scores] = {}
        for found in json_lines.read(self._path):
            try:
                scores = {name: float(value) for name, value in found["scores"].items()}
                self._scores[found["key"]] = scores
            except (ValueError, KeyError, TypeError, AttributeError):
                continue

    def get(self, key: str) -> Scores | None:
        return self._scores.get(key)

    def put(self, key: str, scores: Scores) -> None:
        """Keep one image's scores; NaN and infinity survive as text.

        Raises:
            InputError: the folder cannot be written.
        """
        self._scores[key] = scores
        kept = {
            name: value if math.isfinite(value) else str(value) for name, value in scores.items()
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with json_lines.Appender(self._path) as file:
                file.add({"key": key, "scores": kept})
        except OSError as error:
            raise InputError(
                f"cannot write {self._path} ({error.strerror}); give another folder to --cache"
            ) from error
