"""Every field of every row as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from ansm_fast.evaluation.rows import Row


def csv_text(rows: Sequence[Row]) -> str:
    """Write a head line and one line a row; what is None stays empty."""
    fields = list(dict.fromkeys(field for row in rows for field in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
