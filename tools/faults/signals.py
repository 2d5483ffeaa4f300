"""SIGINT, SIGTERM and SIGHUP at random moments after the start: the run ends in order."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time

from tools.faults.bench import Bench

_IMAGES = 40
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(bench: Bench, count: int) -> None:
    """Send ``count`` signals, each to a run that has opened its manifest; every third time a second
    one follows."""
    photos, out = bench.work / "photos", bench.work / "out"
    kept = bench.inputs(photos, _IMAGES)
    bench.learn(photos)
    while bench.counts["signals"] < count and bench.time_is_left():
        number = bench.counts["signals"]
        process = bench.start("--batch", photos, "-o", out)
        while process.poll() is None and not list(out.glob(".manifest-*.journal")):
            time.sleep(0.005)
        try:
            process.wait(bench.random.random() * 0.3)
        except subprocess.TimeoutExpired:
            sent = _SIGNALS[number % 3]
            process.send_signal(sent)
            allowed = {0, 128 + sent}
            if number % 3 == 2:
                time.sleep(bench.random.random() * 0.05)
                process.send_signal(sent)
                allowed |= {-sent}
            bench.end(process, allowed)
        else:
            bench.end(process, {0})
        bench.counts["signals"] += 1
        bench.check(out, kept)
        if process.returncode == 0:
            bench.check(out, kept, complete=_IMAGES)
            shutil.rmtree(out)
    bench.end(bench.start("--batch", photos, "-o", out), {0})
    bench.check(out, kept, complete=_IMAGES)
