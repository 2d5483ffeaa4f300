"""What a run is about to write, so that the next one knows the files of a run that was killed.

Between an output and its line in the manifest a run may end: without this, the file would be taken
for somebody else's. The journal is removed when its run ends.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import threading
from pathlib import Path
from typing import IO, Any

from ansm_fast.data.atomic import temporary_name
from ansm_fast.inference.files import safe_output_name, targets

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\.manifest-([0-9a-f]{16})\.journal")


def _lock(file: IO[str]) -> bool:
    """Whether nobody else holds the file; it is this process's from now on."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Journal:
    """The journal of one run in the folder of its outputs.

    Attributes:
        begun: records of what killed runs had begun to write.
        token: in the temporary names of this run, by which the next one finds them.
    """

    def __init__(self, folder: Path, masks: Path | None) -> None:
        self._folder, self._masks = folder, masks
        self._thread_lock = threading.Lock()
        self.begun: list[dict[str, Any]] = []
        earlier = [entry for entry in os.listdir(folder) if _NAME.fullmatch(entry)]
        self.token = secrets.token_hex(8)
        self._path = folder / f".manifest-{self.token}.journal"
        self._file = self._path.open("x", encoding="utf-8")
        _lock(self._file)
        for name in sorted(earlier):
            self._take_over(folder / name)

    def _take_over(self, path: Path) -> None:
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                return
            with path.open("r+", encoding="utf-8", errors="replace") as file:
                ended = _lock(file)
                for line in file.read().split("\n"):
                    self._take_line(line, path, ended)
                if ended:
                    path.unlink()
        except OSError:  # its run has just removed it
            return

    def _take_line(self, line: str, path: Path, ended: bool) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            return
        if not isinstance(record, dict) or not isinstance(record.get("input"), str):
            return
        name, found = safe_output_name(record), _NAME.fullmatch(path.name)
        if name is None or found is None:
            return
        self.begun.append(record)
        self.begin(record)
        if ended:
            for target in targets(self._folder, self._masks, name):
                temporary_name(target, found[1]).unlink(missing_ok=True)

    def begin(self, record: dict[str, Any]) -> None:
        """Note the checksums of an input's files before they are written."""
        with self._thread_lock:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()

    def close(self) -> None:
        with self._thread_lock:
            self._file.close()
        self._path.unlink(missing_ok=True)
