"""The CUDA kernels on the CPU, from Python.

    simt = load("seen")                      # torch.ops.ansm_fast_simt.* are there now
    with simt.schedule("rev,descending"):
        simt.reset()
        torch.ops.ansm_fast_simt.pgd_step_(...)
    for launch in simt.report(): ...

A launch of the report is a dict:

kernel, instance   as the launch names it; with its template arguments
schedule, grid, block
error              what the launch failed with, or ""
findings           what is wrong, the first few in words, with places in the source
races, out_of_range, uninitialized, misaligned   how many of each
read, written      traffic in global memory:
  bytes            that threads asked for
  sectors          distinct 32-byte sectors touched
  accesses         of whole warps
  access_sectors   sectors of each warp access, added up
  ideal_sectors    the same if every warp access were dense and aligned
  unaligned        pieces of accesses that are no single instruction
buffers            the same for each tensor that the op gave to `field`, in that order, with its
                   bytes, element size and bytes_written (distinct ones)

Only the variant "seen" looks at accesses. One variant fits into a process, since all register the
same ops.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.simt import build

SCHEDULES = ("lifo", "rev", "fifo", "random:1", "lifo,descending", "random:2,descending")


class Library:
    def __init__(self, path: Path):
        self.path = path
        self.handle = ctypes.CDLL(str(path))
        for name in ("simt_set_schedule", "simt_report"):
            getattr(self.handle, name).restype = ctypes.c_char_p
        self._schedule = os.environ.get("ANSM_FAST_SIMT_SCHEDULE", "lifo")
        self._places: dict[str, tuple[str, str]] = {}

    @property
    def watching(self) -> bool:
        """Whether accesses are seen."""
        return bool(self.handle.simt_watching())

    def set_schedule(self, schedule: str) -> None:
        error = self.handle.simt_set_schedule(schedule.encode())
        if error is not None:
            raise ValueError(error.decode())
        self._schedule = schedule

    @contextlib.contextmanager
    def schedule(self, schedule: str) -> Iterator[None]:
        before = self._schedule
        self.set_schedule(schedule)
        try:
            yield
        finally:
            self.set_schedule(before)

    def reset(self) -> None:
        """Forgets the launches so far."""
        self.handle.simt_reset()

    def report(self) -> list[dict[str, Any]]:
        """The launches since the last reset."""
        launches = json.loads(self.handle.simt_report())
        offsets = {offset for launch in launches for offset in _offsets(launch)}
        self._look_up(sorted(offsets - self._places.keys()))
        for launch in launches:
            launch["instance"] = self._places[launch["instance"]][0]
            launch["findings"] = [self.explain(text) for text in launch["findings"]]
            launch["error"] = self.explain(launch["error"])
        return launches

    def explain(self, text: str) -> str:
        """A message with places in the source where it has offsets in the library."""
        offsets = re.findall(r"\+0x[0-9a-f]+", text)
        self._look_up(sorted(set(offsets) - self._places.keys()))
        return re.sub(r"\+0x[0-9a-f]+", lambda match: self._places[match[0]][1], text)

    def _look_up(self, offsets: list[str]) -> None:
        if not offsets:
            return
        command = ["addr2line", "-fCia", "-e", str(self.path), *(o[1:] for o in offsets)]
        try:
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            self._places.update((offset, (offset, offset)) for offset in offsets)
            return
        for offset, text in zip(
            offsets, re.split(r"^0x[0-9a-f]+\n", lines, flags=re.M)[1:], strict=True
        ):
            # For an inlined function also from where, a few levels up.
            frames = text.splitlines()
            places = ["/".join(at.split(" ")[0].split("/")[-2:]) for at in frames[1::2]]
            self._places[offset] = (frames[0], " from ".join(places[:3]))


def _offsets(launch: dict[str, Any]) -> Iterator[str]:
    for text in (launch["instance"], launch["error"], *launch["findings"]):
        yield from re.findall(r"\+0x[0-9a-f]+", text)


_loaded: dict[str, Library] = {}


def load(variant: str = "plain", path: Path | None = None) -> Library:
    """The kernels as torch ops of the namespace ansm_fast_simt, built first if necessary; or from
    a library of that variant that somebody else has built."""
    import torch

    from ansm_fast.ops.discovery import define_ops

    if _loaded and variant not in _loaded:
        raise RuntimeError(f"the variant {next(iter(_loaded))} is loaded in this process already")
    if variant not in _loaded:
        path = path or build.library(variant)
        define_ops(build.NAMESPACE)
        torch.ops.load_library(str(path))
        _loaded[variant] = Library(path)
    return _loaded[variant]


def load_examples(variant: str = "plain") -> Library:
    """The harness's own test kernels, without torch."""
    return Library(build.library(variant, "examples"))


def findings(launches: list[dict[str, Any]]) -> list[str]:
    """All that is wrong, for an assertion that shows it."""
    return [
        f"{launch['kernel']}: {text}"
        for launch in launches
        for text in launch["findings"] or [launch["error"]]
        if text
    ]


def address_environment() -> dict[str, str]:
    """The environment of a process that loads the variant "address"."""
    compiler = build.compiler()
    libraries = [
        subprocess.run(
            [*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
