"""Every benchmark into rows: quantiles, bytes a second, share of a copy's, peak memory."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.cases import Benchmark
from tools.bench.timing import Clock, CudaClock, Work, copy_gb_per_s, quantile, time_in_turns
from tools.bench.work import PEERS, benchmarks, implementations

Row = dict[str, Any]
# Of the facts of a run what each line of a CSV file repeats, so that files can be joined.
FACTS = ("torch", "torch_cuda", "triton", "liger_kernel", "commit")


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def disagrees(found: object, eager: object, dtype: torch.dtype) -> str | None:
    """A result far from eager PyTorch's, the same work at another speed being what is compared."""
    if not isinstance(found, Tensor) or not isinstance(eager, Tensor):
        return None
    if found.dtype == torch.uint8:
        apart, allowed = float((found.int() - eager.int()).abs().max()), 1.0
    else:
        size = float(eager.double().abs().max())
        apart = float((found.double() - eager.double()).abs().max()) / (size or 1.0)
        allowed = 1e-3 if dtype == torch.float32 else 0.1
    return None if apart <= allowed else f"differs from eager PyTorch by {apart:.3g}"


def _copy(benchmark: Benchmark, device: torch.device) -> Work:
    """A copy that moves as many bytes as the op must."""
    source, target = (
        torch.zeros(max(1, benchmark.bytes // 2), dtype=torch.int8, device=device) for _ in range(2)
    )
    return lambda: target.copy_(source)


def _in_working_order(
    works: dict[str, Work], benchmark: Benchmark, clock: Clock
) -> tuple[dict[str, Work], dict[str, str]]:
    """The implementations that do the same as eager PyTorch, and what is wrong with others."""
    good, bad, results = {}, {}, {}
    for name, work in works.items():
        try:
            results[name] = work()
            clock.wait()
            good[name] = work
        except Exception as error:
            bad[name] = _short(error)
    # Steps are done in place, each on what the one before left: nothing to compare.
    if not benchmark.name.endswith("step_"):
        for name in list(good):
            wrong = disagrees(results[name], results.get("eager"), benchmark.dtype)
            if wrong:
                bad[name] = wrong
                del good[name]
    return good, bad


def row(
    benchmark: Benchmark,
    implementation: str,
    mode: str,
    times: Sequence[float],
    copy: float,
    peak: int,
) -> Row:
    """What one implementation did."""
    p20, p50, p80 = (quantile(times, share) for share in (0.2, 0.5, 0.8))
    rate = benchmark.bytes / p50 / 1e6
    return _named(benchmark, implementation, mode) | {
        "p20_ms": p20, "p50_ms": p50, "p80_ms": p80, "repetitions": len(times),
        "bytes": benchmark.bytes, "gb_per_s": rate, "share_of_copy": rate / copy,
        "peak_bytes": peak,
    }  # fmt: skip


def _named(benchmark: Benchmark, implementation: str, mode: str) -> Row:
    return {
        "case": f"{benchmark.name} {'x'.join(map(str, benchmark.shape))}",
        "dtype": str(benchmark.dtype).removeprefix("torch."),
        "implementation": implementation,
        "mode": mode,
    }


def measure(
    benchmark: Benchmark,
    clock: Clock,
    device: torch.device,
    backends: Sequence[str],
    copy: float,
    peers: Sequence[str] = PEERS,
    budget: float = 500.0,
) -> list[Row]:
    """Rows of one: "calls" as a program makes them, "graph" without what launching costs."""
    torch.manual_seed(0)
    if "compile" in peers:
        torch._dynamo.reset()
    works = implementations(benchmark, device, backends, peers)
    works, failed = _in_working_order(works, benchmark, clock)
    rows = [_named(benchmark, n, "calls") | {"error": e} for n, e in failed.items()]
    works["copy"] = _copy(benchmark, device)
    for work in works.values():
        work()
    peaks = {name: clock.peak_bytes(work) for name, work in works.items()}
    for name, times in time_in_turns(works, clock, budget).items():
        rows.append(row(benchmark, name, "calls", times, copy, peaks[name]))
    graphs: dict[str, Work] = {}
    for name, work in works.items():
        try:
            graphs[name] = clock.captured(work)
        except Exception as error:
            rows.append(_named(benchmark, name, "graph") | {"error": _short(error)})
            clock.wait()
    for name, times in time_in_turns(graphs, clock, budget).items():
        rows.append(row(benchmark, name, "graph", times, copy, peaks[name]))
    return rows


def line(found: Row) -> str:
    """A row as it is printed while others are measured."""
    start = " ".join(f"{found[key]}" for key in ("case", "dtype", "implementation", "mode"))
    if found.get("error"):
        return f"{start}: {found['error']}"
    return (
        f"{start}: {found['p50_ms']:.4g} ms, {found['gb_per_s']:.0f} GB/s, "
        f"{100 * found['share_of_copy']:.0f} % of copy, {found['peak_bytes'] / 2**20:.0f} MiB"
    )


def measure_all(
    backends: Sequence[str],
    quick: bool = False,
    clock: Clock | None = None,
    device: torch.device | None = None,
    peers: Sequence[str] = PEERS,
    budget: float = 500.0,
    keep: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """The device's copy bandwidth and the rows of every benchmark that fits into its memory.

    ``keep`` gets what was found so far after every benchmark: a run may be cut off.
    """
    device = device or torch.device("cuda", torch.cuda.current_device())
    clock = clock or CudaClock(device)
    copy = copy_gb_per_s(clock, device)
    rows: list[Row] = []
    for benchmark in benchmarks(quick):
        try:
            found = measure(benchmark, clock, device, backends, copy, peers, budget)
        except torch.cuda.OutOfMemoryError as error:
            found = [_named(benchmark, "all", "calls") | {"error": _short(error)}]
        if device.type == "cuda":
            torch.cuda.empty_cache()
        print("\n".join(map(line, found)), flush=True)
        rows += found
        keep({"copy_gb_per_s": copy, "rows": rows})
    return {"copy_gb_per_s": copy, "rows": rows}


def write_csv(path: Path, benchmark: dict[str, Any], facts: dict[str, Any]) -> None:
    """The rows with the device and the versions in each."""
    common = {"gpu": facts["gpu"]["name"] if facts["gpu"] else None}
    common |= {key: facts.get(key) for key in FACTS}
    common |= {"copy_gb_per_s": benchmark["copy_gb_per_s"]}
    rows = [found | common for found in benchmark["rows"]]
    names = list(dict.fromkeys(name for found in rows for name in found))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
