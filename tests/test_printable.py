from __future__ import annotations

import pytest

from ansm_fast.printable import one_line


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("é 日本 :smile: [b].png", "é 日本 :smile: [b].png"),
        ("a\nb\r\x1b[2J\x7f\x85", "a\\x0ab\\x0d\\x1b[2J\\x7f\\x85"),
        ("\u2028\u202etxt.exe", "\\u2028\\u202etxt.exe"),
        ("\udcff\ud800", "\\xff\\ud800"),
    ],
)
def test_one_line(name, shown) -> None:
    assert one_line(name) == shown
    assert len(one_line(name).splitlines()) == 1 and one_line(name).encode()
