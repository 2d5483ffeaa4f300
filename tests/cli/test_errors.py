"""Bad input: one line on stderr with a way out, no traceback, status 2. In a real process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import ansm_fast
from ansm_fast.localizers import BuiltinLocalizer, LocalizerConfig, save_localizer

PACKAGE = Path(ansm_fast.__file__).parents[1]


@pytest.fixture
def world(tmp_path: Path, weights: Path) -> dict[str, Path]:
    """Folders and files of every kind of fault."""
    for name in ("images", "masks", "empty", "small_masks", "odd_masks"):
        (tmp_path / name).mkdir()
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "images" / "a.png"), image)
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), image[..., 0])
    cv2.imwrite(str(tmp_path / "odd_masks" / "b.png"), image[..., 0])
    cv2.imwrite(str(tmp_path / "small_masks" / "a.png"), image[:9, :9, 0])
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:5000])
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({"a": 1}))
    save_localizer(tmp_path / "localizer.safetensors", BuiltinLocalizer(LocalizerConfig((8,) * 4)))
    return {"in": tmp_path, "ansm": weights}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("defend --batch {in}/missing -o {in}/o", "no such folder"),
        ("defend --batch {in}/empty -o {in}/o", "no image in"),
        ("defend --batch {in}/images -o {in}/file", "file"),
        ("defend --batch {in}/images -o {in}/o --weights {in}/localizer.safetensors", "'ansm' is"),
        ("defend --batch {in}/images -o {in}/o --weights {in}/cut.safetensors", "truncated"),
        ("defend --batch {in}/images -o {in}/o --weights {in}/pickle.safetensors", "pickled"),
        ("defend --batch {in}/images -o {in}/o --localizer {ansm}", "'localizer' is"),
        ("evaluate --images {in}/missing --masks {in}/masks", "no such folder"),
        ("evaluate --images {in}/empty --masks {in}/masks", "no image in"),
        ("evaluate --images {in}/images --masks {in}/odd_masks", "have no mask"),
        ("evaluate --images {in}/images --masks {in}/small_masks --weights {ansm}", "is 9x9"),
        ("evaluate --images {in}/images --masks {in}/masks --eps -1", "eps must be in"),
        ("attack --images {in}/images --masks {in}/odd_masks -o {in}/o", "have no mask"),
        ("attack --images {in}/images --masks {in}/masks -o {in}/o --eps -4/255", "eps must be"),
        ("attack --images {in}/images --masks {in}/masks -o {in}/file", "another output"),
        ("data synthesize {in}/missing -o {in}/o", "no such folder"),
        ("data synthesize {in}/images -o {in}/file", "give another path"),
        (
            "train ansm -o {in}/file --set localizer={in}/localizer.safetensors --set "
            "data.train={in} --set data.validation={in} --set pool={in}/pool",
            "give another path",
        ),
        ("train ansm --config {in}/missing.yaml -o {in}/o", "no such config"),
        ("train ansm -o {in}/o --set eps_d=-1", "eps_d"),
        ("train ansm -o {in}/o --set data.train={in}/missing", "no such folder"),
    ],
)
def test_one_line_and_a_way_out(world, line, words) -> None:
    arguments = line.format(**world).split()
    done = subprocess.run(
        [sys.executable, "-m", "ansm_fast.cli.main", *arguments],
        capture_output=True, text=True, cwd=world["in"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("ansm-fast: error: ") and done.stderr.count("\n") == 1
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not list(world["in"].rglob("*.tmp"))
