from __future__ import annotations

import os

import numpy as np
import pytest

from ansm_fast.data import read_rgb
from ansm_fast.images.atomic import make_folder, write_bytes, write_text
from ansm_fast.images.write import write_png


def test_images_survive_as_written(tmp_path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    write_png(tmp_path / "a" / "b.png", image)
    assert np.array_equal(read_rgb(tmp_path / "a" / "b.png"), image)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.png"]


@pytest.mark.parametrize("before", [None, "as it was"])
def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch, before) -> None:
    if before is not None:
        (tmp_path / "a").write_text(before)

    def full(*_arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_text(tmp_path / "a", "new")
    assert [path.name for path in tmp_path.iterdir()] == ([] if before is None else ["a"])
    assert before is None or (tmp_path / "a").read_text() == before


def test_the_temporary_name_is_nobody_elses(tmp_path) -> None:
    (tmp_path / ".a.tmp").write_text("mine")
    write_text(tmp_path / "a", "new")
    write_text(tmp_path / ("b" * 250), "new")
    assert (tmp_path / ".a.tmp").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {".a.tmp", "a", "b" * 250}


def test_the_disk_has_content_then_name_then_folders(tmp_path, monkeypatch) -> None:
    """In this order: a power cut leaves no name of a file whose content is missing."""
    synced, real = [], os.fsync

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.append((os.path.relpath(path, tmp_path), (tmp_path / "x/y/a").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    make_folder(tmp_path / "x" / "y", sync=True)
    assert sorted(synced) == [(".", False), ("x", False)]
    synced.clear()
    write_bytes(tmp_path / "x/y/a", b"content", token="t", sync=True)
    assert synced == [("x/y/.a.t.tmp", False), ("x/y", True)]
    write_bytes(tmp_path / "x/y/b", b"content")
    assert len(synced) == 2
