"""The GPU benchmark's arithmetic with a clock that goes as fast as the test says."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable

import pytest
import torch

from ansm_fast.ops import library
from ansm_fast.ops.cases import Benchmark
from ansm_fast.ops.channelwise_kl import cases as kl_cases
from ansm_fast.ops.dual_mask import cases as mask_cases
from ansm_fast.ops.image_pack import cases as pack_cases
from ansm_fast.ops.perturbation import cases as step_cases
from tools.bench import plot, suite, timing
from tools.bench.work import benchmarks


class FakeClock:
    """Work calls `spend`; what it costs is seen at the next mark."""

    def __init__(self) -> None:
        self.now = 0.0
        self.flushed = self.waited = 0
        self.log: list[str] = []
        self.capturable = True

    def spend(self, milliseconds: float, name: str = "work") -> Callable[[], None]:
        def work() -> None:
            self.now += milliseconds
            self.log.append(name)

        return work

    def flush(self) -> None:
        self.flushed += 1
        self.now += 100.0  # must never be part of a time
        self.log.append("flush")

    def record(self) -> float:
        return self.now

    def milliseconds(self, start: float, end: float) -> float:
        return max(end - start, 1e-3)

    def wait(self) -> None:
        self.waited += 1

    def peak_bytes(self, work: timing.Work) -> int:
        work()
        return 12345

    def captured(self, work: timing.Work) -> timing.Work:
        if not self.capturable:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        return work


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_quantiles() -> None:
    assert timing.quantile([3.0], 0.2) == 3.0
    assert timing.quantile([4.0, 1.0, 3.0, 2.0, 5.0], 0.5) == 3.0
    assert timing.quantile([0.0, 10.0], 0.8) == pytest.approx(8.0)
    values = torch.rand(37, dtype=torch.float64)
    for share in (0.2, 0.5, 0.8):
        assert timing.quantile(values.tolist(), share) == pytest.approx(
            float(values.quantile(share))
        )


def test_repetitions_fill_the_budget() -> None:
    assert timing.repetitions(10.0, 500.0) == 50
    assert timing.repetitions(0.001, 500.0) == timing.MOST
    assert timing.repetitions(0.0, 500.0) == timing.MOST
    assert timing.repetitions(1e4, 500.0) == timing.FEWEST


def test_times_are_of_the_work_alone_and_in_turns(clock) -> None:
    works = {"a": clock.spend(10.0, "a"), "b": clock.spend(40.0, "b")}
    times = timing.time_in_turns(works, clock, 500.0)
    assert set(times["a"]) == {10.0} and set(times["b"]) == {40.0}
    assert len(times["a"]) == 50 and len(times["b"]) == 12
    measured = clock.log[2 * (timing.WARM_UPS + 2) :]
    assert measured[:8] == ["flush", "a", "flush", "b"] * 2
    assert clock.flushed == 2 + 50 + 12 and clock.waited >= 50


def test_copy_bandwidth_counts_both_directions(clock, monkeypatch) -> None:
    monkeypatch.setattr(timing, "time_in_turns", lambda works, clock: {"copy": [0.5, 1.0, 9.0]})
    assert timing.copy_gb_per_s(clock, torch.device("cpu"), 10**6) == pytest.approx(2.0)


OP = Benchmark("op", (2, 3), torch.float32, 6_000_000, lambda device: (), torch.rand, torch.rand)


@pytest.fixture
def measured(clock, monkeypatch) -> Callable[..., list[suite.Row]]:
    """Measures works that are no op's."""

    def measure(copy: float, **works: timing.Work) -> list[suite.Row]:
        monkeypatch.setattr(suite, "implementations", lambda *arguments: dict(works))
        return suite.measure(OP, clock, torch.device("cpu"), [], copy, ())

    return measure


def test_row() -> None:
    found = suite.row(OP, "cuda", "calls", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 4.0, 7)
    assert found["case"] == "op 2x3" and found["dtype"] == "float32"
    assert (found["p20_ms"], found["p50_ms"], found["p80_ms"]) == (2.0, 3.5, 5.0)
    assert found["gb_per_s"] == pytest.approx(6e6 / 3.5e-3 / 1e9)
    assert found["share_of_copy"] == pytest.approx(found["gb_per_s"] / 4)
    assert found["repetitions"] == 6 and found["peak_bytes"] == 7


def by_name(rows: list[suite.Row]) -> dict[tuple[str, str], suite.Row]:
    return {(row["implementation"], row["mode"]): row for row in rows}


def test_measure(clock, measured) -> None:
    found = measured(6.0, cuda=clock.spend(2.0), eager=clock.spend(6.0))
    rows = by_name(found)
    assert {name for name, _ in rows} == {"cuda", "eager", "copy"}
    assert rows["cuda", "calls"]["gb_per_s"] == pytest.approx(3.0)
    assert rows["cuda", "graph"]["share_of_copy"] == pytest.approx(0.5)
    assert rows["eager", "calls"]["p50_ms"] == 6.0
    assert all(row["peak_bytes"] == 12345 for row in found)
    assert "2 ms, 3 GB/s, 50 % of copy" in suite.line(rows["cuda", "calls"])


