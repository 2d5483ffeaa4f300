"""Four runs at once into one folder: the others say so and stop, and nothing fails for it."""

from __future__ import annotations

import shutil

from tools.faults.bench import Bench, records

_IMAGES, _RUNS = 40, 4


def run(bench: Bench, count: int) -> None:
    """``count`` times four runs; a last one finds everything done."""
    photos, out = bench.work / "photos", bench.work / "out"
    kept = bench.inputs(photos, _IMAGES)
    bench.learn(photos)
    for _ in range(count):
        if not bench.time_is_left():
            return
        processes = [bench.start("--batch", photos, "-o", out) for _ in range(_RUNS)]
        for process in processes:
            said = bench.end(process, {0, 2})
            if process.returncode == 2:
                bench.counts["stopped_for_another"] += 1
                if "another run is writing to" not in said:
                    bench.note("false_lines", said[-300:])
        if all(process.returncode for process in processes):
            bench.note("lost", "all four runs stopped")
        for record in records(out, bench):
            if record["status"] != "done":
                bench.note("false_lines", str(record))
        bench.check(out, kept, complete=_IMAGES)
        bench.counts["rounds_of_four"] += 1
        shutil.rmtree(out)
