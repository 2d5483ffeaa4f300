"""What a search takes, and what it says that it left out."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ansm_fast.errors import InputError
from ansm_fast.images import walk
from ansm_fast.images.find import find_images, left_out_lines
from ansm_fast.images.walk import LeftOut
from ansm_fast.inference import Engine, Summary, defend_files
from ansm_fast.inference.mask_pointer import POINTER
from ansm_fast.inference.search import from_folder
from ansm_fast.localizers import BuiltinLocalizer
from ansm_fast.models import ANSM


def picture(path: Path, seed: int = 0, form: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(pixels).save(path, form)
    return path


def search(folder: Path, out: Path | None = None, **options: Any) -> tuple[list[str], dict]:
    left_out = LeftOut()
    found = from_folder(folder, out, left_out=left_out, **options)
    reasons = {one["reason"]: one["count"] for one in left_out.as_list()}
    return [str(source.relative) for source in found], reasons


def test_what_is_hidden_is_counted(tmp_path: Path) -> None:
    for name in ("a.png", ".b.png", ".c.jpg", ".trash/d.png"):
        picture(tmp_path / name)
    for name in (".DS_Store", "notes.txt", ".a.png.0123.tmp"):
        (tmp_path / name).write_text("BM, a note")
    assert search(tmp_path) == (["a.png"], {"hidden": 3})


def test_images_of_other_names_are_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for index, form in enumerate(("JPEG", "PNG", "TIFF", "WEBP", "BMP")):
        picture(tmp_path / f"photo{index}.dat", form=form)
    picture(tmp_path / "no_suffix", form="PNG")
    (tmp_path / "letter").write_text("BMW is no image, however it begins; this is longer")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "self").symlink_to("self")
    left_out = LeftOut()
    assert len(from_folder(tmp_path, left_out=left_out)) == 1
    (one,) = left_out.as_list()
    assert one["count"] == 6 and len(one["first"]) == 3 and "not by its name" in one["reason"]
    (line,) = left_out.lines()
    assert line.startswith(f"left out: {tmp_path}/no_suffix and 5 more (an image by its content")


def test_linked_folders_are_told_or_followed_once(tmp_path: Path) -> None:
    root, far = tmp_path / "in", tmp_path / "far"
    picture(root / "z" / "a.png")
    picture(far / "b.png")
    (far / "loop").symlink_to(far)
    (far / "up").symlink_to(root)
    (root / "0_same").symlink_to(root / "z")  # before the folder itself, by name
    (root / "1_self").symlink_to(root)
    (root / "2_far").symlink_to(far)
    (root / "3_far").symlink_to(far)
    (root / "4_broken").symlink_to(tmp_path / "nowhere")
    names, reasons = search(root)
    assert names == ["z/a.png"] and reasons == {walk.LINKED_FOLDER: 4}
    names, reasons = search(root, follow_links=True)
    assert names == ["z/a.png", "2_far/b.png"] and reasons == {walk.LINKED_AGAIN: 5}


def test_a_folder_that_cannot_be_opened_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "a" / "a.png")
    picture(tmp_path / "b" / "b.png")
    real = os.scandir

    def scandir(path: Path) -> Any:
        if path == tmp_path / "a":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(walk.os, "scandir", scandir)
    left_out = LeftOut()
    assert [one.path.name for one in from_folder(tmp_path, left_out=left_out)] == ["b.png"]
    assert left_out.has_unreadable()
    assert left_out.lines() == [f"left out: {tmp_path}/a (cannot be opened: Permission denied)"]
    (tmp_path / "b" / "b.png").unlink()
    with pytest.raises(InputError, match=r"no image in .*left out: .*a .cannot be opened"):
        from_folder(tmp_path)


def test_folders_of_any_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deeper than calls may be nested."""
    depth, limit = 250, sys.getrecursionlimit()
    folder = tmp_path.joinpath("in", *["d"] * depth)
    folder.mkdir(parents=True)
    picture(folder / "a.png")
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        found = search(tmp_path / "in")
    finally:
        sys.setrecursionlimit(limit)
    assert found == (["d/" * depth + "a.png"], {})


