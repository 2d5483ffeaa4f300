"""What bounds the memory of the pipeline, and lets every thread leave when it stops."""

from __future__ import annotations

import queue
import threading
from typing import Generic, TypeVar

from ansm_fast.inference.profile import waiting

Item = TypeVar("Item")
_POLL = 0.1


class Stopped(BaseException):
    """The pipeline is ending; the thread that gets this returns. No ``except Exception``, as of a
    codec that may raise anything, takes it for a fault."""


class BoundedQueue(Generic[Item]):
    """A queue.Queue whose waits end with Stopped once ``stop`` is set."""

    def __init__(self, size: int, stop: threading.Event) -> None:
        self._queue: queue.Queue[Item] = queue.Queue(size)
        self._stop = stop

    def put(self, item: Item) -> None:
        with waiting():
            while not self._stop.is_set():
                try:
                    return self._queue.put(item, timeout=_POLL)
                except queue.Full:
                    continue
        raise Stopped

    def get(self) -> Item:
        with waiting():
            while not self._stop.is_set():
                try:
                    return self._queue.get(timeout=_POLL)
                except queue.Empty:
                    continue
        raise Stopped

    def get_nowait(self) -> Item | None:
        """Take the next item, or None if there is none just now."""
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return None


class PixelBudget:
    """Bounds the pixels that are decoded and not yet written, whatever the number of images.

    One image larger than the whole budget is let in alone.
    """

    def __init__(self, pixels: int, stop: threading.Event) -> None:
        self._limit, self._used, self._stop = pixels, 0, stop
        self._free = threading.Condition()

    def acquire(self, pixels: int) -> None:
        with waiting(), self._free:
            while self._used and self._used + pixels > self._limit:
                if self._stop.is_set():
                    raise Stopped
                self._free.wait(_POLL)
            self._used += pixels

    def release(self, pixels: int) -> None:
        with self._free:
            self._used -= pixels
            self._free.notify_all()
