"""How long a ``Defender`` takes for one image of a megapixel, and what its parts take.

    python -m benchmarks.latency [--turns 15] [--threads 2] [-o FILE.json]

Turn by turn: the network alone on a tensor, the whole call on an array, on a JPEG and on a PNG
file, and decoding and encoding by themselves. Medians, and the median of each turn's ratio to the
network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ansm_fast import Defender, Photograph
from ansm_fast.images.read import decode_photograph
from ansm_fast.images.write import encode_png
from tools.facts import machine

PHOTOGRAPH = Path(__file__).parents[1] / "examples" / "photographs" / "coffee.png"
SIDE = 1024


def photograph() -> np.ndarray:
    """A photograph, mirrored at its edges until it has 1024 x 1024 pixels."""
    pixels = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))
    missing = [(0, max(0, SIDE - side)) for side in pixels.shape[:2]]
    return np.ascontiguousarray(np.pad(pixels, (*missing, (0, 0)), mode="reflect")[:SIDE, :SIDE])


def works(defender: Defender, folder: Path) -> dict[str, Callable[[], Any]]:
    pixels = photograph()
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div(255)
    tensor = tensor.contiguous(memory_format=torch.channels_last)
    paths = {}
    for suffix in ("jpg", "png"):
        paths[suffix] = folder / f"a.{suffix}"
        Image.fromarray(pixels).save(paths[suffix], quality=90)
    contents = {suffix: path.read_bytes() for suffix, path in paths.items()}
    made = Photograph(defender.defend(pixels))

    def network() -> None:
        with torch.inference_mode():
            defender.ansm.perturbation_and_map(tensor)

    return {
        "network alone": network,
        "defend(array)": lambda: defender.defend(pixels),
        "defend(JPEG file)": lambda: defender.defend(paths["jpg"]),
        "defend(PNG file)": lambda: defender.defend(paths["png"]),
        "decode JPEG": lambda: decode_photograph(contents["jpg"], 1 << 30),
        "decode PNG": lambda: decode_photograph(contents["png"], 1 << 30),
        "encode PNG": lambda: encode_png(made),
    }


def measure(turns: int) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        calls = works(Defender(device="cpu"), Path(folder))
        for call in calls.values():
            call()
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(turns):
            for name, call in calls.items():
                begun = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - begun)
    alone = seconds["network alone"]
    return {
        name: {
            "milliseconds": round(1e3 * statistics.median(values), 1),
            "times_the_network": round(
                statistics.median(a / b for a, b in zip(values, alone, strict=True)), 3
            ),
        }
        for name, values in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = measure(given.turns)
    for name, values in found.items():
        milliseconds, times = values["milliseconds"], values["times_the_network"]
        print(f"{name:20}{milliseconds:8.1f} ms {times:6.2f} x network")
    if given.output is not None:
        facts = {
            "command": f"python -m benchmarks.latency --turns {given.turns}",
            **machine(),
            "threads": given.threads,
            "torch": torch.__version__,
            "pixels": SIDE * SIDE,
            "works": found,
        }
        given.output.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
