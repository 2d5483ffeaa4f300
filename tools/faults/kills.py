"""SIGKILL at random moments of a run, its start-up included: the next run goes on from there."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from tools.faults.bench import Bench, picture

_IMAGES, _JOURNALS = 40, ".manifest-*.journal"


def run(bench: Bench, count: int) -> None:
    """Kill ``count`` runs; whenever one comes to its end, begin anew with an empty folder."""
    photos, out = bench.work / "photos", bench.work / "out"
    kept = bench.inputs(photos, _IMAGES)
    started = time.monotonic()
    bench.learn(photos)
    first = time.monotonic() - started
    length = {True: first, False: first}  # of a whole run, by whether an interpreter starts
    mine: dict[Path, bytes] = {}
    while bench.counts["kills"] < count and bench.time_is_left():
        if not out.exists():
            mine = _plant(bench, out)
        earlier = set(out.glob(_JOURNALS))
        process = bench.start("--batch", photos, "-o", out)
        # Past the start-up more often than within it: there is more to break.
        fresh = isinstance(process, subprocess.Popen)
        delay = length[fresh] * bench.random.random() ** 0.5 * 1.1
        begun = time.monotonic()
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.kill()
            bench.counts["kills"] += 1
            bench.counts["kills_of_fresh_interpreters"] += fresh
            bench.counts["kills_in_start_up"] += set(out.glob(_JOURNALS)) <= earlier
            bench.end(process)
            bench.check(out, kept | mine)
            continue
        bench.end(process, {0})
        bench.check(out, kept | mine, complete=_IMAGES)
        bench.counts["completed"] += 1
        length[fresh] = min(length[fresh], time.monotonic() - begun)
        shutil.rmtree(out)
    if out.exists():
        bench.end(bench.start("--batch", photos, "-o", out), {0})
        bench.check(out, kept | mine, complete=_IMAGES)
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
