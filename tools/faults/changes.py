"""Inputs that are replaced, vanish and come back while they are defended."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from tools.faults.bench import Bench, picture, records

_IMAGES, _VARIANTS = 60, 3


def run(bench: Bench, count: int) -> None:
    """Disturb ``count`` runs: whatever a line says was read gave that output."""
    variants = bench.work / "variants"
    for number in range(_IMAGES * _VARIANTS):
        path = variants / f"{number}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture("bmp", number))
    bench.learn(variants)
    for part in range(count):
        if not bench.time_is_left():
            return
        photos, out = bench.work / f"photos{part}", bench.work / f"out{part}"
        photos.mkdir()
        names = [photos / f"{number:03d}.bmp" for number in range(_IMAGES)]
        for number, path in enumerate(names):
            path.write_bytes(picture("bmp", number))
        stop = threading.Event()
        disturber = threading.Thread(target=_disturb, args=(bench, names, stop))
        process = bench.start("--batch", photos, "-o", out)
        while process.poll() is None and not list(out.glob(".manifest-*.journal")):
            time.sleep(0.005)
        disturber.start()
        bench.end(process, {0, 1})
        stop.set()
        disturber.join()
        bench.check(out, {})
        # Undisturbed: everything that is there now is done, as it is now.
        present = {path: path.read_bytes() for path in names if path.exists()}
        bench.end(bench.start("--batch", photos, "-o", out, "--verify"), {0})
        done = bench.check(out, present)
        last = {record["input"]: record for record in records(out)}
        for path in present:
            record = last.get(os.path.realpath(path), {})
            if record.get("status") != "done" or record["output"] not in done:
                bench.note("lost", f"{path} was never done")
        bench.counts["disturbed_runs"] += 1


def _disturb(bench: Bench, names: list[Path], stop: threading.Event) -> None:
    for _ in range(4000):
        if stop.is_set():
            return
        number = bench.random.randrange(len(names))
        path = names[number]
        if bench.random.random() < 0.25 and path.exists():
            path.unlink()
            bench.counts["vanished"] += 1
        else:
            other = path.with_name(f".{path.name}.new")
            seed = number + len(names) * bench.random.randrange(_VARIANTS)
            other.write_bytes(picture("bmp", seed))
            os.replace(other, path)
            bench.counts["replaced"] += 1
        stop.wait(0.002)
