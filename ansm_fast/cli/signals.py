"""The signals that end a command: after the first it ends as by Ctrl-C, at a second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

# What each is called, by its number; the exit code is 128 more.
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):
    WORDS[signal.SIGHUP] = "hung up"


@contextlib.contextmanager
def ending() -> Iterator[list[int]]:
    """Turn each of these signals into a KeyboardInterrupt; gives those that have arrived.

    What is ignored stays so, as SIGHUP under ``nohup``.
    """
    received: list[int] = []
    before: dict[int, Any] = {}

    def end(number: int, _frame: object) -> None:
        received.append(number)
        for one in before:
            signal.signal(one, signal.SIG_DFL)
        raise KeyboardInterrupt

    # One of several processes may wait for the others where no handler is ever run.
    if os.environ.get("WORLD_SIZE", "1") == "1":
        for number in WORDS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            with contextlib.suppress(ValueError):  # not the main thread
                before[number] = signal.signal(number, end)
    try:
        yield received
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
