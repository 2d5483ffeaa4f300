"""What `ansm-fast attack` adds to a set: measured noise, data card, checksums."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

from ansm_fast.attacks import Attack, apply_universal, round_to_levels
from ansm_fast.cli.main import cli
from ansm_fast.data import FolderDataset, attacked_set, to_tensor
from ansm_fast.data.attacked_set import write_attacked_set
from ansm_fast.data.checksums import verify_checksums, write_checksums
from ansm_fast.errors import InputError
from ansm_fast.images.write import write_png
from ansm_fast.localizers import BuiltinLocalizer, LocalizerConfig, save_localizer


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("originals")
    rng = np.random.default_rng(0)
    for name in ("sub/a.b", "c", "d"):
        mask = np.zeros((32, 40), np.uint8)
        mask[8:20, 5:15] = 255
        write_png(root / "images" / f"{name}.png", rng.integers(0, 256, (32, 40, 3), np.uint8))
        write_png(root / "masks" / f"{name}.png", mask)
    save_localizer(root / "victim.safetensors", BuiltinLocalizer(LocalizerConfig((8, 8, 8, 8))))
    return root


def run(*arguments: object):
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def made(originals: Path, out: Path, *options: object) -> Path:
    result = run(
        "attack", originals, "-o", out, "--localizer", originals / "victim.safetensors",
        "--steps", 2, *options,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.parametrize(
    "options",
    [
        ("--attack", "segpgd", "--objective", "own-prediction"),
        ("--attack", "pgd", "--norm", "l2"),
        ("--attack", "universal", "--objective", "wrong-mask"),
        ("--attack", "pgd", "--weights", "bundled"),
    ],
)
def test_a_set_says_what_it_is(originals, tmp_path, options) -> None:
    out = made(originals, tmp_path / "set", *options)
    records = [json.loads(line) for line in (out / "metadata.jsonl").open()]
    before = FolderDataset(originals / "images", originals / "masks")
    after = FolderDataset(out / "images", out / "masks")
    for index, record in enumerate(records):
        noise = (after[index]["image"].astype(int) - before[index]["image"]) / 255
        assert record["linf"] == pytest.approx(np.abs(noise).max(), abs=2e-6)
        assert record["rms"] == pytest.approx(np.sqrt((noise**2).mean()), abs=2e-6)
        assert record["within_budget"] and record["name"] == before.names[index]
        assert ("behind ANSM" in record["victim"]) == ("--weights" in options)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| within the budget of 4 grey levels | 3 of 3 |" in card
    assert records[0]["victim"] in card and "Licence" in card
    listed = (out / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    count = 3 + 3 + 3 + ("universal" in options)
    assert len(listed) == count and verify_checksums(out) == count
    digest, name = listed[-1].split("  ")
    assert digest == hashlib.sha256((out / name).read_bytes()).hexdigest()


def test_sha256sum_agrees(originals, tmp_path) -> None:
    out = made(originals, tmp_path / "set")
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=out, check=True)


def test_the_same_command_again_makes_nothing_and_keeps_everything(originals, tmp_path) -> None:
    out = made(originals, tmp_path / "set")
    before = {path: path.stat().st_mtime_ns for path in (out / "images").rglob("*.png")}
    sums = (out / "SHA256SUMS").read_bytes()
    made(originals, out)
    assert before == {path: path.stat().st_mtime_ns for path in (out / "images").rglob("*.png")}
    assert (out / "SHA256SUMS").read_bytes() == sums


def test_the_command_says_what_it_cost(originals, tmp_path) -> None:
    result = run(
        "attack", originals, "-o", tmp_path / "set", "--steps", 3, "--attack", "square",
        "--localizer", originals / "victim.safetensors",
    )  # fmt: skip
    assert "3 made now: 3.0 forwards, 0.0 backwards and " in result.output
    again = run(
        "attack", originals, "-o", tmp_path / "set", "--steps", 3, "--attack", "square",
        "--localizer", originals / "victim.safetensors",
    )  # fmt: skip
    assert again.exit_code == 0 and "made now" not in again.output


def test_altered_missing_and_added_files_are_found(originals, tmp_path) -> None:
    out = made(originals, tmp_path / "set")
    assert run("data", "verify", out).output.startswith("9 files of")
    target = out / "masks" / "c.png"
    content = target.read_bytes()
    for spoil in (lambda: target.write_bytes(content[:-1] + b"x"), target.unlink):
        spoil()
        with pytest.raises(InputError, match=r"1 files of .* \(first: masks/c.png\)"):
            verify_checksums(out)
    target.write_bytes(content)
    (out / "more.txt").write_text("more")
    with pytest.raises(InputError, match=r"first: more.txt"):
        verify_checksums(out)
    (out / "SHA256SUMS").write_text("nonsense\n")
    with pytest.raises(InputError, match="is damaged at 'nonsense'"):
        verify_checksums(out)


def test_a_full_disk_leaves_what_is_complete_and_the_next_call_goes_on(
    originals, tmp_path, monkeypatch
) -> None:
    out, written = tmp_path / "set", []

    def full(path, pixels):
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        write_png(path, pixels)

    monkeypatch.setattr(attacked_set, "write_png", full)
    result = run(
        "attack", originals, "-o", out, "--localizer", originals / "victim.safetensors",
        "--steps", 2,
    )  # fmt: skip
    assert isinstance(result.exception, InputError)
    assert "No space left on device); what is complete is intact" in str(result.exception)
    lines = (out / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["c"]
    monkeypatch.undo()
    made(originals, out)
    assert len(FolderDataset(out / "images", out / "masks")) == 3


def test_a_universal_set_has_one_tile_whoever_completes_it(
    originals, tmp_path, monkeypatch
) -> None:
    universal = ("--attack", "universal", "--batch-size", 1)
    whole = made(originals, tmp_path / "whole", *universal)
    tile = load_file(whole / "universal.safetensors")["tile"]
    before = FolderDataset(originals / "images", originals / "masks")
    after = FolderDataset(whole / "images", whole / "masks")
    for index in range(3):
        noisy = apply_universal(to_tensor(before[index]["image"][None]), tile)
        expected = round_to_levels(noisy, noisy, 1.0)
        assert np.array_equal(to_tensor(after[index]["image"][None]), expected)
    part = made(originals, tmp_path / "part", *universal, "--limit", 1)
    monkeypatch.setattr(Attack, "fit", None)  # whoever fits again fails
    made(originals, part, *universal)
    for path in whole.rglob("*.png"):
        assert (part / path.relative_to(whole)).read_bytes() == path.read_bytes()
    other = Attack("universal", 4 / 255, steps=2, tile=1 / 255 + tile)
    (part / "images" / "c.png").unlink()
    fingerprint = json.loads((part / "attack.json").read_text())["localizer"]
    with pytest.raises(InputError, match="another tile of noise; give another output folder"):
        write_attacked_set(before, None, other, part, localizer_fingerprint=fingerprint)
    (part / "universal.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"universal.safetensors is damaged"):
        write_attacked_set(before, None, other, part, localizer_fingerprint=fingerprint)


def test_names_that_would_break_a_line_of_checksums(tmp_path) -> None:
    for name in ("a\nb.png", "a\\b.png", ".hidden.png", "two  spaces.png", "\\.png"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".a.png.tmp").write_text("left by a killed run")
    write_checksums(tmp_path)
    assert verify_checksums(tmp_path) == 5
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=tmp_path, check=True)
    (tmp_path / "a\nb.png").write_text("other")
    with pytest.raises(InputError, match="1 files of"):
        verify_checksums(tmp_path)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside"])
def test_checksums_are_of_the_folder_alone(tmp_path, name) -> None:
    (tmp_path / "outside").write_bytes(b"outside")
    digest = hashlib.sha256(b"outside").hexdigest()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "SHA256SUMS").write_text(f"{digest}  {name}\n")
    with pytest.raises(InputError, match="SHA256SUMS is damaged"):
        verify_checksums(tmp_path / "set")
