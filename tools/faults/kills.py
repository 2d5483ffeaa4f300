"""SIGKILL at random moments of a run, its start-up included: the next run goes on from there."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from tools.faults.bench import Bench, Run, picture

_IMAGES, _JOURNALS = 40, ".manifest-*.journal"


def run(bench: Bench, count: int) -> None:
    """Kill ``count`` runs; whenever one comes to its end, begin anew with an empty folder.

    Most of a run is its start-up. So every other kill waits until the run has opened its journal,
    which is when it begins to read images, and comes while it works.
    """
    photos, out = bench.work / "photos", bench.work / "out"
    kept = bench.inputs(photos, _IMAGES)
    started = time.monotonic()
    bench.learn(photos)
    whole = time.monotonic() - started
    work = whole / 4  # after the journal; both are measured again by each run that is not killed
    mine: dict[Path, bytes] = {}
    while bench.counts["kills"] < count and bench.time_is_left():
        if not out.exists():
            mine = _plant(bench, out)
        earlier = set(out.glob(_JOURNALS))
        process, begun = bench.start("--batch", photos, "-o", out), time.monotonic()
        length = whole
        if bench.counts["runs"] % 2:
            while process.poll() is None and set(out.glob(_JOURNALS)) <= earlier:
                time.sleep(0.002)
            begun, length = time.monotonic(), work
        try:
            process.wait(length * bench.random.random())
        except subprocess.TimeoutExpired:
            at_work = not set(out.glob(_JOURNALS)) <= earlier
            process.kill()
            bench.counts["kills"] += 1
            bench.counts["kills_at_work" if at_work else "kills_in_start_up"] += 1
            bench.counts["kills_of_fresh_interpreters"] += isinstance(process, subprocess.Popen)
            bench.end(process)
            bench.check(out, kept | mine)
            continue
        took = time.monotonic() - begun
        whole, work = (whole, min(work, took)) if length == work else (min(whole, took), work)
        _completed(bench, process, out, kept | mine)
        shutil.rmtree(out)
    if out.exists():
        _completed(bench, bench.start("--batch", photos, "-o", out), out, kept | mine)


def _completed(bench: Bench, process: Run, out: Path, kept: dict[Path, bytes]) -> None:
    bench.end(process, {0})
    bench.check(out, kept, complete=_IMAGES)
    bench.counts["completed"] += 1


def _plant(bench: Bench, out: Path) -> dict[Path, bytes]:
    """Files of somebody else's where outputs would go."""
    mine: dict[Path, bytes] = {}
    for name in ("000.png", "sub/001.png", ".003.png.0123456789abcdef.tmp", "005.jpg.png"):
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        mine[path] = picture("png", 10_000 + bench.random.randrange(100))
        path.write_bytes(mine[path])
    return mine
