"""What libraries say while they read and write files: told once, with the file that it was about.

Decoders warn through Python's warnings, through logging, or write to stderr by themselves,
thousands of times over a large folder, and seldom name the file.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

_LOGGERS = ("tifffile", "PIL")
_MOST_OF_A_FILE = 10
_LONGEST = 200


class Messages:
    """Collects messages while it is entered.

    Args:
        say: called with a line for the first message of a kind, and in the end with one for the
            others of a kind. Messages that differ in numbers alone are of one kind.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._lock = say, threading.Lock()
        self._here = threading.local()  # .found: of the file that this thread is at
        self._kinds: dict[str, tuple[str, int]] = {}  # the first text, and of how many files
        self._raw: int | None = None  # what C libraries write to stderr
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Messages:
        self._catch_warnings()
        handler = _Handler(self)
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(handler)
            self._undo.callback(logging.getLogger(name).removeHandler, handler)
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no stderr of the system's
            if sys.stderr.fileno() == 2:
                self._catch_stderr()
        return self

    def __exit__(self, *exception: object) -> None:
        self._undo.close()
        for text, count in self._kinds.values():
            if more := count - 1:
                self._say(f"warning: as of {more} more file{'s' * (more > 1)}: {text}")

    @contextlib.contextmanager
    def about(self, file: str) -> Iterator[list[str]]:
        """What is said inside by this thread is about ``file``; gives the list of it."""
        self._here.file, self._here.found, self._here.kinds = file, [], set()
        try:
            yield self._here.found
        finally:
            self._take_raw()
            self._here.found = None

    def add(self, text: str) -> bool:
        """Take a message of this thread; False if it isn't at a file."""
        found: list[str] | None = getattr(self._here, "found", None)
        if found is None:
            return False
        text = " ".join(text.split())[:_LONGEST]
        if text and text not in found and len(found) < _MOST_OF_A_FILE:
            found.append(text)
        kind = re.sub(r"\d+", "0", text)
        if not text or kind in self._here.kinds:
            return True
        self._here.kinds.add(kind)
        with self._lock:
            shown, count = self._kinds.get(kind, (text, 0))
            self._kinds[kind] = (shown, count + 1)
        if not count:
            self._say(f"warning: {self._here.file}: {text}")
        return True

    def _catch_warnings(self) -> None:
        shown = warnings.showwarning

        def warn(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if not self.add(str(message)):
                shown(message, category, *where, **more)

        self._undo.enter_context(warnings.catch_warnings())
        # For each file, not once for each line of code.
        warnings.filterwarnings("always", module=r"PIL\b|tifffile\b|imagecodecs\b")
        warnings.showwarning = warn

    def _catch_stderr(self) -> None:
        """Let what is no Python write to a file in memory. No pipe: who fills one waits, perhaps
        with the lock of the thread that would empty it."""
        sys.stderr.flush()
        real = os.dup(2)
        self._undo.callback(os.close, real)
        if hasattr(os, "memfd_create"):
            self._raw = os.memfd_create("stderr")
        else:
            with tempfile.TemporaryFile() as file:
                self._raw = os.dup(file.fileno())
        self._undo.callback(os.close, self._raw)
        ours, before = os.fdopen(os.dup(real), "w", encoding=sys.stderr.encoding,
                                 errors=sys.stderr.errors, buffering=1), sys.stderr  # fmt: skip
        sys.stderr = ours
        os.dup2(self._raw, 2)
        crashes = faulthandler.is_enabled()
        if crashes:
            faulthandler.enable(real)

        def restore() -> None:
            ours.flush()
            os.dup2(real, 2)
            sys.stderr = before
            if crashes:
                faulthandler.enable(2)
            ours.close()
            self._raw = None

        self._undo.callback(restore)

    def _take_raw(self) -> None:
        if self._raw is None:
            return
        with self._lock:
            size = os.fstat(self._raw).st_size
            if not size:
                return
            text = os.pread(self._raw, 1 << 16, 0).decode(errors="replace")
            os.ftruncate(self._raw, 0)
            os.lseek(self._raw, 0, os.SEEK_SET)
        for line in text.splitlines():
            self.add(line)


class _Handler(logging.Handler):
    def __init__(self, messages: Messages) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.add(record.getMessage())
