"""What is done is known again, and what isn't is never taken for it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ansm_fast.images import regular_files
from ansm_fast.inference import DefendOptions, Engine, Summary, defend_files, pipeline, reading
from ansm_fast.inference.files import FileSource, from_files
from ansm_fast.inference.reading import ATTEMPTS
from ansm_fast.inference.search import from_folder
from ansm_fast.localizers import BuiltinLocalizer
from ansm_fast.models import ANSM


@pytest.fixture(scope="session")
def engine(ansm: ANSM) -> Engine:
    return Engine(ansm)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PAUSE", 0.0)
    monkeypatch.setattr(regular_files, "_PAUSE", 0.0)


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(pixels).save(path.with_suffix(".bmp"))
    os.replace(path.with_suffix(".bmp"), path)  # of one size, whatever it shows
    return path


def defend(inputs: Path | list[Path], out: Path, engine: Engine, **options: Any) -> Summary:
    out.mkdir(parents=True, exist_ok=True)
    sources = from_folder(inputs, out) if isinstance(inputs, Path) else from_files(inputs)
    return defend_files(sources, out, engine, **({"fingerprint": "f"} | options))


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def files(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found - {"manifest.jsonl"}


VERIFY = {"options": DefendOptions(verify=True)}


def test_a_link_and_its_target_are_two_inputs(tmp_path: Path, engine: Engine) -> None:
    photo, out = picture(tmp_path / "in" / "a.png"), tmp_path / "out"
    (tmp_path / "in" / "link.png").symlink_to(photo)
    assert defend(photo.parent, out, engine).defended == 2
    assert files(out) == {"a.png", "link.png"}
    assert len({record["input"] for record in records(out)}) == 2
    assert defend(photo.parent, out, engine).skipped == 2
    named = defend([photo, tmp_path / "in" / "link.png"], tmp_path / "other", engine)
    assert named.defended == 2
    picture(photo, seed=1)  # of which the link tells as well
    assert defend(photo.parent, out, engine).defended == 2


def test_what_an_input_links_to_is_not_written_over(tmp_path: Path, engine: Engine) -> None:
    photo, out = picture(tmp_path / "a.png"), tmp_path / "out"
    defend([photo], out, engine)
    before = (out / "a.png").read_bytes()
    (tmp_path / "link.png").symlink_to(out / "a.png")
    assert defend([tmp_path / "link.png", photo], out, engine, fingerprint="g").defended == 2
    assert (out / "a.png").read_bytes() == before and files(out) == {
        "a.png", "a.png.png", "link.png",
    }  # fmt: skip


@pytest.mark.parametrize("how", ["moved", "copied", "copied with new times", "both moved"])
@pytest.mark.parametrize("with_masks", [False, True])
def test_a_tree_elsewhere_resumes(tmp_path: Path, ansm: ANSM, how: str, with_masks: bool) -> None:
    engine = Engine(ansm, BuiltinLocalizer() if with_masks else None)
    first = tmp_path / "first"
    options: dict[str, Any] = {"masks": first / "masks"} if with_masks else {}
    for index, name in enumerate(("a.png", "sub/b.jpg", "sub/a.png")):
        picture(first / "in" / name, seed=index)
    assert defend(first / "in", first / "out", engine, **options).defended == 3
    second = tmp_path / "deep" / "second"
    second.parent.mkdir()
    if how == "both moved":
        first.rename(second)
        options = {"masks": second / "masks"} if with_masks else {}
        inputs, out = second / "in", second / "out"
    else:
        inputs, out = second / "in", first / "out"
        if how == "moved":
            second.mkdir()
            (first / "in").rename(inputs)
        else:
            shutil.copytree(first / "in", inputs)
    if how == "copied with new times":
        for path in inputs.rglob("*.*"):
            os.utime(path, ns=(0, 10**18))
    left = files(out)
    for _ in range(2):
        assert defend(inputs, out, engine, **options).skipped == 3
    picture(inputs / "sub/a.png", seed=9)
    again = defend(inputs, out, engine, **options)
    assert (again.defended, again.skipped) == (1, 2) and len(files(out)) - len(left) in (0, 1)


def test_another_tree_of_the_same_names_is_another(tmp_path: Path, engine: Engine) -> None:
    for tree in ("x", "y"):
        picture(tmp_path / tree / "a.png", seed=ord(tree))
        os.utime(tmp_path / tree / "a.png", ns=(0, 10**18))
    out = tmp_path / "out"
    assert defend(tmp_path / "x", out, engine).defended == 1
    before = (out / "a.png").read_bytes()
    assert defend(tmp_path / "y", out, engine).defended == 1
    assert (out / "a.png").read_bytes() == before and files(out) == {"a.png", "a.png.png"}


def test_a_touched_input_is_done_and_a_changed_one_is_not(tmp_path: Path, engine: Engine) -> None:
    photo, out = picture(tmp_path / "in" / "a.png"), tmp_path / "out"
    defend([photo], out, engine)
    os.utime(photo, ns=(0, 10**18))
    assert defend([photo], out, engine).skipped == 1
    count = len(records(out))
    assert defend([photo], out, engine).skipped == 1 and len(records(out)) == count
    picture(photo, seed=1)
    os.utime(photo, ns=(0, 2 * 10**18))
    assert defend([photo], out, engine).defended == 1


def test_a_change_that_left_size_and_time_is_found(tmp_path: Path, engine: Engine) -> None:
    """As on a file system whose clock is coarse, if it was new when it was read; later changes that
    leave both are what ``verify`` is for."""
    photo, out = picture(tmp_path / "a.png"), tmp_path / "out"
    status = os.stat(photo)
    defend([photo], out, engine)
    picture(photo, seed=1)
    os.utime(photo, ns=(0, status.st_mtime_ns))
    assert defend([photo], out, engine).defended == 1
    os.utime(photo, ns=(0, 10**18))
    assert defend([photo], out, engine).skipped == 1
    picture(photo, seed=2)
    os.utime(photo, ns=(0, 10**18))
    assert defend([photo], out, engine).skipped == 1
    assert defend([photo], out, engine, **VERIFY).defended == 1
    assert defend([photo], out, engine, **VERIFY).skipped == 1


@pytest.mark.parametrize("damage", ["emptied", "cut", "flipped", "gone"])
def test_a_damaged_output_is_not_done(tmp_path: Path, engine: Engine, damage: str) -> None:
    photo, out = picture(tmp_path / "a.png"), tmp_path / "out"
    defend([photo], out, engine)
    content = bytearray((out / "a.png").read_bytes())
    if damage == "flipped":
        content[-20] ^= 1
    left = {"emptied": b"", "cut": content[:-1], "flipped": content}.get(damage)
    if left is None:
        (out / "a.png").unlink()
    else:
        (out / "a.png").write_bytes(left)
    if damage == "flipped":  # of which the size tells nothing
        assert defend([photo], out, engine).skipped == 1
    assert defend([photo], out, engine, **VERIFY).defended == 1
    assert left is None or (out / "a.png").read_bytes() == left


def during(monkeypatch: pytest.MonkeyPatch, name: str, *steps: Callable[[], object]) -> None:
    """Call one of ``steps`` after each call of ``pipeline.name``, until none is left."""
    real, left = getattr(pipeline, name), list(steps)

    def call(*arguments: Any) -> Any:
        result = real(*arguments)
        if left:
            left.pop(0)()
        return result

    monkeypatch.setattr(pipeline, name, call)


@pytest.mark.parametrize("times", [1, ATTEMPTS - 1, ATTEMPTS])
def test_an_input_replaced_while_it_is_defended_is_redone(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    photo, out, clean = picture(tmp_path / "a.png"), tmp_path / "out", tmp_path / "clean"

    def replace(seed: int) -> Callable[[], object]:
        return lambda: os.utime(picture(photo, seed), ns=(0, seed))

    during(monkeypatch, "decode_photograph", *(replace(seed) for seed in range(1, times + 1)))
    summary = defend([photo], out, engine)
    if times == ATTEMPTS:
        assert summary.failed == 1 and files(out) == set()
        assert summary.failures[0]["error"] == "was replaced 3 times while it was defended"
        return
    assert summary.defended == 1
    defend([photo], clean, engine)
    assert (out / "a.png").read_bytes() == (clean / "a.png").read_bytes()
    assert records(out)[0]["input_mtime_ns"] == times
    assert defend([photo], out, engine).skipped == 1


def test_an_input_that_vanishes_after_it_was_read_is_done(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, out = picture(tmp_path / "a.png"), tmp_path / "out"
    during(monkeypatch, "decode_photograph", photo.unlink)
    assert defend([photo], out, engine).defended == 1
    (record,) = records(out)
    assert record["input_bytes"] > 0 and (out / "a.png").is_file()


def test_an_input_that_vanishes_while_it_is_read_is_told(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = [picture(tmp_path / f"{name}.png") for name in "ab"], tmp_path / "out"
    real = FileSource.read

    def read(source: FileSource) -> bytes:
        content = real(source)
        if source.path == photos[0]:
            source.path.unlink()
        return content

    monkeypatch.setattr(FileSource, "read", read)
    summary = defend(photos, out, engine)
    assert (summary.defended, summary.failed) == (1, 1) and files(out) == {"b.png"}
    assert summary.failures[0]["error"] == "cannot be read: No such file or directory"


def test_a_link_takes_no_output_outside(tmp_path: Path, engine: Engine) -> None:
    """A manifest from elsewhere, with a link beside it to a folder whose content it knows."""
    photo, out, mine = picture(tmp_path / "in/sub/a.png"), tmp_path / "out", tmp_path / "mine"
    defend(tmp_path / "in", out, engine)
    shutil.move(out / "sub", mine)
    (out / "sub").symlink_to(mine)
    before = (mine / "a.png").read_bytes()
    assert defend(tmp_path / "in", out, engine).skipped == 1
    assert defend(tmp_path / "in", out, engine, fingerprint="g").defended == 1
    assert (mine / "a.png").read_bytes() == before and photo.is_file()


def test_names_of_any_bytes_resume(tmp_path: Path, engine: Engine) -> None:
    root = os.fsencode(tmp_path / "in")
    os.mkdir(root)
    for index, name in enumerate((b"\xff\xfe.png", "\x85\u2028\u2029é\n\r\x1b[1m.png".encode())):
        os.rename(picture(tmp_path / "x.png", index), os.path.join(root, name))
    out = tmp_path / "out"
    assert defend(tmp_path / "in", out, engine).defended == 2
    assert len((out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert defend(tmp_path / "in", out, engine).skipped == 2


def test_waiting_for_the_disk_changes_nothing_else(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), real(file)))
    photo, out, other = picture(tmp_path / "a.png"), tmp_path / "out", tmp_path / "other"
    assert defend([photo], out, engine).defended == 1 and not synced
    assert defend([photo], other, engine, options=DefendOptions(sync=True)).defended == 1
    # The journal, the output, its folder and the line of the manifest.
    assert len(synced) == 4
    assert (out / "a.png").read_bytes() == (other / "a.png").read_bytes()
