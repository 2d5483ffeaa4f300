"""Runs the op benchmarks under the default and a tuned allocator.

    python benchmarks/run.py -o results/benchmarks/NAME.json [--readme README.md]

With the default allocator much of an eager time is page faults of its large temporaries, which
flatters any fused kernel; the tuned one keeps freed memory. Both are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
}
ALLOCATORS: dict[str, dict[str, str]] = {"default": {}, "tuned": TUNED}

# Case -> how many times faster than eager and compile it must be, all with the tuned allocator.
TARGETS = {
    "channelwise_kl forward+backward": {"eager": 6.0, "compile": 3.5},
    "dual_mask forward+backward": {"eager": 4.0, "compile": 2.5},
    "pgd_step_": {"eager": 4.5, "compile": 0.9},
}
CHANNELS_LAST_AT_MOST = 1.3  # times the contiguous layout

Results = dict[str, dict[str, dict[str, Any]]]


def run(repeat: int = 21) -> Results:
    """{allocator: what measure.py prints}."""
    results = {}
    for name, variables in ALLOCATORS.items():
        environment = {k: v for k, v in os.environ.items() if k not in TUNED} | variables
        done = subprocess.run(
            [sys.executable, str(FOLDER / "measure.py"), "--repeat", str(repeat)],
            env=environment | {"KINETO_LOG_LEVEL": "5"}, check=True,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        results[name] = json.loads(done.stdout.splitlines()[-1])
    return results


def misses(results: Results) -> list[str]:
    """One line for every target that was not met."""
    found = []
    cases = results["tuned"]
    for name, targets in TARGETS.items():
        ms = cases[name]["ms"]
        for peer, wanted in targets.items():
            ratio = ms[peer] / ms["ours"]
            if ratio < wanted:
                found.append(f"{name}: {ratio:.2f}x {peer}, wanted {wanted}x")
    plain = cases["channelwise_kl forward+backward"]["ms"]["ours"]
    last = cases["channelwise_kl channels_last"]["ms"]["ours"]
    if last > CHANNELS_LAST_AT_MOST * plain:
        found.append(
            f"channels_last: {last / plain:.2f} times contiguous, "
            f"wanted at most {CHANNELS_LAST_AT_MOST}"
        )
    return found


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "cpu": model,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def table(results: Results) -> str:
    """Markdown: milliseconds and how many times faster, tuned allocator first."""
    lines = [
        "| work | allocator | ours | eager | torch.compile | peak memory ours / eager / compile |",
        "|---|---|---|---|---|---|",
    ]
    for name in results["tuned"]:
        for allocator in ("tuned", "default"):
            ms = results[allocator][name]["ms"]
            peak = results[allocator][name]["peak_bytes"]
            ours = ms["ours"]
            mib = " / ".join(f"{peak[key] / 2**20:.0f}" for key in ("ours", "eager", "compile"))
            lines.append(
                f"| {name} | {allocator} | {ours:.1f} ms | {ms['eager']:.1f} ms "
                f"({ms['eager'] / ours:.1f}×) | {ms['compile']:.1f} ms "
                f"({ms['compile'] / ours:.1f}×) | {mib} MiB |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--readme", type=Path, help="write the table into this document")
    parser.add_argument("--repeat", type=int, default=31)
    arguments = parser.parse_args()
    results = run(arguments.repeat)
    document = {"date": date.today().isoformat(), "machine": machine(), "results": results}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    text = table(results)
    print(text)
    for line in misses(results):
        print("missed:", line)
    if arguments.readme is not None:
        from ansm_fast.evaluation.tables import write_markdown

        write_markdown(arguments.readme, readme_text(document), "benchmarks")


def readme_text(document: dict[str, Any]) -> str:
    """The table of a result file with where it was measured, as README shows it."""
    where = document["machine"]
    return (
        f"Medians on {where['threads']} threads of {where['cpu']} ({where['capability']}), torch "
        f"{where['torch']}, float32, shapes as in [`benchmarks/cases.py`](benchmarks/cases.py):\n\n"
        f"{table(document['results'])}\n"
        "Made by `python benchmarks/run.py -o results/benchmarks/cpu.json --readme README.md`.\n"
    )


if __name__ == "__main__":
    main()
