"""Folders that hold more than images: each such entry takes one line, and every image is done."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from tools.faults.bench import Bench, picture

_NAMES = (
    b"plain.png",
    "日本 é.png".encode(),
    b"\xff\xfe\x80.png",
    b"line\nline.png",
    "\u2028\u2029\x85.png".encode(),
    b"\x1b[2J\r.png",
    b":smile: [b]bold.png",
    b"n" * 251 + b".png",
    b"n" * 251 + b".jpg",
)
_ENVIRONMENTS = (
    {"PYTHONUTF8": "1"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "cp1252"},
)


def run(bench: Bench, count: int) -> None:
    """Defend the same folder ``count`` times, on outputs of three encodings in turn, as text and as
    JSON."""
    photos, out = bench.work / "photos", bench.work / "out"
    photos.mkdir()
    root, kept = os.fsencode(photos), dict[Path, bytes]()
    for index, name in enumerate(_NAMES):
        path = photos / os.fsdecode(name)
        kept[path] = picture("jpg" if name.endswith(b"jpg") else "png", index)
        path.write_bytes(kept[path])
    bench.learn(photos)
    os.mkfifo(photos / "pipe.png")
    (photos / "null.jpg").symlink_to("/dev/null")
    (photos / "endless.jpg").symlink_to("/dev/zero")
    (photos / "self.png").symlink_to("self.png")
    (photos / "broken.png").symlink_to("nowhere.png")
    (photos / "round").symlink_to(photos)
    (photos / "folder.png").mkdir()
    with (photos / "huge.png").open("wb") as file:
        file.write(picture("png", 1))
        file.truncate(200 << 30)
    here = os.getcwd()
    os.chdir(root)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket.png")
            for index in range(count):
                if bench.time_is_left():
                    _once(bench, index, kept)
                    shutil.rmtree(out, ignore_errors=True)
    finally:
        os.chdir(here)


def _once(bench: Bench, index: int, kept: dict[Path, bytes]) -> None:
    photos, out = bench.work / "photos", bench.work / "out"
    more = ["--json"] if index // len(_ENVIRONMENTS) % 2 else ["--follow-links"]
    environment = _ENVIRONMENTS[index % len(_ENVIRONMENTS)]
    said = bench.end(bench.start("--batch", photos, "-o", out, *more, environment=environment), {1})
    bench.check(out, kept, complete=len(kept))
    failed = [line for line in said.splitlines() if line.startswith("failed: ")]
    if "--json" not in more and len(failed) != 7:
        bench.note("lost", f"{len(failed)} lines for 7 odd entries: {said[-300:]}")
    bench.counts["odd_entries"] += 8
