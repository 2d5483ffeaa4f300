"""Bad input: one line on stderr with a way out, no traceback, status 2, and nothing written."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import ansm_fast
from ansm_fast.cli.main import main
from ansm_fast.localizers import BuiltinLocalizer, LocalizerConfig, save_localizer

PACKAGE = Path(ansm_fast.__file__).parents[1]


@pytest.fixture
def world(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Path]]:
    """Folders and files of every kind of fault."""
    rng = np.random.default_rng(0)
    for name, mask, size in (("good", "a", 64), ("names", "b", 64), ("sizes", "a", 9)):
        for part in ("images", "masks"):
            (tmp_path / name / part).mkdir(parents=True)
        image = rng.integers(0, 256, (64, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / name / "images" / "a.png"), image)
        cv2.imwrite(str(tmp_path / name / "masks" / f"{mask}.png"), image[:size, :size, 0])
    (tmp_path / "empty" / "images").mkdir(parents=True)
    (tmp_path / "empty" / "masks").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "text.md").write_text("no marks")
    (tmp_path / "bad.yaml").write_text("kind: [")
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:5000])
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({"a": 1}))
    torch.save({"a": torch.ones(1)}, tmp_path / "torch.pt")
    save_localizer(tmp_path / "localizer.safetensors", BuiltinLocalizer(LocalizerConfig((8,) * 4)))
    (tmp_path / "ansm.safetensors").write_bytes(weights.read_bytes())
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield {"in": tmp_path}
    torch.set_num_threads(threads)


DEFEND = "defend --batch good/images -o o"
ATTACK = "attack good -o o --steps 1"
PLAIN = "evaluate --images good/images --masks good/masks --steps 1"
EVALUATE = f"{PLAIN} --weights ansm.safetensors"
TRAIN = "--set data.train=good --set data.validation=good --set steps=1"
LOCALIZER = f"train localizer -o o {TRAIN}"
ANSM = (
    f"train ansm --config ansm -o o {TRAIN} --set attack_cache=attacks "
    "--set localizer=localizer.safetensors --set detect.steps=0 --set ffa.steps=0"
)

CASES = [
    # No such folder, empty folder.
    ("defend --batch missing -o o", "no such folder: missing"),
    ("defend --batch empty -o o", "no image in empty"),
    ("attack missing -o o", "no such folder: missing/images"),
    ("attack empty -o o", "no image in empty/images"),
    ("evaluate --images missing --masks good/masks", "no such folder: missing"),
    ("evaluate --images empty --masks good/masks", "no image in empty"),
    ("evaluate --images good/images --masks missing", "no such folder: missing"),
    ("data synthesize missing -o o", "no such folder: missing"),
    ("data synthesize empty -o o", "no image in empty"),
    (f"{LOCALIZER} --set data.train=missing", "no such folder: missing"),
    (f"{LOCALIZER} --set data.validation=empty", "no image in empty"),
    (f"{ANSM} --set data.train=missing", "no such folder: missing"),
    (f"{ANSM} --set data.train=empty", "no image in empty"),
    # Unwritable output.
    ("defend --batch good/images -o file", "file"),
    ("attack good -o file", "give another output folder"),
    (f"{EVALUATE} --json file/e.json", "give --json a file in a writable folder"),
    (f"{EVALUATE} --json good", "give --json a file in a writable folder"),
    (f"{EVALUATE} --markdown missing/e.md", "give --markdown a file in a writable folder"),
    (f"{EVALUATE} --markdown text.md", "without the marks"),
    (f"{EVALUATE} --markdown good/images/a.png", "no readable text file; give another file"),
    (f"{EVALUATE} --cache file", "give a writable folder to --cache"),
    ("data synthesize good/images -o file", "give another path"),
    (f"{LOCALIZER} -o file", "give another path"),
    (f"{ANSM} -o file", "give another path"),
    # Results among the originals.
    ("defend --batch good/images -o good/images", "give another folder to -o"),
    ("attack good -o good", "give another folder to -o"),
    ("attack good -o good/images/attacked", "give another folder to -o"),
    (f"{EVALUATE} --cache good/masks", "give another folder to --cache"),
    # Weights of the wrong kind, truncated, pickled, missing.
    (f"{DEFEND} --weights localizer.safetensors", "'ansm' is needed"),
    (f"{DEFEND} --weights cut.safetensors", "truncated"),
    (f"{DEFEND} --weights pickle.safetensors", "pickled"),
    (f"{DEFEND} --weights torch.pt", "pickled"),
    (f"{DEFEND} --weights missing.safetensors", "no such checkpoint"),
    (f"{DEFEND} --localizer ansm.safetensors", "'localizer' is needed"),
    (f"{ATTACK} --localizer ansm.safetensors", "'localizer' is needed"),
    (f"{ATTACK} --localizer cut.safetensors", "truncated"),
    (f"{ATTACK} --localizer torch.pt", "pickled"),
    (f"{PLAIN} --weights localizer.safetensors", "'ansm' is needed"),
    (f"{PLAIN} --weights cut.safetensors", "truncated"),
    (f"{PLAIN} --weights pickle.safetensors", "pickled"),
    (f"{EVALUATE} --localizer ansm.safetensors", "'localizer' is needed"),
    (f"{EVALUATE} --localizer torch.pt", "pickled"),
    (f"{ANSM} --set localizer=ansm.safetensors", "'localizer' is needed"),
    (f"{ANSM} --set localizer=cut.safetensors", "truncated"),
    (f"{ANSM} --set localizer=torch.pt", "pickled"),
    # Masks that don't match, images that cannot be decoded.
    ("attack names -o o", "1 of 1 images in names/images have no mask in names/masks"),
    ("attack sizes -o o", "is 9x9 but its image is 64x64"),
    ("attack --images torn --masks good/masks -o o", "cannot decode image"),
    ("evaluate --images names/images --masks names/masks", "have no mask"),
    ("evaluate --images sizes/images --masks sizes/masks --weights ansm.safetensors", "is 9x9"),
    (f"{ANSM} --set initial=localizer.safetensors", "'ansm' is needed"),
    (f"{LOCALIZER} --set data.train=names", "have no mask"),
    (f"{LOCALIZER} --set data.train=sizes", "is 9x9"),
    (f"{ANSM} --set data.validation=sizes", "is 9x9"),
    # Budgets and steps.
    ("attack good -o o --eps -4/255", "eps must be in [0, 1], got -4/255"),
    ("attack good -o o --eps four", "eps must be a number like 4/255"),
    ("attack good -o o --eps 1e400", "eps must be a number like 4/255"),
    ("attack good -o o --eps 1/0", "eps must be a number like 4/255"),
    ("attack good -o o --alpha -1", "alpha must be in [0, 1], got -1"),
    ("attack good -o o --alpha 0", "alpha must be > 0"),
    ("attack good -o o --steps 0", "see ansm-fast attack --help"),
    (f"{EVALUATE} --eps -4/255", "eps must be in [0, 1], got -4/255"),
    (f"{EVALUATE} --eps 4/255,", "eps must be a number like 4/255"),
    (f"{ANSM} --set eps_d=-1", "eps_d"),
    # Names that don't exist.
    ("attack good -o o --attack bim", "'bim' was removed; use 'pgd'"),
    (f"{EVALUATE} --attacks none,bim", "--attacks: 'bim' was removed; use 'pgd'"),
    ("attack good -o o --attack magic", "'fgsm', 'pgd', 'mifgsm', 'difgsm'"),
    ("attack good -o o --objective destroy", "'untargeted', 'hide', 'wrong-mask'"),
    ("attack good -o o --attack square --norm l2", "norm must be 'linf' for the attack 'square'"),
    ("attack good -o o --weights missing", "no such checkpoint: missing"),
    ("data verify good", "no SHA256SUMS in good"),
    ("data pack good -o o", "ansm-fast data pack was removed; a set is a folder: tar -cf"),
    ("data unpack good -o o", "was removed; tar -xf SET.tar gives the folder back"),
    ("evaluate good --latex e.tex", "--latex was removed; give --markdown FILE, which pandoc"),
    (f"{EVALUATE} --attacks pgd,magic", "--attacks must be of none, pgd"),
    (f"{EVALUATE} --defences prayer", "--defences must be of none, jpeg, median"),
    (f"{EVALUATE} --attacks ,", "--attacks is empty"),
    (f"{EVALUATE} --weights ansm.safetensors", "several ANSMs need a name each"),
    (f"{EVALUATE} --surrogate missing", "no such checkpoint: missing"),
    (f"{EVALUATE} --name one --name two", "--name must be given once"),
    (f"{EVALUATE} --plots good/images", "holds the originals"),
    (f"{LOCALIZER} --set nonsense=1", "nonsense"),
    ("train ansm --config missing.yaml -o o", "no such config"),
    ("train ansm --config bad.yaml -o o", "not valid YAML"),
    ("train ansm -o o --set localizer", "KEY=VALUE"),
    ("magic", "see ansm-fast --help"),
    # Too much or too little on the line.
    ("attack good", "Missing option '-o'"),
    ("attack -o o", "give either DIR"),
    ("attack good --images good/images -o o", "give either DIR"),
    ("attack --images good/images -o o", "give either DIR"),
    ("evaluate --images good/images", "Missing option '--masks'"),
    ("defend -o o", "give either FILES or --batch"),
]


@pytest.mark.parametrize(("line", "words"), CASES, ids=[line for line, _ in CASES])
def test_one_line_and_a_way_out(world, line, words, monkeypatch, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in world["in"].rglob("*") if path.is_file()}
    monkeypatch.setattr(sys, "argv", ["ansm-fast", *line.split()])
    with pytest.raises(SystemExit) as left:
        main()
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert left.value.code == 2
    assert complaint.startswith("ansm-fast: error: ") and words in complaint
    # A way out: what to do follows what is wrong.
    assert any(mark in complaint for mark in ("; ", " must be ", " wants ", "give either "))
    after = {path: path.stat().st_mtime_ns for path in world["in"].rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("defend --batch missing -o o", "no such folder"),
        *(
            pytest.param(line, words, marks=pytest.mark.slow)
            for line, words in (
                ("evaluate --images missing --masks missing", "no such folder"),
                (f"{ATTACK} --localizer torch.pt", "pickled"),
                ("attack good -o o --attack bim", "'bim' was removed; use 'pgd'"),
                (f"{EVALUATE} --attacks none,bim", "--attacks: 'bim' was removed; use 'pgd'"),
                ("attack good -o o --attack magic", "is not one of"),
                ("data synthesize missing -o o", "no such folder"),
                ("train ansm --config missing.yaml -o o", "no such config"),
            )
        ),
    ],
)
def test_a_real_process(world, line, words) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ansm_fast.cli.main", *line.split()],
        capture_output=True, text=True, cwd=world["in"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE)},
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == "", done.stderr
    assert done.stderr.startswith("ansm-fast: error: ") and done.stderr.count("\n") == 1
    assert words in done.stderr


def test_a_torn_photograph(world, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["ansm-fast", "data", "synthesize", "torn", "-o", "o"])
    with pytest.raises(SystemExit):
        main()
    assert "cannot decode image torn/a.png; remove it" in capsys.readouterr().err
    assert not list((world["in"] / "o").rglob("*.png"))


@pytest.mark.parametrize(("line", "code"), [("--help", 0), ("attack --help", 0), ("", 2)])
def test_help_is_no_error(line, code, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["ansm-fast", *line.split()])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr()
    assert (left.value.code or 0) == code
    assert "ansm-fast: error" not in said.err and "Usage: ansm-fast" in said.out + said.err


def test_an_interrupt_is_no_traceback(world, monkeypatch, capsys) -> None:
    def interrupt(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ansm_fast.data.attacked_set.write_attacked_set", interrupt)
    monkeypatch.setattr(
        sys, "argv", ["ansm-fast", *ATTACK.split(), "--localizer", "localizer.safetensors"]
    )
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 130
    assert "interrupted" in capsys.readouterr().err
