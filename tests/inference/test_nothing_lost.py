"""Nothing of the user's is written over, whatever lies where an output was to go."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ansm_fast.errors import InputError
from ansm_fast.inference import Engine, Summary, defend_files, pipeline
from ansm_fast.inference.files import from_files
from ansm_fast.inference.journal import Journal
from ansm_fast.inference.manifest import Manifest
from ansm_fast.inference.mask_pointer import POINTER
from ansm_fast.inference.search import from_folder
from ansm_fast.inference.stores import LocalPlace
from ansm_fast.localizers import BuiltinLocalizer
from ansm_fast.models import ANSM


@pytest.fixture(scope="session")
def engine(ansm: ANSM) -> Engine:
    return Engine(ansm)


@pytest.fixture(scope="session")
def masking(ansm: ANSM) -> Engine:
    return Engine(ansm, BuiltinLocalizer())


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def defend(inputs: Path | list[Path], out: Path, engine: Engine, **options: Any) -> Summary:
    out.mkdir(parents=True, exist_ok=True)
    sources = from_folder(inputs, out) if isinstance(inputs, Path) else from_files(inputs)
    return defend_files(sources, out, engine, **({"fingerprint": "f"} | options))


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("tree", [False, True])
def test_an_unrelated_original_stays(tmp_path: Path, engine: Engine, tree: bool) -> None:
    """`defend photo.jpg -o .` and `--batch photos/jpg -o photos`, beside another photo.png."""
    photo = picture(tmp_path / ("jpg" if tree else ".") / "photo.jpg")
    original = picture(tmp_path / "photo.png", seed=1)
    before = original.read_bytes()
    summary = defend(photo.parent if tree else [photo], tmp_path, engine)
    assert summary.defended == 1 and original.read_bytes() == before
    assert records(tmp_path)[0]["output"] == "photo.jpg.png"
    assert defend(photo.parent if tree else [photo], tmp_path, engine).skipped == 1


@pytest.mark.parametrize("suffix", [".before.png", ".after.png"])
def test_masks_write_over_nothing(tmp_path: Path, masking: Engine, suffix: str) -> None:
    photo, mine = picture(tmp_path / "in" / "a.jpg"), tmp_path / "masks" / f"a{suffix}"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    options = {"masks": tmp_path / "masks", "localizer_fingerprint": "l"}
    assert defend([photo], tmp_path / "out", masking, **options).defended == 1
    assert mine.read_bytes() == b"mine"
    made = {"a.jpg.before.png", "a.jpg.after.png", POINTER}
    assert files(tmp_path / "masks") == {mine.name} | made


def test_an_output_that_the_user_changed_stays(tmp_path: Path, engine: Engine) -> None:
    for name in ("a", "b", "c", "d"):
        picture(tmp_path / "in" / f"{name}.png")
    out = tmp_path / "out"
    defend(tmp_path / "in", out, engine)
    same_size = bytearray((out / "a.png").read_bytes())
    same_size[-20] ^= 1
    (out / "a.png").write_bytes(same_size)
    (out / "b.png").write_bytes(b"another")
    (out / "c.png").unlink()
    (out / "c.png").symlink_to(out / "d.png")
    summary = defend(tmp_path / "in", out, engine, fingerprint="g")
    assert summary.defended == 4
    assert (out / "a.png").read_bytes() == same_size and (out / "b.png").read_bytes() == b"another"
    assert (out / "c.png").is_symlink()
    outputs = {Path(one["input"]).name: one["output"] for one in records(out)[4:]}
    assert outputs == {
        "a.png": "a.png.png", "b.png": "b.png.png", "c.png": "c.png.png", "d.png": "d.png",
    }  # fmt: skip
    assert defend(tmp_path / "in", out, engine, fingerprint="g").skipped == 4


def test_an_emptied_output_is_not_done(tmp_path: Path, engine: Engine) -> None:
    photo, out = picture(tmp_path / "a.jpg"), tmp_path / "out"
    defend([photo], out, engine)
    (out / "a.png").write_bytes(b"")
    assert defend([photo], out, engine).defended == 1
    assert (out / "a.png").read_bytes() == b"" and (out / "a.jpg.png").is_file()


def test_a_manifest_without_checksums_claims_no_content(tmp_path: Path, engine: Engine) -> None:
    """As an earlier version wrote them: what is done stays done, and nothing is replaced."""
    photo, out = picture(tmp_path / "a.jpg"), tmp_path / "out"
    defend([photo], out, engine)
    (record,) = records(out)
    del record["output_sha256"]
    (out / "manifest.jsonl").write_text(json.dumps(record) + "\n")
    before = (out / "a.png").read_bytes()
    assert defend([photo], out, engine).skipped == 1
    assert defend([photo], out, engine, fingerprint="g").defended == 1
    assert (out / "a.png").read_bytes() == before and (out / "a.jpg.png").is_file()


@pytest.mark.parametrize("name", ["../mine.png", "{root}/mine.png", "sub/../../mine.png"])
def test_a_manifest_cannot_lead_outside(tmp_path: Path, engine: Engine, name: str) -> None:
    """Nor with the checksum of what lies there."""
    photo, mine, out = picture(tmp_path / "a.jpg"), picture(tmp_path / "mine.png"), tmp_path / "out"
    before = mine.read_bytes()
    defend([photo], out, engine)
    (record,) = records(out)
    record["output"] = name.format(root=tmp_path)
    record["output_sha256"], record["fingerprint"] = _checksum(mine), "other"
    (out / "manifest.jsonl").write_text(json.dumps(record) + "\n")
    (out / "a.png").unlink()
    assert defend([photo], out, engine).defended == 1
    assert mine.read_bytes() == before and (out / "a.png").is_file()


def _checksum(path: Path) -> str:
    from hashlib import sha256

    return sha256(path.read_bytes()).hexdigest()


def test_an_output_that_became_an_input_stays(tmp_path: Path, engine: Engine) -> None:
    photo = picture(tmp_path / "photo.jpg")
    defend([photo], tmp_path, engine)
    output = tmp_path / "photo.png"
    before = output.read_bytes()
    assert defend([photo, output], tmp_path, engine, fingerprint="g").defended == 2
    assert output.read_bytes() == before


def test_the_output_of_an_input_that_is_gone_stays(tmp_path: Path, engine: Engine) -> None:
    """It may be all that is left of it; an input that was moved takes its output along."""
    first, out = picture(tmp_path / "x" / "a.jpg"), tmp_path / "out"
    defend([first], out, engine)
    before = (out / "a.png").read_bytes()
    moved = tmp_path / "moved" / "a.jpg"
    moved.parent.mkdir()
    os.rename(first, moved)
    assert defend([moved], out, engine).skipped == 1
    assert defend([moved], out, engine, fingerprint="g").defended == 1
    before = (out / "a.png").read_bytes()
    assert files(out) == {"manifest.jsonl", "a.png"}
    moved.unlink()
    other = picture(tmp_path / "y" / "a.jpg", seed=1)
    assert defend([other], out, engine).defended == 1
    assert (out / "a.png").read_bytes() == before and (out / "a.jpg.png").is_file()


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "dangling", "hard link", "case"])
def test_whatever_has_the_name_keeps_it(tmp_path: Path, engine: Engine, kind: str) -> None:
    photo, mine = picture(tmp_path / "in" / "a.jpg"), picture(tmp_path / "mine" / "m.png", seed=1)
    before, target = mine.read_bytes(), tmp_path / "out" / "a.png"
    target.parent.mkdir()
    if kind == "folder":
        target.mkdir()
    elif kind == "pipe":
        os.mkfifo(target)
    elif kind == "link":
        target.symlink_to(mine)
    elif kind == "dangling":
        target.symlink_to(tmp_path / "nowhere.png")
    elif kind == "hard link":
        target.hardlink_to(mine)
    else:
        target = target.with_name("A.PNG")
        shutil.copy(mine, target)
    status = os.lstat(target)
    assert defend([photo], tmp_path / "out", engine).defended == 1
    assert os.lstat(target).st_ino == status.st_ino and mine.read_bytes() == before
    assert not (tmp_path / "nowhere.png").exists()
    assert (tmp_path / "out" / "a.jpg.png").is_file()


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_meanwhile_stays(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    """Between the choice of a name and the writing, and right before the file gets it."""
    photo, out, target = picture(tmp_path / "a.jpg"), tmp_path / "out", tmp_path / "out" / "a.png"
    real = os.link

    def link(source: Path, path: Path) -> None:
        if path == target:
            target.write_bytes(b"mine")
        if path == out / "a.jpg.png":
            path.mkdir()
        if not hard_links:
            raise OSError(errno.EPERM, "no hard links here")
        real(source, path)

    monkeypatch.setattr(os, "link", link)
    assert defend([photo], out, engine).defended == 1
    assert target.read_bytes() == b"mine" and (out / "a-2.png").is_file()
    assert files(out) == {"manifest.jsonl", "a.png", "a.jpg.png", "a-2.png"}
    assert records(out)[0]["output"] == "a-2.png"
    assert defend([photo], out, engine, fingerprint="g").defended == 1
    assert files(out) == {"manifest.jsonl", "a.png", "a.jpg.png", "a-2.png"}


@pytest.mark.parametrize("in_place", [True, False])
def test_an_output_changed_at_the_last_moment_stays(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    """After its content was compared, and before it was replaced."""
    photo, out = picture(tmp_path / "a.jpg"), tmp_path / "out"
    defend([photo], out, engine)
    own = Manifest.is_own

    def changed(manifest: Manifest, place: LocalPlace) -> bool:
        found = own(manifest, place)
        if place.name == "a.png":
            if not in_place:
                place.path.unlink()
            place.path.write_bytes(b"mine")
        return found

    monkeypatch.setattr(Manifest, "is_own", changed)
    assert defend([photo], out, engine, fingerprint="g").defended == 1
    assert (out / "a.png").read_bytes() == b"mine"
    assert files(out) == {"manifest.jsonl", "a.png", "a.jpg.png"}


def test_two_runs_into_one_folder(tmp_path: Path, engine: Engine) -> None:
    photo, out = picture(tmp_path / "a.jpg"), tmp_path / "out"
    out.mkdir()
    first = Manifest(out)
    with pytest.raises(InputError, match=r"another run is writing to \S*out; wait until it ends"):
        defend([photo], out, engine)
    first.close()
    assert defend([photo], out, engine).defended == 1
    assert files(out) == {"manifest.jsonl", "a.png"}


def test_temporary_names_take_nothing(tmp_path: Path, engine: Engine) -> None:
    photo, out = picture(tmp_path / ("long" * 50 + ".jpg")), tmp_path / "out"
    mine = {out / ".a.png.tmp", out / f".ansm-fast-{os.getpid()}.tmp"}
    out.mkdir()
    for path in mine:
        path.write_bytes(b"mine")
    assert defend([picture(tmp_path / "a.jpg"), photo], out, engine).defended == 2
    assert all(path.read_bytes() == b"mine" for path in mine)
    assert len(files(out)) == 5


@pytest.mark.parametrize(
    "text", ['{"input": "question", "output": "answer.png"}\n', "a,b\n1,2\n", '{"images": []}']
)
def test_a_manifest_of_something_else_stays(tmp_path: Path, engine: Engine, text: str) -> None:
    photo, manifest = picture(tmp_path / "a.jpg"), tmp_path / "manifest.jsonl"
    manifest.write_text(text)
    with pytest.raises(InputError, match="another program's file"):
        defend([photo], tmp_path, engine)
    assert manifest.read_text() == text
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(InputError, match="it is a named pipe; give another folder"):
        defend([photo], tmp_path, engine)


@pytest.mark.parametrize("with_masks", [False, True])
def test_a_killed_run_knows_its_files(
    tmp_path: Path,
    engine: Engine,
    masking: Engine,
    monkeypatch: pytest.MonkeyPatch,
    with_masks: bool,
) -> None:
    """Killed after an output was written and before its line: the next run finds the same names,
    and removes the temporary files of the killed one."""
    photo, out = picture(tmp_path / "a.jpg"), tmp_path / "out"
    options: dict[str, Any] = {"masks": tmp_path / "masks"} if with_masks else {}
    used = masking if with_masks else engine
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "close", lambda self, keep=False: self._file.close())
        patch.setattr(Manifest, "add", lambda self, record: None)
        defend([photo], out, used, **options)
    (journal,) = out.glob(".manifest-*.journal")
    left = out / f".a.png.{journal.name.split('-')[1].split('.')[0]}.tmp"
    left.write_bytes(b"cut")
    assert defend([photo], out, used, **options).defended == 1
    assert files(out) == {"manifest.jsonl", "a.png"}
    if with_masks:
        assert files(tmp_path / "masks") == {"a.before.png", "a.after.png", POINTER}


def test_a_failure_takes_its_masks_along(
    tmp_path: Path, masking: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, out, masks = picture(tmp_path / "a.jpg"), tmp_path / "out", tmp_path / "masks"
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.parent == out:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert defend([photo], out, masking, masks=masks).failed == 1
    assert files(masks) == {POINTER} and files(out) == {"manifest.jsonl"}
    assert defend([photo], out, masking, masks=masks).defended == 1


def test_pipes_sockets_and_devices_are_told(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "in"
    picture(photos / "a.jpg")
    os.mkfifo(photos / "pipe.png")
    (photos / "null.jpg").symlink_to("/dev/null")
    (photos / "endless.jpg").symlink_to("/dev/zero")
    (photos / "self.png").symlink_to("self.png")
    monkeypatch.chdir(photos)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
        summary = defend(photos, tmp_path / "out", engine)
        named = defend([photos / "pipe.png", photos / "a.jpg"], tmp_path / "other", engine)
    assert (summary.defended, summary.failed) == (1, 5)
    reasons = {Path(one["input"]).name: one["error"] for one in summary.failures}
    assert reasons.pop("self.png").startswith("cannot be read: ")
    assert reasons == {
        "pipe.png": "cannot be read: it is a named pipe",
        "socket.png": "cannot be read: it is a socket",
        "null.jpg": "cannot be read: it is a device",
        "endless.jpg": "cannot be read: it is a device",
    }
    assert (named.defended, named.failed) == (1, 1)


def test_a_fault_of_ours_is_no_taken_name(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where a folder must be is reported, and not tried under name after name."""
    picture(tmp_path / "in" / "sub" / "a.jpg")
    out = tmp_path / "out"
    out.mkdir()
    (out / "sub").write_bytes(b"mine")
    summary = defend(tmp_path / "in", out, engine)
    assert summary.failed == 1 and "cannot be written" in summary.failures[0]["error"]
    assert (out / "sub").read_bytes() == b"mine"
    assert records(out)[0]["status"] == pipeline.FAILED