def defend(inputs: Path, out: Path, engine: Engine, **options: Any) -> Summary:
    out.mkdir(parents=True, exist_ok=True)
    sources = from_folder(inputs, out)
    return defend_files(sources, out, engine, **({"fingerprint": "f"} | options))


@pytest.mark.parametrize("out", ["photos/out", "photos", "photos/jpg/out", "elsewhere"])
@pytest.mark.parametrize("masks", [None, "photos/jpg/masks", "photos/out-masks"])
def test_no_run_takes_results_for_photographs(
    tmp_path: Path, ansm: ANSM, out: str, masks: str | None
) -> None:
    """Wherever they lie, and also where the next run writes to another folder."""
    photos = tmp_path / "photos" / "jpg"
    picture(photos / "a.jpg")
    picture(photos / "jpg" / "b.jpg")  # whose output may lie beside a.jpg
    engine = Engine(ansm, BuiltinLocalizer() if masks else None)
    options: dict[str, Any] = {"masks": tmp_path / masks} if masks else {}
    assert defend(photos, tmp_path / out, engine, **options).defended == 2
    for _ in range(2):
        again = defend(photos, tmp_path / out, engine, **options)
        assert (again.total, again.skipped) == (2, 2)
    assert defend(photos, tmp_path / "next", Engine(ansm)).total == 2
    moved = tmp_path / "moved"
    os.rename(tmp_path / "photos", moved)
    assert defend(moved / "jpg", tmp_path / "third", engine).total == 2


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"a\0manifest.jsonl\n", b"/dev/zero\n", b"\xff" * 99]
)
def test_a_file_with_the_name_of_a_pointer_is_left_alone(
    tmp_path: Path, ansm: ANSM, content: bytes
) -> None:
    picture(tmp_path / "in" / "a.png")
    masks = tmp_path / "in" / "masks"
    masks.mkdir()
    (masks / POINTER).write_bytes(content)
    engine = Engine(ansm, BuiltinLocalizer())
    assert defend(tmp_path / "in", tmp_path / "out", engine, masks=masks).defended == 1
    assert (masks / POINTER).read_bytes() == content
    assert "a.png" in search(tmp_path / "in", tmp_path / "new")[0]


def test_a_huge_file_with_the_name_of_a_pointer_is_not_read(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    huge = tmp_path / "in" / POINTER
    huge.touch()
    os.truncate(huge, 1 << 40)  # sparse: to read it would take all memory
    assert search(tmp_path / "in", tmp_path / "new")[0] == ["a.png"]


def test_outputs_are_images_where_their_originals_are_not(tmp_path: Path, ansm: ANSM) -> None:
    engine = Engine(ansm)
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "b.jpg")
    defend(tmp_path / "in", tmp_path / "out", engine)
    assert defend(tmp_path / "out", tmp_path / "twice", engine).defended == 2
    # What somebody put in an output's place is no output.
    picture(tmp_path / "in" / "out" / "c.png")
    defend(tmp_path / "in", tmp_path / "in" / "out", engine)
    picture(tmp_path / "in" / "out" / "a.png", seed=5).open("ab").write(b"more")
    names, reasons = search(tmp_path / "in", tmp_path / "new")
    assert names == ["a.png", "b.jpg", "out/a.png", "out/c.png"]
    assert reasons == {"an output of an earlier run": 1}


def test_other_commands_tell_of_folders_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "a" / "a.png")
    picture(tmp_path / "b.png")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if os.fspath(path) == str(tmp_path / "a"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    left_out: dict[str, list[Path]] = {}
    assert find_images(tmp_path, left_out) == [tmp_path / "b.png"]
    assert left_out_lines(left_out) == [
        f"left out: {tmp_path / 'a'} is a folder that cannot be opened"
    ]
