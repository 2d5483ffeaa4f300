"""Whatever a folder holds, all its images are done and each of the others takes a line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ansm_fast.images import read
from ansm_fast.inference import Engine, defend_files
from ansm_fast.inference.files import from_files
from ansm_fast.inference.search import from_folder
from ansm_fast.localizers import BuiltinLocalizer
from ansm_fast.models import ANSM


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_names_at_the_limit(tmp_path: Path, ansm: ANSM) -> None:
    """Outputs that need a longer name than the input's, and masks."""
    photos, out, masks = tmp_path / "in", tmp_path / "out", tmp_path / "masks"
    long, wide = "n" * 251, "日" * 83
    names = [f"{long}.jpg", f"{long}.png", f"{long}.bmp", f"{wide}.jpg", f"{wide}.png"]
    for index, name in enumerate(names):
        os.rename(picture(photos / f"short{name[-4:]}", index), photos / name)
    engine = Engine(ansm, BuiltinLocalizer())
    for expected in ((5, 0), (0, 5)):
        out.mkdir(exist_ok=True)
        summary = defend_files(from_folder(photos, out), out, engine, fingerprint="f", masks=masks)
        assert (summary.defended, summary.skipped, summary.failed) == (*expected, 0)
    assert len(list(out.glob("*.png"))) == 5 and len(list(masks.glob("*.png"))) == 10


def test_an_image_of_a_side_that_few_programs_read(tmp_path: Path, ansm: ANSM) -> None:
    for name, size in (("wide.png", (3_000_000, 1)), ("high.bmp", (1, 1_000_001))):
        Image.new("L", size).save(tmp_path / name)
    photos = [tmp_path / "wide.png", tmp_path / "high.bmp", picture(tmp_path / "a.png")]
    out = tmp_path / "out"
    out.mkdir()
    summary = defend_files(from_files(photos), out, Engine(ansm), fingerprint="f")
    assert (summary.defended, summary.failed) == (1, 2)
    assert all(f"more than {read.MAX_SIDE}" in one["error"] for one in summary.failures)


def test_a_huge_file_with_holes(tmp_path: Path, ansm: ANSM) -> None:
    photos, out = [picture(tmp_path / "a.png"), tmp_path / "huge.png"], tmp_path / "out"
    with photos[1].open("wb") as file:
        file.write(photos[0].read_bytes())
        try:
            file.truncate(200 << 30)
        except OSError:
            pytest.skip("this file system has no such large files")
    out.mkdir()
    summary = defend_files(from_files(photos), out, Engine(ansm), fingerprint="f")
    assert (summary.defended, summary.failed) == (1, 1)
    assert summary.failures[0]["error"].startswith("has 214748364800 bytes, more than the ")


def test_named_files_that_are_none(tmp_path: Path, ansm: ANSM) -> None:
    """As a shell's ``*`` gives them: the others are done."""
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "folder.png").mkdir()
    picture(tmp_path / "a.png")
    out = tmp_path / "out"
    photos = [*sorted(tmp_path.glob("*.png")), tmp_path / "gone.png"]
    out.mkdir()
    summary = defend_files(from_files(photos), out, Engine(ansm), fingerprint="f")
    assert (summary.defended, summary.failed) == (1, 3)
    reasons = {Path(one["input"]).name: one["error"] for one in summary.failures}
    assert reasons["folder.png"] == "cannot be read: it is a folder"
    assert reasons["gone.png"] == "cannot be read: No such file or directory"
    assert reasons["self.png"].startswith("cannot be read: Too many levels")
    lines = (out / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == 4 and all(json.loads(line) for line in lines)
