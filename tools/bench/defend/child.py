"""One measurement in a process of its own: prints a row as JSON.

    python -m tools.bench.defend.child NAME FOLDER OUTPUT --ansm robust

NAME is "plain loop", "onnxruntime script", "openvino script"; "ours ENGINE"; "network ENGINE", the
network alone on images in memory; or "ours without network", files to files and nothing between.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PEERS = {"plain loop": "plain_loop", "onnxruntime script": "onnxruntime_script"}
PEERS["openvino script"] = "openvino_script"


def _ours(files: Sequence[Path], output: Path, ansm: Any, engine: str, network: bool) -> Any:
    from ansm_fast.inference import DefendOptions, Engine, defend_files
    from ansm_fast.inference.files import from_files
    from ansm_fast.inference.profile import available_cores

    made = Engine(ansm, network=engine, streams=available_cores())
    if not network:
        made._network = lambda image: (image.new_zeros(()).expand_as(image), None)

    def work(done: Callable[[], None]) -> None:
        summary = defend_files(
            from_files(files),
            output,
            made,
            fingerprint=ansm.fingerprint,
            options=DefendOptions(),
            on_progress=lambda source, status, reason: done(),
        )
        assert summary.defended == len(files), summary.failures[:3]

    return work


def _network(files: Sequence[Path], ansm: Any, engine: str) -> Any:
    """On as many threads as ``defend`` has, of what the first images would be."""
    import torch

    from ansm_fast.images.read import read_photograph
    from ansm_fast.inference import Engine
    from ansm_fast.inference.packing import pack
    from ansm_fast.inference.profile import available_cores

    streams = available_cores()
    made = Engine(ansm, network=engine, streams=streams)
    torch.set_num_threads(1)
    images = [read_photograph(path, 10**9) for path in files[:16]]
    batches = [pack([image.pixels], *made.padded(image)) for image in images]
    order = iter([batches[index % len(batches)] for index in range(len(files))])
    lock = threading.Lock()

    def work(done: Callable[[], None]) -> None:
        def one() -> None:
            with torch.inference_mode():
                while True:
                    with lock:
                        batch = next(order, None)
                    if batch is None:
                        return
                    made._network(batch)
                    with lock:
                        done()

        threads = [threading.Thread(target=one) for _ in range(streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return work


def machine_seconds() -> float:
    """What all processes of the machine have computed, where the system tells it; 0 elsewhere."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[1:4])) / os.sysconf("SC_CLK_TCK")


def measure(name: str, files: Sequence[Path], output: Path, weights: str) -> dict[str, Any]:
    """What one way took for all files, its own start apart."""
    if name.startswith(("ours", "network")):
        from ansm_fast.inference import memory

        memory.keep_flat()
    from ansm_fast.inference.memory import resident_bytes
    from ansm_fast.models import load_ansm
    from tools.bench.defend import peers

    begun = time.perf_counter()
    ansm = load_ansm(weights)
    kind, _, engine = name.partition(" ")
    if name in PEERS:
        work = getattr(peers, PEERS[name])(files, output, ansm)
    elif kind == "network":
        work = _network(files, ansm, engine)
    else:
        without = engine == "without network"
        work = _ours(files, output, ansm, "eager" if without else engine, not without)
    resident: dict[int, float] = {}
    count = 0

    def done() -> None:
        nonlocal count
        count += 1
        if count in (100, 1000, len(files)):
            resident[count] = round(resident_bytes() / 2**20, 1)

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    started, before, all_before = time.perf_counter(), cpu(), machine_seconds()
    work(done)
    seconds = time.perf_counter() - started
    own, everyone = cpu() - before, machine_seconds() - all_before
    return {
        "name": name,
        "ansm": weights,
        "images": len(files),
        "seconds": round(seconds, 3),
        "start_seconds": round(started - begun, 3),
        "cpu_seconds": round(own, 3),
        "others_cpu_seconds": round(max(0.0, everyone - own), 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "resident_mib": resident,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--ansm", default="robust")
    arguments = parser.parse_args()
    files = sorted(arguments.folder.glob("*.jpg"))
    print(json.dumps(measure(arguments.name, files, arguments.output, arguments.ansm)))


if __name__ == "__main__":
    main()
