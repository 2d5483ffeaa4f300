from __future__ import annotations

import errno
import json
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from ansm_fast.inference import DefendOptions, Engine, Summary, defend_files, pipeline, writer
from ansm_fast.inference.mask_pointer import POINTER
from ansm_fast.inference.search import from_folder
from ansm_fast.localizers import BuiltinLocalizer
from ansm_fast.models import ANSM


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Six good images of several kinds and four bad ones."""
    root = tmp_path / "in"
    (root / "deep" / "er").mkdir(parents=True)

    def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
        return rng.integers(0, np.iinfo(dtype).max, shape, dtype)

    Image.fromarray(noise(48, 64, 3)).save(root / "a.jpg")
    Image.fromarray(noise(48, 64, 3)).save(root / "a.png")
    Image.fromarray(noise(41, 57)).save(root / "grey.webp", lossless=True)
    Image.fromarray(noise(33, 47, 4)).save(root / "deep" / "alpha.png")
    cv2.imwrite(str(root / "deep" / "deep.tif"), noise(50, 30, 3, dtype=np.uint16))
    Image.fromarray(noise(200, 220, 3)).save(root / "deep" / "er" / "tiled.png")
    (root / "empty.png").touch()
    (root / "text.jpg").write_text("no image")
    (root / "cut.png").write_bytes((root / "a.png").read_bytes()[:2000])
    Image.fromarray(noise(300, 300, 3)).save(root / "huge.png")
    return root


GOOD = {"a.jpg.png", "a.png", "grey.png", "deep/alpha.png", "deep/deep.png", "deep/er/tiled.png"}
OPTIONS = DefendOptions(max_pixels=80_000, budget_pixels=10_000)


def defend(folder: Path, output: Path, ansm: ANSM, **extra: Any) -> Summary:
    output.mkdir(exist_ok=True)
    engine = extra.pop("engine", None) or Engine(ansm, tile=128)
    options = {"fingerprint": "f", "options": OPTIONS} | extra
    return defend_files(from_folder(folder, output), output, engine, **options)


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]


def outputs(output: Path) -> set[str]:
    return {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()} - {
        "manifest.jsonl"
    }


def test_good_files_are_defended_and_bad_ones_reported(
    tmp_path: Path, folder: Path, ansm: ANSM
) -> None:
    out = tmp_path / "out"
    summary = defend(folder, out, ansm)
    assert (summary.total, summary.defended, summary.failed, summary.skipped) == (10, 6, 4, 0)
    assert outputs(out) == GOOD
    reasons = {Path(f["input"]).name: f["error"] for f in summary.failures}
    assert "empty" in reasons["empty.png"] and "truncated" in reasons["cut.png"]
    assert "not a JPEG" in reasons["text.jpg"] and "--max-pixels" in reasons["huge.png"]
    for record in records(out):
        assert record["fingerprint"] == "f" and record["input_bytes"] >= 0
        if record["status"] == "done":
            with Image.open(record["input"]) as before, Image.open(out / record["output"]) as now:
                assert before.size == now.size == (record["width"], record["height"])
            assert 0 < record["perturbation_linf"] <= ansm.eps_d + 1 / 255
            assert 0 < record["perturbation_rms"] <= record["perturbation_linf"]
    before = np.asarray(Image.open(folder / "deep" / "alpha.png"))
    after = np.asarray(Image.open(out / "deep" / "alpha.png"))
    assert np.array_equal(before[:, :, 3], after[:, :, 3]) and (before != after).any()


def test_second_run_skips_what_is_done(tmp_path: Path, folder: Path, ansm: ANSM) -> None:
    out = tmp_path / "out"
    defend(folder, out, ansm)
    times = {name: (out / name).stat().st_mtime_ns for name in GOOD}
    again = defend(folder, out, ansm)
    assert (again.defended, again.skipped, again.failed) == (0, 6, 4)
    assert times == {name: (out / name).stat().st_mtime_ns for name in GOOD}
    (out / "grey.png").unlink()
    Image.new("RGB", (20, 20)).save(folder / "a.png")
    third = defend(folder, out, ansm)
    assert (third.defended, third.skipped) == (2, 4)
    assert Image.open(out / "a.png").size == (20, 20) and outputs(out) == GOOD
    assert defend(folder, out, ansm, fingerprint="g").defended == 6


def test_failing_writer_leaves_nothing_and_stops_nothing(
    tmp_path: Path, folder: Path, ansm: ANSM, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "alpha" in path.name or "tiled" in path.name:
            real(path, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, data)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        summary = defend(folder, out, ansm)
    assert (summary.defended, summary.failed) == (4, 6)
    assert outputs(out) == GOOD - {"deep/alpha.png", "deep/er/tiled.png"}
    assert any("No space left" in failure["error"] for failure in summary.failures)
    assert defend(folder, out, ansm).defended == 2 and outputs(out) == GOOD


def test_masks_before_and_after(tmp_path: Path, folder: Path, ansm: ANSM) -> None:
    out, masks = tmp_path / "out", tmp_path / "masks"
    options = {"masks": masks, "localizer_fingerprint": "l"}
    engine = Engine(ansm, BuiltinLocalizer(), tile=128)
    summary = defend(folder, out, ansm, engine=engine, **options)
    assert summary.defended == 6
    expected = {f"{n[:-4]}.{when}.png" for n in GOOD for when in ("before", "after")}
    assert outputs(masks) == expected | {POINTER}
    for name in GOOD:
        with Image.open(masks / f"{name[:-4]}.after.png") as mask, Image.open(out / name) as image:
            assert mask.size == image.size and mask.mode == "L"
    (masks / "a.before.png").unlink()
    again = defend(folder, out, ansm, engine=engine, **options)
    assert (again.defended, again.skipped) == (1, 5)


def test_interrupt_ends_cleanly_and_the_next_run_goes_on(
    tmp_path: Path, folder: Path, ansm: ANSM
) -> None:
    class Interrupted(Engine):
        calls = 0

        def defend(self, images: Any) -> Any:
            Interrupted.calls += 1
            if Interrupted.calls == 3:
                raise KeyboardInterrupt
            return super().defend(images)

    out = tmp_path / "out"
    options = DefendOptions(max_pixels=80_000, batch_size=1)
    summary = defend(folder, out, ansm, engine=Interrupted(ansm), options=options)
    assert summary.interrupted and summary.defended <= 2
    assert not any(thread.name.startswith("ansm-fast") for thread in threading.enumerate())
    assert not list(out.rglob("*.tmp"))
    again = defend(folder, out, ansm)
    assert again.defended + again.skipped == 6 and outputs(out) == GOOD


def test_a_fault_in_a_thread_is_raised(
    tmp_path: Path, folder: Path, ansm: ANSM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_options: object) -> None:
        raise ZeroDivisionError("fault of the program")

    monkeypatch.setattr(pipeline, "write_result", broken)
    with pytest.raises(ZeroDivisionError):
        defend(folder, tmp_path / "out", ansm)


def test_memory_is_bounded_however_many_images(
    tmp_path: Path, ansm: ANSM, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for index in range(30):
        cv2.imwrite(str(root / f"{index}.png"), rng.integers(0, 255, (32, 32, 3), np.uint8))
    alive, peak, lock = 0, 0, threading.Lock()
    read, write = pipeline.decode_photograph, writer.write_result

    def counted_read(content: bytes, limit: int, reserve: Any) -> Any:
        nonlocal alive, peak
        image = read(content, limit, reserve)
        with lock:
            alive += 1
            peak = max(peak, alive)
        return image

    def counted_write(*args: Any, **options: Any) -> Any:
        nonlocal alive
        with lock:
            alive -= 1
        return write(*args, **options)

    monkeypatch.setattr(pipeline, "decode_photograph", counted_read)
    monkeypatch.setattr(pipeline, "write_result", counted_write)
    options = DefendOptions(budget_pixels=4 * 1024)
    summary = defend(root, tmp_path / "out", ansm, options=options)
    assert summary.defended == 30 and 1 <= peak <= 4
