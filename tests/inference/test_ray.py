"""``defend`` by Ray's workers: the same files and lines, whatever is killed. Slow to start."""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from ansm_fast.inference import DefendOptions, Engine, defend_files
from ansm_fast.inference.ray_run import RayOptions, connected, defend_with_ray
from ansm_fast.inference.search import from_folder
from ansm_fast.inference.stores import LocalPlace, LocalStore
from ansm_fast.models import load_ansm

SIZES = [(40, 56), (33, 48), (64, 64)]
# One image a pass: how many share one may differ from run to run, and sums of floats with it.
OPTIONS = DefendOptions(batch_size=1)
pytestmark = pytest.mark.slow


def kill_once(flag: Path) -> None:
    """End this process at once, the first time that any process comes here."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class KilledEngine(Engine):
    def __init__(self, flag: Path, weights: str) -> None:
        super().__init__(load_ansm(weights))
        self.flag, self.calls = flag, 0

    def defend(self, images):
        self.calls += 1
        if self.calls == 3:
            kill_once(self.flag)
        return super().defend(images)


class KilledPlace(LocalPlace):
    flag: Path

    def write(self, content, may_replace, token) -> None:
        super().write(content, may_replace, token)
        kill_once(self.flag)  # the output is there, and no line says so


class KilledStore(LocalStore):
    def __init__(self, folder: Path, flag: Path) -> None:
        super().__init__(folder)
        self.flag = flag

    def place(self, name: str) -> LocalPlace:
        found = super().place(name)
        killed = KilledPlace(found.path, found.address, found.inside, found.sync)
        killed.flag = self.flag
        return killed


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.jsonl"
    }


def test_byte_identical_though_workers_are_killed_and_resumed(tmp_path) -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    pytest.importorskip("ray.data", reason="the extra `ray` is not installed")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    for index in range(14):
        path = folder / f"{index % 3}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (*SIZES[index % 3], 3), np.uint8)
        cv2.imwrite(str(path), image)
    (folder / "0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "0" / "3.jpg").write_bytes((folder / "0" / "3.png").read_bytes())
    for path in folder.rglob("*.*"):
        os.utime(path, (1, 1))
    ansm = load_ansm("tiny")
    plain, spread = tmp_path / "plain", tmp_path / "spread"
    sources = from_folder(folder, plain)
    for output in (plain, spread):
        (output / "2").mkdir(parents=True)
        (output / "2" / "5.png").write_bytes(b"mine")
    defend_files(sources, plain, Engine(ansm), fingerprint=ansm.fingerprint, options=OPTIONS)
    # A part is done already; of one input its content alone can tell.
    os.utime(sources[0].path, (1 << 33, 1 << 33))
    defend_files(sources[:4], spread, Engine(ansm), fingerprint=ansm.fingerprint, options=OPTIONS)
    flags = tmp_path / "engine", tmp_path / "writer"
    ray_options = RayOptions(workers=2)
    seen: list[tuple[str, str]] = []
    with connected(ray_options) as running:
        summary = defend_with_ray(
            running,
            sources,
            KilledStore(spread, flags[1]),
            partial(KilledEngine, flags[0], "tiny"),
            fingerprint=ansm.fingerprint,
            options=OPTIONS,
            ray_options=ray_options,
            on_progress=lambda source, status, reason: seen.append((source.key, status)),
        )
    assert all(flag.exists() for flag in flags)
    assert (summary.total, summary.skipped, summary.defended, summary.failed) == (16, 4, 11, 1)
    assert "broken.png" in summary.failures[0]["input"] and len(seen) == 13
    assert (spread / "2" / "5.png").read_bytes() == b"mine"
    assert contents(spread) == contents(plain)  # and neither journals nor unfinished files
    lines = [json.loads(line) for line in (spread / "manifest.jsonl").read_text().splitlines()]
    assert sorted({line["input"] for line in lines}) == sorted(source.key for source in sources)
    fields = [set(json.loads(line)) for line in (plain / "manifest.jsonl").read_text().splitlines()]
    assert all(set(line) in fields for line in lines)
    again = defend_files(
        sources, spread, Engine(ansm), fingerprint=ansm.fingerprint, options=OPTIONS
    )
    assert (again.skipped, again.defended, again.failed) == (15, 0, 1)
