"""Metrics of a training run: JSON lines always, CSV and TensorBoard where asked for."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansm_fast import json_lines
from ansm_fast.errors import InputError
from ansm_fast.images.atomic import write_text

Row = Mapping[str, float]


def _summary_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "logs: tensorboard is not installed; pip install 'ansm-fast[train]' or take "
            "'tensorboard' out of the config's `logs`"
        ) from error
    # What a killed run wrote after its last saved state is not shown.
    return SummaryWriter(folder, purge_step=step + 1)


class MetricsLog:
    """``metrics.jsonl``, one row a line, and the same rows in other formats.

    Args:
        out: folder of the run.
        formats: of "csv" (``metrics.csv``) and "tensorboard" (``tensorboard/``).
    """

    def __init__(self, out: Path, formats: Sequence[str] = ()) -> None:
        self.path = out / "metrics.jsonl"
        self._csv = out / "metrics.csv" if "csv" in formats else None
        self._folder = out / "tensorboard" if "tensorboard" in formats else None
        self._board: Any = None

    def _rows(self) -> list[dict[str, float]]:
        rows = json_lines.read(self.path, self._damaged)
        for number, row in enumerate(rows, 1):
            if not isinstance(row.get("step"), int):
                self._damaged(number)
        return rows

    def _damaged(self, number: int) -> None:
        raise InputError(
            f"{self.path} is damaged in line {number}; take that line out and give the same "
            "command again"
        )

    def start(self, step: int) -> None:
        """Drop rows after ``step``, the steps that a resumed run takes again.

        Raises:
            InputError: a file that is to be written is somebody else's, or damaged.
        """
        if self._csv is not None and self._csv.exists():
            with self._csv.open("rb") as file:
                beginning = file.read(4).strip()
            if beginning not in (b"", b"step"):
                raise InputError(
                    f"{self._csv} holds no metrics of a training; give another output folder, or "
                    "move it away"
                )
        kept = [row for row in self._rows() if row["step"] <= step]
        if kept or self.path.exists():
            write_text(self.path, json_lines.text_of(kept))
        if self._folder is not None:
            self._board = _summary_writer(self._folder, step)

    def write(self, row: Row) -> None:
        """Append one row; "step" numbers it, names that begin with "val_" are of the validation."""
        with json_lines.Appender(self.path) as file:
            file.add(row)
        if self._board is not None:
            for key, value in row.items():
                group = "validation" if key.startswith("val_") else "train"
                if key != "step":
                    tag = f"{group}/{key.removeprefix('val_')}"
                    self._board.add_scalar(tag, value, int(row["step"]))

    def flush(self) -> None:
        """Bring everything to the disk; the CSV file is written anew, with all columns so far."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        if self._csv is not None:
            rows = self._rows()
            columns = list(dict.fromkeys(key for row in rows for key in row))
            text = io.StringIO()
            writer = csv.DictWriter(text, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(self._csv, text.getvalue())
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
