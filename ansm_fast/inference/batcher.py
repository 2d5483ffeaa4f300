"""Groups of equally large images, so that one pass of the network serves several."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass
class Batcher(Generic[Item]):
    """Collects items by bucket.

    Args:
        max_items, max_pixels: a bucket that reaches either is full; an item of more than
            ``max_pixels`` makes a batch of its own.
    """

    max_items: int
    max_pixels: int
    _buckets: dict[Hashable, list[Item]] = field(default_factory=dict)

    def add(self, item: Item, bucket: Hashable, pixels: int) -> list[Item]:
        """Put ``item`` in its bucket; returns the batch if that fills it, otherwise []."""
        waiting = self._buckets.setdefault(bucket, [])
        waiting.append(item)
        if len(waiting) >= self.max_items or (len(waiting) + 1) * pixels > self.max_pixels:
            return self._buckets.pop(bucket)
        return []

    def flush(self) -> list[Item]:
        """Take the fullest bucket, full or not; [] if nothing waits."""
        if not self._buckets:
            return []
        return self._buckets.pop(max(self._buckets, key=lambda key: len(self._buckets[key])))
