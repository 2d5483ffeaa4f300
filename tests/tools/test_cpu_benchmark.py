"""The targets of the CPU benchmark are missed where they should be, and its clock is one."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import run
from benchmarks.cases import CASES
from benchmarks.timing import last_level_cache, peak_bytes, time_in_turns


def results(**changed: float) -> run.Results:
    """Every op as fast as a copy and twice as fast as its peers, but for ``NAME_KEY=ms``."""
    ms = {"ours": 1.0, "eager": 2.0, "compile": 2.0, "copy": 1.0}
    cases: dict[str, Any] = {
        name: {"ms_low": dict(ms), "ms": dict(ms), "ms_high": dict(ms)} for name in CASES
    }
    for key, value in changed.items():
        figure, implementation = key.rsplit("_", 1)
        cases["pgd_step_"][figure][implementation] = value
    return {"tuned": cases}


def test_targets_are_met_and_missed() -> None:
    assert run.misses(results()) == []
    (slow,) = run.misses(results(ms_low_ours=2.1, ms_high_compile=3.0, ms_high_eager=3.0))
    assert slow == "pgd_step_: 2.10 ms are 2.10 times the 1.00 ms of copy, wanted at most 2.0"
    (beaten,) = run.misses(results(ms_high_compile=0.9))
    assert beaten == "pgd_step_: 1.00 ms are more than compile's 0.90 ms"
    found = results()
    found["tuned"]["channelwise_kl channels_last"]["ms_low"]["ours"] = 1.4
    (last,) = run.misses(found)
    assert "1.40 times the 1.00 ms of channelwise_kl forward+backward" in last


def test_targets_are_of_what_is_timed() -> None:
    targets = [case.benchmark.cpu_targets for case in CASES.values()]
    assert {other for target in targets for other in target} <= {"copy", *CASES}


def test_implementations_take_turns() -> None:
    made = CASES["image_pack"].make()
    assert set(made) == {"ours", "eager", "compile", "copy"}
    times = time_in_turns({key: made[key] for key in ("ours", "copy")}, repeat=4)
    assert all(len(values) == 4 and min(values) > 0 for values in times.values())


def test_memory_of_a_call() -> None:
    assert last_level_cache() >= 1 << 18
    assert peak_bytes(lambda: torch.ones(1 << 20)) >= 4 << 20
