"""Formats of outputs, and images that are copied because they don't look attacked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from ansm_fast.inference import Engine, Summary, defend_files
from ansm_fast.inference.form import Form
from ansm_fast.inference.manifest import Manifest
from ansm_fast.inference.search import from_folder
from ansm_fast.localizers import BuiltinLocalizer
from ansm_fast.models import ANSM


@pytest.fixture(scope="session")
def engine(ansm: ANSM) -> Engine:
    return Engine(ansm)


class Scored(Engine):
    """Whose attack score is the share of the first pixel's red."""

    def defend(self, images: Any) -> Any:
        results = super().defend(images)
        for image, result in zip(images, results, strict=True):
            result.attack_score = float(image.pixels[0, 0, 0]) / 255
        return results


@pytest.fixture(scope="session")
def scored(ansm: ANSM) -> Engine:
    return Scored(ansm)


def picture(path: Path, red: int = 0, dtype: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(dtype)
    pixels[..., 2 if dtype == np.uint16 else 0] = red
    if dtype == np.uint16:
        cv2.imwrite(str(path), pixels)
    else:
        Image.fromarray(pixels).save(path)
    return path


def defend(folder: Path, out: Path, engine: Engine, **options: Any) -> Summary:
    out.mkdir(exist_ok=True)
    options = {"fingerprint": "f"} | options
    return defend_files(from_folder(folder, out), out, engine, **options)


def records(out: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    return {Path(record["input"]).name: record for record in lines}


def files(folder: Path) -> set[str]:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return names - {"manifest.jsonl"}


@pytest.mark.parametrize("kind", ["webp", "tiff"])
def test_another_format_has_the_same_pixels(tmp_path: Path, engine: Engine, kind: str) -> None:
    for name in ("a.jpg", "a.png", "sub/b.webp"):
        picture(tmp_path / "in" / name)
    defend(tmp_path / "in", tmp_path / "png", engine)
    assert defend(tmp_path / "in", tmp_path / "out", engine, form=Form(kind)).defended == 3
    suffix = Form(kind).suffix
    names = {"a.jpg", "a.png", "sub/b.webp"}
    assert {Path(name).suffix for name in files(tmp_path / "out")} == {suffix}
    found = {name: record["output"] for name, record in records(tmp_path / "out").items()}
    for name, png in records(tmp_path / "png").items():
        before = np.asarray(Image.open(tmp_path / "png" / png["output"]))
        after = np.asarray(Image.open(tmp_path / "out" / found[name]))
        assert np.array_equal(before, after)
    assert set(found) == {Path(name).name for name in names}


def test_another_format_is_not_done(tmp_path: Path, engine: Engine) -> None:
    picture(tmp_path / "in" / "a.jpg")
    out = tmp_path / "out"
    for _ in range(2):  # back and forth, under the same names
        assert defend(tmp_path / "in", out, engine).defended == 1
        assert defend(tmp_path / "in", out, engine).skipped == 1
        assert defend(tmp_path / "in", out, engine, form=Form("webp")).defended == 1
        assert defend(tmp_path / "in", out, engine, form=Form("webp", "small")).skipped == 1
    assert files(out) == {"a.png", "a.webp"}


def test_what_webp_cannot_hold_becomes_png(tmp_path: Path, engine: Engine) -> None:
    picture(tmp_path / "in" / "deep.tif", dtype=np.uint16)
    out, options = tmp_path / "out", {"form": Form("webp")}
    assert defend(tmp_path / "in", out, engine, **options).defended == 1
    record = records(out)["deep.tif"]
    assert record["output"] == "deep.png" and "WebP cannot hold 16 bits" in record["note"]
    assert defend(tmp_path / "in", out, engine, **options).skipped == 1
    assert defend(tmp_path / "in", out, engine, **options, fingerprint="g").defended == 1
    assert files(out) == {"deep.png"}


def test_an_earlier_manifest_knew_png_alone(tmp_path: Path, engine: Engine) -> None:
    picture(tmp_path / "in" / "a.jpg")
    out = tmp_path / "out"
    defend(tmp_path / "in", out, engine)
    (record,) = records(out).values()
    for key in ("format", "copy_below"):
        del record[key]
    (out / "manifest.jsonl").write_text(json.dumps(record) + "\n")
    assert defend(tmp_path / "in", out, engine).skipped == 1
    assert defend(tmp_path / "in", out, engine, form=Form("tiff")).defended == 1


ONLY = {"form": Form(copy_below=0.5), "attacked_threshold": 0.5}


def test_only_attacked_images_are_defended(tmp_path: Path, scored: Engine) -> None:
    alone = [picture(tmp_path / "in" / name, 9) for name in ("a.JPG", "sub/b.webp", "c.png")]
    attacked = picture(tmp_path / "in" / "d.jpg", 250)
    out = tmp_path / "out"
    summary = defend(tmp_path / "in", out, scored, **ONLY)
    assert (summary.defended, summary.copied, summary.attacked, summary.scored) == (1, 3, 1, 4)
    for path in alone:
        assert (out / path.relative_to(tmp_path / "in")).read_bytes() == path.read_bytes()
    found = records(out)
    assert not found["a.JPG"]["defended"] and found["a.JPG"]["perturbation_linf"] == 0
    assert found["d.jpg"]["defended"] and found["d.jpg"]["output"] == "d.png"
    assert files(out) == {"a.JPG", "sub/b.webp", "c.png", "d.png"}
    again = defend(tmp_path / "in", out, scored, **ONLY)
    assert (again.skipped, again.defended, again.copied) == (4, 0, 0)
    # Another threshold, and none: done anew, each under a name of its own.
    other = defend(tmp_path / "in", out, scored, form=Form(copy_below=0.01))
    assert (other.defended, other.copied) == (4, 0)
    assert files(out) == {"a.JPG", "a.png", "sub/b.webp", "sub/b.png", "c.png", "d.png"}
    assert attacked.read_bytes() != (out / "d.png").read_bytes()


def test_a_copy_is_known_as_own_and_no_foreign_file_is(tmp_path: Path, scored: Engine) -> None:
    photo, out = picture(tmp_path / "in" / "a.jpg"), tmp_path / "out"
    out.mkdir()
    (out / "a.jpg").write_bytes(b"mine")
    assert defend(photo.parent, out, scored, **ONLY).copied == 1
    assert (out / "a.jpg").read_bytes() == b"mine"
    assert files(out) == {"a.jpg", "a.jpg.jpg"}
    picture(photo, 3)  # changed: the copy is replaced, by the name it has
    assert defend(photo.parent, out, scored, **ONLY).copied == 1
    assert files(out) == {"a.jpg", "a.jpg.jpg"}
    assert (out / "a.jpg.jpg").read_bytes() == photo.read_bytes()
    picture(photo, 255)  # attacked now
    assert defend(photo.parent, out, scored, **ONLY).defended == 1
    assert records(out)["a.jpg"]["output"] == "a.png"


def test_a_killed_run_knows_its_copies(
    tmp_path: Path, scored: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansm_fast.inference.journal import Journal

    photo, out = picture(tmp_path / "in" / "a.jpg"), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "close", lambda self, keep=False: self._file.close())
        patch.setattr(Manifest, "add", lambda self, record: None)
        defend(photo.parent, out, scored, **ONLY)
    assert defend(photo.parent, out, scored, **ONLY).copied == 1
    assert files(out) == {"a.jpg"}


def test_masks_of_a_copy(tmp_path: Path, ansm: ANSM) -> None:
    """The output is the input, and so are their masks."""
    photo, out, masks = picture(tmp_path / "in" / "a.jpg"), tmp_path / "out", tmp_path / "masks"
    engine = Scored(ansm, BuiltinLocalizer())
    assert defend(photo.parent, out, engine, masks=masks, **ONLY).copied == 1
    before, after = (masks / f"a.{when}.png" for when in ("before", "after"))
    assert before.read_bytes() == after.read_bytes()
    assert defend(photo.parent, out, engine, masks=masks, **ONLY).skipped == 1


def test_an_input_without_suffix(tmp_path: Path, scored: Engine) -> None:
    from ansm_fast.inference.files import from_files

    photo = picture(tmp_path / "a.jpg").rename(tmp_path / "photo")
    out = tmp_path / "out"
    out.mkdir()
    for expected in ((1, 0), (0, 1)):
        summary = defend_files(from_files([photo]), out, scored, fingerprint="f", **ONLY)
        assert (summary.copied, summary.skipped) == expected
    assert (out / "photo").read_bytes() == photo.read_bytes() and files(out) == {"photo"}
