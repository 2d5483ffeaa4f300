"""What outputs are like: their format, and which inputs are only copied."""

from __future__ import annotations

from dataclasses import dataclass

from ansm_fast.images.formats import SUFFIXES
from ansm_fast.json_lines import Record


@dataclass(frozen=True)
class Form:
    """
    Attributes:
        kind: "png", "webp" or "tiff".
        effort: "fast" or "small".
        copy_below: an image with a lower attack score is copied as it is; None: all are defended.
    """

    kind: str = "png"
    effort: str = "fast"
    copy_below: float | None = None

    @property
    def suffix(self) -> str:
        return SUFFIXES[self.kind]

    def asked(self) -> Record:
        """Fields of a record by which a later run sees what was asked for. The effort is none of
        them: the pixels are the same."""
        return {"format": self.kind, "copy_below": self.copy_below}

    def is_copied(self, attack_score: float | None) -> bool:
        return (
            self.copy_below is not None
            and attack_score is not None
            and attack_score < self.copy_below
        )


def asked_of(record: Record) -> Record:
    """``Form.asked`` as a record has it; one of an earlier version knew PNG alone."""
    return {"format": record.get("format", "png"), "copy_below": record.get("copy_below")}
