from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ansm_fast.inference import DefendOptions, Engine, defend_files
from ansm_fast.inference.profile import STAGES, Profile, _bound, stage, waiting
from ansm_fast.inference.search import from_folder
from ansm_fast.models import ANSM


def test_stages_count_their_thread_and_waiting_is_no_work() -> None:
    profile = Profile()

    def work() -> None:
        profile.joined("reader")
        with stage("decode"), waiting():
            time.sleep(0.2)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with stage("decode"):  # of no profile: this thread has joined none
        time.sleep(0.05)
    found = profile.report()
    assert found["stages"]["decode"]["seconds"] < 0.1
    assert found["waiting"]["reader"] > 0.3


def test_what_bounds_a_run() -> None:
    threads = {"reader": 2, "stream": 1, "writer": 4}
    stages = {name: {"seconds": 1.0 + (name == "network")} for name in STAGES}
    assert _bound(stages, threads, 10, 0.97) == (
        "the processor: its cores are busy, most of all with network"
    )
    assert _bound(stages, threads, 10, 0.5) == "the network"
    stages["decode"]["seconds"] = 19.0  # of two threads
    assert _bound(stages, threads, 10, 0.5) == "reading and decoding"
    stages["encode"]["seconds"] = 49.0  # of four
    assert _bound(stages, threads, 10, 0.5) == "encoding and writing"


def test_a_run_tells_its_stages(tmp_path: Path, rng: np.random.Generator, ansm: ANSM) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for name in "abcd":
        pixels = rng.integers(0, 256, (64, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    summary = defend_files(
        from_folder(tmp_path / "in", tmp_path / "out"),
        tmp_path / "out",
        Engine(ansm, streams=2),
        fingerprint="f",
        options=DefendOptions(profile=True),
    )
    assert summary.defended == 4 and summary.profile is not None
    stages = summary.profile["stages"]
    assert stages["read"]["seconds"] >= 0  # four small files: it may round to nothing
    for name in ("decode", "pack", "network", "unpack", "encode", "write"):
        assert stages[name]["seconds"] > 0, name
    assert stages["masks"]["seconds"] == 0
    assert set(summary.profile["waiting"]) == {"reader", "stream", "writer"}
