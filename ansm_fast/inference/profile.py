"""Where the time of a run goes: what each stage takes, and how long threads wait for each other."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STAGES = ("read", "decode", "pack", "network", "unpack", "masks", "encode", "write")
# Cores that are busy for so much of the time leave nothing to gain by more threads.
_BUSY = 0.9
# What each kind of thread does, and what is said where it is the one that has the most to do.
_OF = {
    "reader": ("read", "decode"),
    "stream": ("pack", "network", "unpack", "masks"),
    "writer": ("encode", "write"),
}
_SAID = {
    "reader": "reading and decoding",
    "stream": "the network",
    "writer": "encoding and writing",
}

_here = threading.local()


class Profile:
    """Seconds of threads by stage, and by kind of thread those in which it waited.

    A stage's ``seconds`` are those that threads spent in it, its ``cpu_seconds`` those in which
    they computed: more of the first means that cores were taken by others. Work that a stage hands
    to threads of a library is missed by the latter.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages = {name: [0.0, 0.0] for name in STAGES}
        self._waited: dict[str, float] = defaultdict(float)
        self._threads: dict[str, int] = {}
        self._started, self._cpu = time.perf_counter(), time.process_time()

    def add(self, name: str, seconds: float, cpu_seconds: float) -> None:
        """Count time of a stage."""
        with self._lock:
            found = self._stages.setdefault(name, [0.0, 0.0])
            found[0] += seconds
            found[1] += cpu_seconds

    def add_waiting(self, kind: str, seconds: float) -> None:
        """Count time that a thread of this kind waited."""
        with self._lock:
            self._waited[kind] += seconds

    def joined(self, kind: str) -> None:
        """Let the stages of the calling thread, one of ``kind``, be counted here."""
        with self._lock:
            self._threads[kind] = self._threads.get(kind, 0) + 1
        _here.profile, _here.kind = self, kind

    def report(self) -> dict[str, Any]:
        """The seconds so far; ``busy`` are shares of the time that all cores had."""
        elapsed = max(time.perf_counter() - self._started, 1e-9)
        cores = available_cores()
        cpu = time.process_time() - self._cpu
        with self._lock:
            stages = {
                name: {
                    "seconds": round(seconds, 3),
                    "cpu_seconds": round(own, 3),
                    "busy": round(own / (elapsed * cores), 4),
                }
                for name, (seconds, own) in self._stages.items()
            }
            waiting = {
                kind: round(min(1.0, self._waited[kind] / (elapsed * count)), 4)
                for kind, count in self._threads.items()
            }
        return {
            "seconds": round(elapsed, 3),
            "cores": cores,
            "cpu_seconds": round(cpu, 3),
            "busy": round(cpu / (elapsed * cores), 4),
            "stages": stages,
            "waiting": waiting,
            "bound_by": _bound(stages, self._threads, elapsed, cpu / (elapsed * cores)),
        }


def describe(report: dict[str, Any] | None) -> list[str]:
    """Lines that tell people what ``Profile.report`` gave; none without one."""
    if report is None:
        return []
    waits = ", ".join(f"{kind}s {100 * share:.0f} %" for kind, share in report["waiting"].items())
    return [
        *(
            f"{name:>8}: {found['seconds']:8.2f} s, {100 * found['busy']:5.1f} % of the cores' time"
            for name, found in report["stages"].items()
            if found["seconds"]
        ),
        f"{report['cores']} cores were busy {100 * report['busy']:.0f} % of "
        f"{report['seconds']:.1f} s; waiting: {waits}",
        f"bound by {report['bound_by']}",
    ]


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _bound(
    stages: dict[str, dict[str, float]], threads: dict[str, int], elapsed: float, busy: float
) -> str:
    if busy >= _BUSY:
        most = max(stages, key=lambda name: stages[name]["seconds"])
        return f"the processor: its cores are busy, most of all with {most}"

    def share(kind: str) -> float:
        own = sum(stages[name]["seconds"] for name in _OF[kind] if name in stages)
        return own / (elapsed * max(1, threads.get(kind, 1)))

    return _SAID[max(_OF, key=share)]


def current() -> tuple[Profile, str] | None:
    """What the calling thread has joined, and as what, for ``adopt`` in a thread that helps it."""
    profile = getattr(_here, "profile", None)
    return None if profile is None else (profile, _here.kind)


def adopt(joined: tuple[Profile, str] | None) -> None:
    """Count the stages of the calling thread where another one's are counted."""
    if joined is not None:
        _here.profile, _here.kind = joined


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count what is done inside, where the thread has joined a profile."""
    profile: Profile | None = getattr(_here, "profile", None)
    if profile is None:
        yield
        return
    waited, started, cpu = _waited(), time.perf_counter(), time.thread_time()
    try:
        yield
    finally:
        elapsed = time.perf_counter() - started - (_waited() - waited)
        profile.add(name, elapsed, time.thread_time() - cpu)


def _waited() -> float:
    """What the calling thread waited so far."""
    return getattr(_here, "waited", 0.0)


@contextmanager
def waiting() -> Iterator[None]:
    """Count what is spent inside as waiting, where the thread has joined a profile."""
    profile: Profile | None = getattr(_here, "profile", None)
    if profile is None:
        yield
        return
    started = time.perf_counter()
    try:
        yield
    finally:
        elapsed = time.perf_counter() - started
        _here.waited = _waited() + elapsed
        profile.add_waiting(_here.kind, elapsed)
