"""Too little memory and full disks end no run, nor leave anything half done."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ansm_fast.images.atomic import write_bytes
from ansm_fast.inference import DefendOptions, Engine, Summary, defend_files, pipeline, stores
from ansm_fast.inference.files import from_files
from ansm_fast.inference.manifest import Manifest
from ansm_fast.models import ANSM


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (16, 24)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def defend(photos: list[Path], out: Path, engine: Engine, **options: Any) -> Summary:
    out.mkdir(parents=True, exist_ok=True)
    return defend_files(from_files(photos), out, engine, **({"fingerprint": "f"} | options))


class Scarce(Engine):
    """An engine in which so many pixels at once are too many, as PyTorch says it on the CPU."""

    def __init__(self, ansm: ANSM, pixels: int) -> None:
        super().__init__(ansm, tile=1024)
        self.pixels, self.seen = pixels, []  # type: ignore[var-annotated]

    def _whole(self, batch: Any, inner: Any = None) -> Any:
        count = sum(part.shape[0] * part.shape[1] for part in batch)
        self.seen.append(count)
        if count > self.pixels:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: "
                "you tried to allocate 99999999 bytes. Error code 12 (Cannot allocate memory)"
            )
        return super()._whole(batch, inner)


def test_tiles_are_halved_until_memory_suffices(tmp_path: Path, ansm: ANSM) -> None:
    photos = [picture(tmp_path / f"{i}.png", i, (700, 700)) for i in range(2)]
    plenty, scarce = Engine(ansm, tile=1024), Scarce(ansm, 600 * 600)
    options = {"options": DefendOptions(batch_size=2)}
    assert defend(photos, tmp_path / "plenty", plenty, **options).defended == 2
    assert defend(photos, tmp_path / "scarce", scarce, **options).defended == 2
    assert scarce.tile == 1024 and max(scarce.seen) > scarce.pixels
    for photo in photos:
        first, second = (
            np.asarray(Image.open(tmp_path / kind / photo.name)).astype(int)
            for kind in ("plenty", "scarce")
        )
        assert np.abs(first - second).max() <= 1


def test_an_image_that_never_fits_is_reported_alone(tmp_path: Path, ansm: ANSM) -> None:
    photos = [picture(tmp_path / "big.png", 0, (600, 600)), picture(tmp_path / "small.png")]
    out = tmp_path / "out"
    summary = defend(photos, out, Scarce(ansm, 100 * 100))
    assert (summary.defended, summary.failed) == (1, 1)
    assert summary.failures[0]["error"] == (
        "of 600x600 pixels needs more memory than there is (can't allocate memory: you tried to "
        "allocate 99999999 bytes)"
    )
    assert {path.name for path in out.iterdir()} == {"small.png", "manifest.jsonl"}


@pytest.mark.parametrize("where", ["read_source", "decode_photograph", "write_result"])
def test_memory_ends_anywhere(
    tmp_path: Path, ansm: ANSM, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from ansm_fast.images import read
    from ansm_fast.inference.files import FileSource

    calls, photos = [], [picture(tmp_path / f"{i}.png", i) for i in range(3)]
    place, name = {
        "read_source": (FileSource, "read"),
        "decode_photograph": (read, "_eight_bits"),
        "write_result": (pipeline, "write_result"),
    }[where]
    real = getattr(place, name)

    def once(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        return real(*arguments, **options)

    monkeypatch.setattr(place, name, once)
    summary = defend(photos, tmp_path / "out", Engine(ansm))
    assert (summary.defended, summary.failed) == (2, 1)
    assert "memory" in summary.failures[0]["error"]


def full(room: int) -> Any:
    """``write_bytes`` on a disk with room for so many outputs."""
    left = [room]

    def write(path: Path, content: bytes, **options: Any) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        left[0] -= 1
        write_bytes(path, content, **options)

    return write


def test_a_disk_that_stays_full_ends_the_run(
    tmp_path: Path, ansm: ANSM, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = [picture(tmp_path / f"{i}.png", i) for i in range(40)], tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(stores, "write_bytes", full(5))
        with pytest.raises(OSError, match="No space left") as caught:
            defend(photos, out, Engine(ansm))
    assert caught.value.filename is not None and str(out) in caught.value.filename
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    done = {line["output"] for line in lines if line["status"] == "done"}
    assert len(done) == 5 and len(lines) < 40
    (journal,) = out.glob(".manifest-*.journal")  # by which the next run knows what is whose
    assert {path.name for path in out.iterdir()} == done | {"manifest.jsonl", journal.name}
    again = defend(photos, out, Engine(ansm))
    assert (again.defended, again.skipped) == (35, 5) and not journal.exists()


def test_an_output_whose_line_found_no_room_is_known(
    tmp_path: Path, ansm: ANSM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run writes it again under the same name."""
    photos, out, add = [picture(tmp_path / "a.png")], tmp_path / "out", Manifest.add

    def full_disk(manifest: Manifest, record: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(manifest.path))

    monkeypatch.setattr(Manifest, "add", full_disk)
    with pytest.raises(OSError, match="No space left"):
        defend(photos, out, Engine(ansm))
    assert (out / "a.png").is_file()
    monkeypatch.setattr(Manifest, "add", add)
    assert defend(photos, out, Engine(ansm)).defended == 1
    assert {path.name for path in out.iterdir()} == {"a.png", "manifest.jsonl"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_leaves_nothing_torn(small_disk: Path, tmp_path: Path, ansm: ANSM) -> None:
    photos = [picture(tmp_path / f"{i}.png", i, (64, 64)) for i in range(12)]
    out = small_disk / "out"
    try:
        summary = defend(photos, out, Engine(ansm))
        assert summary.failed > 0
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is None:
            raise
    done = set()
    for line in (out / "manifest.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["status"] == "done":
            done.add(record["output"])
            assert (out / record["output"]).stat().st_size == record["output_bytes"]
            Image.open(out / record["output"]).load()
    assert done
    for path in out.glob("*.png"):
        Image.open(path).load()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    again = defend(photos, out, Engine(ansm))
    assert again.failed == 0 and again.skipped >= len(done)
    names = {path.name for path in out.iterdir()}
    assert names == {f"{i}.png" for i in range(12)} | {"manifest.jsonl"}
