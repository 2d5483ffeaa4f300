"""The parts of gpu_check and of the benchmark that talk to torch.cuda, with one that is pretended.

It keeps to the names that torch.cuda has, does the work at once on the CPU, and can be told to get
something wrong.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ansm_fast.ops.cases import Case
from tools import facts
from tools.bench import timing
from tools.gpu import calls, features, large

CPU = torch.device("cpu")
CASE = Case("channelwise_kl", (2, 3, 8, 8))
STEP = Case("pgd_step_", (2, 3, 8, 8), options={"eps": "per sample", "alpha": 0.05})


class Stream:
    def __init__(self, *arguments: Any) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        assert isinstance(other, Stream)

    def synchronize(self) -> None:
        pass


class Cuda:
    """What was asked of it, and a graph that replays the call that it captured."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.modes: list[str] = []
        self.now = 0.0
        self.replays = True
        self.capturing: list[Any] | None = None
        results = calls.results

        def recorded(*arguments: Any, **options: Any) -> calls.Tensors:
            found = results(*arguments, **options)
            if self.capturing is not None:
                self.capturing.append((arguments, found))
            return found

        monkeypatch.setattr(calls, "results", recorded)
        cuda = self

        class Graph:
            def replay(self) -> None:
                for arguments, found in self.captured if cuda.replays else ():
                    for name, value in results(*arguments).items():
                        found[name].copy_(value)

        @contextlib.contextmanager
        def graph(captured: Any) -> Any:
            cuda.capturing = captured.captured = []
            yield
            cuda.capturing = None

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                cuda.now += 1.0
                self.at = cuda.now

            def elapsed_time(self, end: Event) -> float:
                return end.at - self.at

        def nothing(*arguments: Any) -> None:
            return None

        properties = SimpleNamespace(
            name="A GPU", major=9, minor=0, total_memory=1 << 30, multi_processor_count=1,
            L2_cache_size=1 << 20, uuid="x",
        )  # fmt: skip
        replaced: dict[str, Any] = {
            "Stream": Stream, "CUDAGraph": Graph, "graph": graph, "Event": Event,
            "current_stream": lambda *arguments: Stream(),
            "stream": lambda stream: contextlib.nullcontext(),
            "device": lambda device: contextlib.nullcontext(),
            "synchronize": nothing, "_sleep": nothing, "empty_cache": nothing,
            "set_sync_debug_mode": self.modes.append, "device_count": lambda: 1,
            "get_device_properties": lambda device: properties,
            "mem_get_info": lambda device: (5, 6), "is_available": lambda: True,
            "reset_peak_memory_stats": nothing, "memory_allocated": lambda device: 3,
            "max_memory_allocated": lambda device: 10,
        }  # fmt: skip
        for name, value in replaced.items():
            assert hasattr(torch.cuda, name)
            monkeypatch.setattr(torch.cuda, name, value)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return Cuda(monkeypatch)


@pytest.mark.parametrize("case", features.CALLS, ids=lambda case: case.name)
def test_graph_of_every_call(cuda, case) -> None:
    assert features.graph(case, "cpu", CPU) is None


def test_a_graph_that_does_not_replay_is_found(cuda) -> None:
    cuda.replays = False
    assert "replay 1: loss is off" in (features.graph(CASE, "cpu", CPU) or "")
    # Without a replay the attacked images stay as they were set.
    assert "replay 1: adv is off" in (features.graph(STEP, "cpu", CPU) or "")


@pytest.mark.parametrize("case", [CASE, STEP])
def test_another_stream(cuda, case) -> None:
    assert features.other_stream(case, "cpu", CPU) is None


def test_synchronization_is_an_error_during_the_call_alone(cuda, monkeypatch) -> None:
    assert features.no_synchronization(CASE, "cpu", CPU) is None
    assert cuda.modes == ["error", "default"]

    def waits(*arguments: Any) -> None:
        raise RuntimeError("called a synchronizing CUDA operation")

    monkeypatch.setattr(calls, "results", waits)
    with pytest.raises(RuntimeError, match="synchronizing"):
        features.no_synchronization(CASE, "cpu", CPU)
    assert cuda.modes == ["error", "default"] * 2


def test_one_gpu_is_no_two(cuda) -> None:
    reason = features._unmet("another device", CASE, torch.device("cuda", 0))
    assert reason == "there is one GPU only"


def test_facts(cuda, monkeypatch) -> None:
    monkeypatch.setattr(facts, "_output_of", lambda *command: "1.2, 3 MHz, 4 MHz, 5 W")
    found = facts.gpu()
    assert found is not None and found["name"] == "A GPU" and found["capability"] == "9.0"
    assert found["driver_version"] == "1.2" and found["clocks.max.memory"] == "4 MHz"
    assert large.free_bytes(CPU) == 5


def test_cuda_clock(cuda) -> None:
    clock = timing.CudaClock(CPU)
    assert clock._buffer.numel() == 256 << 20
    done: list[str] = []
    times = timing.time_in_turns({"a": lambda: done.append("a")}, clock, budget=20.0)
    assert times == {"a": [1.0] * 20}
    assert clock.peak_bytes(lambda: done.append("peak")) == 7 and done[-1] == "peak"
    replay = clock.captured(lambda: done.append("captured"))
    assert done[-timing.WARM_UPS - 1 :] == ["captured"] * (timing.WARM_UPS + 1)
    replay()
