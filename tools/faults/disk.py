"""A full disk: a tmpfs that is too small, and then large enough."""

from __future__ import annotations

import subprocess

from tools.faults.bench import Bench

_IMAGES = 40


def run(bench: Bench, count: int) -> None:
    """Fill ``count`` disks of different sizes; nothing where none can be mounted."""
    photos, disk = bench.work / "photos", bench.work / "disk"
    kept = bench.inputs(photos, _IMAGES)
    bench.learn(photos)
    disk.mkdir()
    for _ in range(count):
        if not bench.time_is_left():
            return
        size = bench.random.randrange(8, 160, 4)
        if _mount("-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk)):
            bench.counts["skipped_no_mount"] += 1
            return
        try:
            out = disk / "out"
            said = bench.end(bench.start("--batch", photos, "-o", out), {1, 2})
            if "No space left" not in said:
                bench.note("false_lines", f"nothing about a full disk: {said[-200:]}")
            bench.check(out, kept)
            bench.counts["full_disks"] += 1
            _mount("-o", "remount,size=64m", str(disk))
            bench.end(bench.start("--batch", photos, "-o", out), {0})
            bench.check(out, kept, complete=_IMAGES)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)


def _mount(*arguments: str) -> int:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode
