"""Names of files as one line of a terminal or a log, whatever bytes they are made of."""

from __future__ import annotations

import re

# Ends of lines, what controls a terminal, what turns the order of letters round, and bytes that are
# no text.
_ODD = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def one_line(text: str) -> str:
    """Escape as Python does what would break a line or tell a terminal what to do."""
    return _ODD.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python holds it in a name
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
