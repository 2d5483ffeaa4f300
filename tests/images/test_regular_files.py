"""A file is read whole, as it was at one moment, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansm_fast.images import regular_files
from ansm_fast.images.regular_files import Changing, NotAFile, TooLarge, read_unchanged


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular_files, "_PAUSE", 0.0)


def meanwhile(monkeypatch: pytest.MonkeyPatch, *steps: object) -> None:
    """Call one of ``steps`` after each reading of a file, until none is left."""
    real, left = regular_files._read, list(steps)

    def read(path: Path, most: int | None) -> object:
        found = real(path, most)
        if left:
            left.pop(0)()  # type: ignore[operator]
        return found

    monkeypatch.setattr(regular_files, "_read", read)


def replaced(path: Path, content: bytes, *, like: os.stat_result | None = None) -> object:
    def replace() -> None:
        other = path.with_name("other")
        other.write_bytes(content)
        if like is not None:
            os.utime(other, ns=(like.st_atime_ns, like.st_mtime_ns))
        os.replace(other, path)

    return replace


def test_content_and_state_belong_together(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    content, status = read_unchanged(path, 7)
    assert content == b"content" and status == os.stat(path)
    with pytest.raises(TooLarge, match="has 7 bytes, more than 6"):
        read_unchanged(path, 6)


@pytest.mark.parametrize("how", ["other size", "same size and time"])
def test_a_replaced_file_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"first")
    like = os.stat(path) if how.startswith("same") else None
    meanwhile(monkeypatch, replaced(path, b"other" if like else b"longer", like=like))
    content, status = read_unchanged(path, 100)
    assert content == path.read_bytes() != b"first" and status.st_ino == os.stat(path).st_ino


def test_one_that_never_rests_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"")
    meanwhile(monkeypatch, *[replaced(path, b"x" * size) for size in range(1, 9)])
    with pytest.raises(Changing, match="changes while it is read"):
        read_unchanged(path, 100)


def test_one_that_vanishes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    meanwhile(monkeypatch, path.unlink)
    with pytest.raises(FileNotFoundError):
        read_unchanged(path, 100)


def test_a_huge_file_with_holes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        try:
            file.truncate(200 << 30)
        except OSError:
            pytest.skip("this file system has no such large files")
    with pytest.raises(TooLarge):
        read_unchanged(path, 1 << 30)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAFile, match="a named pipe"):
        read_unchanged(tmp_path / "pipe", 100)
