"""What a run is about to write, so that the next one knows the files of a run that was killed.

Between an output and its line in the manifest a run may end: without this, the file would be taken
for somebody else's. The journal is removed when its run ends.
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
    """The journal of the only run that writes to the folder of its outputs.

    Attributes:
        begun: records of what killed runs had begun to write.
        token: in the temporary names of this run, by which the next one finds them.
    """

    def __init__(self, output: Store, masks: Store | None, *, sync: bool = False) -> None:
        self._output, self._masks = output, masks
        folder = output.state
        self.begun: list[dict[str, Any]] = []
        earlier = [entry for entry in os.listdir(folder) if _NAME.fullmatch(entry)]
        self.token = secrets.token_hex(8)
        self._path = folder / f".manifest-{self.token}.journal"
        self._file = Appender(self._path, new=True, sync=sync)
        for name in sorted(earlier):
            self._take_over(folder / name)

    def _take_over(self, path: Path) -> None:
        try:
            text = read_regular(path).decode("utf-8", errors="replace")
        except OSError:  # not ours, whatever its name says
            return
        token = _NAME.fullmatch(path.name)
        for record in parse(text):
            name = safe_output_name(record)
            if name is None or token is None or not isinstance(record.get("input"), str):
                continue
            self.begun.append(record)
            self.begin(record)
            for place in targets(self._output, self._masks, name):
                place.remove_leftover(token[1])
        path.unlink()

    def begin(self, record: dict[str, Any]) -> None:
        """Note the checksums of an input's files before they are written."""
        self._file.add(record)

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)
