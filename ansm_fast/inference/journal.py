"""What a run is about to write, so that the next one knows the files of a run that was killed.

Between an output and its line in the manifest a run may end: without this, the file would be taken
for somebody else's. The journal is removed when its run ends. Of several processes that share a run
each has a journal of its own, with the lines that go to the manifest in it as well.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Any

from ansm_fast.images.regular_files import read_regular
from ansm_fast.inference.files import safe_output_name, targets
from ansm_fast.inference.stores import Store
from ansm_fast.json_lines import Appender, parse

_NAME = re.compile(r"\.manifest-([0-9a-f]{16})\.journal")


class Journal:
    """The journal of a process that writes to the folder of its outputs.

    Args:
        shared: others write there too, in the same run: their journals are left alone.

    Attributes:
        begun: records of what killed runs had begun to write.
        finished: of those, lines for the manifest that may not be in it.
        token: in the temporary names of this run, by which the next one finds them.
    """

    def __init__(
        self, output: Store, masks: Store | None, *, sync: bool = False, shared: bool = False
    ) -> None:
        self._output, self._masks = output, masks
        self.begun: list[dict[str, Any]] = []
        self.finished: list[dict[str, Any]] = []
        earlier = [] if shared else self._others()
        self.token = secrets.token_hex(8)
        self._path = output.state / f".manifest-{self.token}.journal"
        self._file = Appender(self._path, new=True, sync=sync)
        for path in earlier:
            self._take_over(path)

    def _others(self) -> list[Path]:
        folder = self._output.state
        return [folder / name for name in sorted(os.listdir(folder)) if _NAME.fullmatch(name)]

    def _take_over(self, path: Path) -> None:
        token = _NAME.fullmatch(path.name)
        records = _records(path)
        if records is None or token is None:  # not ours, whatever its name says
            return
        for record in records:
            if "status" in record:
                self.finished.append(record)
                continue
            self.begun.append(record)
            self.begin(record)
            for place in targets(self._output, self._masks, str(record["output"])):
                place.remove_leftover(token[1])
        path.unlink()

    def of_others(self) -> list[dict[str, Any]]:
        """What the other processes of a shared run, also those that were killed, have begun to
        write by now."""
        paths = [path for path in self._others() if path != self._path]
        return [record for path in paths for record in _records(path) or ()]

    def take_over_shared(self) -> None:
        """Remove the journals of the other processes of a shared run, and what they left of
        unfinished files; none of them may be writing any more."""
        for path in self._others():
            if path != self._path:
                self._take_over(path)

    def begin(self, record: dict[str, Any]) -> None:
        """Note the checksums of an input's files before they are written."""
        self._file.add(record)

    def close(self, *, keep: bool = False) -> None:
        """Remove it, unless a run that failed may have written what has no line in the manifest."""
        self._file.close()
        if not keep:
            self._path.unlink(missing_ok=True)


def _records(path: Path) -> list[dict[str, Any]] | None:
    """The records of a journal that name an output; None if it is no file."""
    try:
        text = read_regular(path).decode("utf-8", errors="replace")
    except OSError:
        return None
    return [
        record
        for record in parse(text)
        if safe_output_name(record) is not None and isinstance(record.get("input"), str)
    ]
