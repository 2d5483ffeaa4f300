"""What a run of ``defend`` did, in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ansm_fast.inference.files import Source
from ansm_fast.inference.manifest import DONE, SKIPPED, Record


@dataclass
class Summary:
    """What happened: counts, the reason for every failure, time and throughput.

    ``copied`` counts those that look left alone and were copied as they are.

    ``attacked`` counts those of the ``scored`` images, done now or before, whose attack score is at
    least ``attacked_threshold``; it is None where the ANSM gives no score. ``left_out``: what the
    search for images passed over, as ``LeftOut.as_list`` gives it. ``engine``: what computed the
    network. ``profile``: what ``Profile.report`` gives, if it was asked for.
    """

    total: int = 0
    defended: int = 0
    copied: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    interrupted: bool = False
    output: str = ""
    manifest: str = ""
    fingerprint: str = ""
    scored: int = 0
    attacked: int | None = None
    attacked_threshold: float | None = None
    failures: list[dict[str, str]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    engine: str = ""
    profile: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def count(self, source: Source, status: str, reason: str = "", *, copied: bool = False) -> None:
        """Count one input that is done, skipped or failed."""
        if status == DONE and copied:
            self.copied += 1
        elif status == DONE:
            self.defended += 1
        elif status == SKIPPED:
            self.skipped += 1
        else:
            self.failed += 1
            self.failures.append({"input": str(source), "error": reason})

    def conclude(
        self,
        sources: Sequence[Source],
        records: Mapping[str, Record],
        threshold: float,
        seconds: float,
    ) -> None:
        """Fill in what is known when all inputs are counted."""
        self.count_attacked(sources, records, threshold)
        self.seconds = round(seconds, 3)
        finished = self.defended + self.copied
        self.images_per_second = round(finished / max(self.seconds, 1e-9), 2)
        self.failures.sort(key=lambda failure: failure["input"])

    def count_attacked(
        self, sources: Sequence[Source], records: Mapping[str, Record], threshold: float
    ) -> None:
        """Fill in ``scored``, ``attacked`` and ``attacked_threshold`` from the manifest's records,
        of this ANSM alone."""
        wanted = (DONE, self.fingerprint)
        found = (records.get(source.key, {}) for source in sources)
        done = [one for one in found if (one.get("status"), one.get("fingerprint")) == wanted]
        scores = [one["attack_score"] for one in done if isinstance(one.get("attack_score"), float)]
        if scores:
            self.scored, self.attacked_threshold = len(scores), threshold
            self.attacked = sum(score >= threshold for score in scores)