def test_what_fails_is_a_row_that_says_so(clock, measured) -> None:
    def broken() -> None:
        raise RuntimeError("no\nsuch kernel")

    clock.capturable = False
    works = {
        "cuda": lambda: torch.tensor(1.0),
        "triton": lambda: torch.tensor(1.5),
        "compile": broken,
        "eager": lambda: torch.tensor(1.0),
    }
    rows = by_name(measured(1.0, **works))
    assert rows["compile", "calls"]["error"] == "RuntimeError: no such kernel"
    assert "differs from eager" in rows["triton", "calls"]["error"]
    assert "capturing" in rows["cuda", "graph"]["error"] and "p50_ms" in rows["cuda", "calls"]
    assert "no such kernel" in suite.line(rows["compile", "calls"])


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(kl_cases, "MAPS", (2, 3, 8, 8))
    monkeypatch.setattr(kl_cases, "SHAPES", ((2, 3, 8, 8),))
    monkeypatch.setattr(kl_cases, "TAPS", ((2, 3, 8, 8), (2, 5, 4, 4)))
    for module, channels in ((mask_cases, 1), (pack_cases, 3), (step_cases, 3)):
        monkeypatch.setattr(module, "IMAGES", (2, channels, 16, 16))


@pytest.mark.parametrize("name", sorted({benchmark.name for benchmark in benchmarks()}))
def test_every_op_does_what_its_peers_do(clock, small, name) -> None:
    """On the CPU's kernels, in small."""
    if library.PATH is None:
        pytest.skip(f"no compiled library: {library.WHY_NOT}")
    chosen = next(found for found in benchmarks(quick=True) if found.name == name)
    rows = suite.measure(
        chosen, clock, torch.device("cpu"), ["cpu", "reference"], 1.0, peers=("eager", "liger"),
        budget=0.0,
    )  # fmt: skip
    assert not [row["error"] for row in rows if row.get("error")]
    names = {row["implementation"] for row in rows}
    installed = kl_cases.liger_distillation() is not None and name.endswith("distillation")
    assert names == {"cpu", "reference", "eager", "copy"} | ({"liger"} if installed else set())


def test_bytes_are_the_minimum_traffic() -> None:
    found = {(b.name, b.dtype): b.bytes for b in benchmarks(quick=True)}
    size, pixels, image = 8 * 256 * 64 * 64, 8 * 512 * 512, 8 * 3 * 512 * 512
    assert found["channelwise_kl forward+backward", torch.float32] == 12 * size
    assert found["channelwise_kl forward+backward", torch.bfloat16] == 6 * size
    assert found["dual_mask forward+backward", torch.float32] == (9 + 17) * pixels
    assert found["pgd_step_", torch.float32] == 16 * image
    assert found["momentum_step_", torch.float32] == 28 * image
    assert found["image_pack", torch.float32] == 5 * image
    assert found["image_unpack", torch.float32] == 9 * image
    taps = sum(b * c * h * w for b, c, h, w in kl_cases.TAPS)
    assert found["channelwise_kl four layers", torch.float32] == 12 * taps


def test_all_benchmarks_into_json_and_csv(clock, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(suite, "benchmarks", lambda quick: [OP])
    works = {"eager": clock.spend(3.0)}
    monkeypatch.setattr(suite, "implementations", lambda *arguments: works)
    monkeypatch.setattr(suite, "copy_gb_per_s", lambda clock, device: 8.0)
    found = suite.measure_all([], True, clock, torch.device("cpu"), ())
    assert found["copy_gb_per_s"] == 8.0 and len(found["rows"]) == 4
    facts = {"gpu": None, "torch": "2", "commit": "abc"}
    suite.write_csv(tmp_path / "x.csv", found, facts)
    with open(tmp_path / "x.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["implementation"] for line in lines] == ["eager", "copy", "eager", "copy"]
    assert lines[0]["p50_ms"] == "3.0" and lines[0]["commit"] == "abc" and lines[0]["gpu"] == ""


def test_plot(tmp_path, clock, measured) -> None:
    rows = measured(6.0, cuda=clock.spend(2.0))
    rows.append(
        {"case": "op", "dtype": "x", "implementation": "liger", "mode": "graph", "error": "x"}
    )
    assert plot.shares(rows, "graph")["op 2x3 float32"]["cuda"] == pytest.approx(0.5)
    assert "liger" not in str(plot.shares(rows, "graph"))
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    document = {
        "benchmark": {"rows": rows}, "date": "a day", "facts": {"gpu": None, "torch": "2"},
    }  # fmt: skip
    plot.draw(document, "graph", tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000
