"""The compiled libraries hold what runs: no debug information, no names that nobody looks up."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from ansm_fast.ops import library


def section_names(path: Path) -> list[str]:
    """Of a 64-bit little-endian ELF file."""
    content = path.read_bytes()
    assert content[:6] == b"\x7fELF\x02\x01"
    (table,) = struct.unpack_from("<Q", content, 0x28)
    size, count, names = struct.unpack_from("<HHH", content, 0x3A)
    headers = [struct.unpack_from("<II8xQQQ", content, table + size * i) for i in range(count)]
    start = headers[names][3]
    return [
        content[start + header[0] : content.index(b"\0", start + header[0])].decode()
        for header in headers
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at ELF files")
@pytest.mark.skipif(library.PATH is None, reason="no compiled library")
@pytest.mark.parametrize("name", ["_C.abi3.so", "_C_cuda.so"])
def test_no_debug_information(name) -> None:
    path = library.PACKAGE / name
    if not path.is_file():
        assert name == "_C_cuda.so"  # built only where nvcc is
        return
    names = section_names(path)
    assert ".text" in names and ".dynsym" in names  # which loading needs
    assert [one for one in names if "debug" in one or one in (".symtab", ".strtab")] == []
    if name == "_C.abi3.so":
        assert path.stat().st_size < 4e6
