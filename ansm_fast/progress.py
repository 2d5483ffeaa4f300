"""How far a long work is: a bar on a terminal, otherwise a line now and then on stderr.

Whoever interrupts it is told where it was.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from ansm_fast.errors import Interrupted

# Seconds from one line to the next: at least, as a share of what has passed, and at most.
_LEAST, _SHARE, _MOST = 10.0, 0.1, 600.0


def duration(seconds: float) -> str:
    """0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Counts pieces of work; a context manager.

    Args:
        title: what is done, e.g. "attack".
        total: pieces of work, where they are known.
        unit: what a piece is called, e.g. "images"; the rate is shown in it.
        done: pieces that an earlier run has done.
        silent: show nothing.
        advice: what an interrupted user is told to do; None: to give the same command.

    Attributes:
        console: of the bar; what is printed through it does not break the bar.
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        *,
        unit: str = "images",
        done: int = 0,
        silent: bool = False,
        advice: str | None = None,
    ) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        # One of several processes speaks.
        silent = silent or os.environ.get("RANK", "0") != "0"
        self.silent, self.advice, self.unit = silent, advice, unit
        self._bar: Bar | None = None
        # Not the console's word alone: FORCE_COLOR makes a log file look like a terminal to it.
        terminal = self.console.is_terminal and not self.console.is_dumb_terminal
        if terminal and sys.stderr.isatty() and not silent:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._task = self._bar.add_task("", rate="")
        self.start(title, total, done)

    def start(self, title: str, total: int | None, done: int = 0) -> None:
        """Begin the next work."""
        self.title, self.total, self.done, self.note = title, total, done, ""
        self._first, self._started = done, time.monotonic()
        self._next = self._started + _LEAST
        if self._bar is not None:
            self._bar.reset(self._task, description=title, total=total, completed=done)

    def advance(self, pieces: int = 1, note: str = "") -> None:
        """So many more are done; ``note`` is shown beside them."""
        self.done, self.note = self.done + pieces, note
        now = time.monotonic()
        passed = now - self._started
        speed = (self.done - self._first) / passed if passed > 0 else 0.0
        if self._bar is not None:
            self._bar.update(
                self._task,
                advance=pieces,
                description=f"{self.title} {note}".rstrip(),
                rate=f"{speed:.1f} {self.unit}/s",
            )
        elif not self.silent and now >= self._next:
            self._next = now + min(_MOST, max(_LEAST, _SHARE * passed))
            self._say(passed, speed)

    def _say(self, passed: float, speed: float) -> None:
        text = f"{self.where()}, {duration(passed)} passed"
        if self.note:
            text += f", {self.note}"
        if self.total is not None and speed > 0:
            text += f", about {duration((self.total - self.done) / speed)} left"
        self.console.print(text, markup=False)

    def where(self) -> str:
        """E.g. "attack: 12 of 97 images"."""
        of = "" if self.total is None else f" of {self.total}"
        return f"{self.title}: {self.done}{of} {self.unit}"

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, _traceback: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
        if isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted):
            raise Interrupted(f"at {self.where()}", self.advice) from error
