"""Which engine is the fastest here, found by trying those that are installed."""

from __future__ import annotations

import statistics
import threading
import time

import torch
from torch import Tensor

from ansm_fast.inference.engines import NEEDS, Network, make_network, missing
from ansm_fast.models import BaseANSM

# The trial takes ten seconds or so, and another engine gains a tenth of the time: of fewer
# photographs nobody gets those back.
WORTHWHILE = 5000
_SIDE, _ROUNDS = 384, 3
# Less than that is within what a machine's speed changes by meanwhile.
_GAIN = 1.05


def candidates() -> list[str]:
    """What is installed, "eager" first; "compile", whose start takes a minute, is left out."""
    return [name for name in NEEDS if name != "compile" and not missing(name)]


def measured(ansm: BaseANSM, names: list[str], streams: int) -> dict[str, float]:
    """Megapixels a second of each engine on this machine's CPU, medians of turns; of one that
    fails, nothing."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 3, _SIDE, _SIDE), generator=generator)
    image = image.contiguous(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as while defending: a core an image
    try:
        networks = {}
        for name in names:
            try:
                network = make_network(ansm, name, torch.device("cpu"), streams)
                _seconds(network, image, streams)
            except Exception:  # what this version of a library refuses; eager needs none
                if name == "eager":
                    raise
            else:
                networks[name] = network
        turns = [
            {name: _seconds(network, image, streams) for name, network in networks.items()}
            for _ in range(_ROUNDS)
        ]
    finally:
        torch.set_num_threads(threads)
    megapixels = streams * _SIDE**2 / 1e6
    return {name: megapixels / statistics.median(turn[name] for turn in turns) for name in networks}


def fastest(rates: dict[str, float]) -> str:
    """The engine of the highest rate; "eager" unless another one is clearly faster."""
    best = max(rates, key=lambda name: rates[name])
    return best if rates[best] > _GAIN * rates["eager"] else "eager"


def _seconds(network: Network, image: Tensor, streams: int) -> float:
    """What an image on each stream takes, all at once."""
    faults: list[BaseException] = []

    def one() -> None:
        try:
            with torch.inference_mode():
                network(image)
        except BaseException as error:
            faults.append(error)

    started = time.perf_counter()
    threads = [threading.Thread(target=one) for _ in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return time.perf_counter() - started
