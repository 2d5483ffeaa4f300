"""How long an evaluation will take, from the first image."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ansm_fast.attacks import CountedLocalizer, as_found
from ansm_fast.attacks.objectives import make_goal
from ansm_fast.attacks.query import Victim
from ansm_fast.data import FolderDataset
from ansm_fast.evaluation.cache import cache_folder, still_to_make
from ansm_fast.evaluation.defences import Defence, make_defence
from ansm_fast.evaluation.harmless import VERSIONS
from ansm_fast.evaluation.protocol import Protocol
from ansm_fast.evaluation.scoring import score_image
from ansm_fast.evaluation.targets import Systems, Target
from ansm_fast.images.tensors import mask_to_tensor, to_tensor


def _seconds(work: Callable[[], object]) -> float:
    """Of the second call: the first one warms up."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def estimate(dataset: FolderDataset, systems: Systems, protocol: Protocol, cache: Path) -> float:
    """Estimate seconds: one gradient step on each target and one score behind each defence are
    timed on the first image, and taken times pixels, steps, restarts and the images still to be
    attacked.

    Figures that the cache holds are not taken off: a repeated run is faster than this says.
    """
    count = len(dataset) if protocol.limit is None else min(protocol.limit, len(dataset))
    first = dataset[0]
    image = to_tensor(first["image"][None]).to(systems.device)
    mask = mask_to_tensor(first["mask"][None]).to(systems.device)
    shares = [dataset.pixels(index) / first["mask"].size for index in range(count)]
    share = sum(shares) / count

    def step(target: Target) -> None:
        counted = CountedLocalizer(target.function)
        # Of a single image the gradient may be 0: that is left to the attack on a whole batch.
        counted.gives_gradients = True
        with as_found(target.function):
            Victim(counted).gradient(image, make_goal("untargeted", mask).losses)

    def score(defence: Defence) -> None:
        score_image(systems.localizer, defence, *dataset.pairs[0], device=systems.device)

    known: dict[str, float] = {}
    scoring = {
        one.identity: _seconds(partial(score, one))
        for one in [*systems.defences, make_defence("none")]
    }
    total, made = scoring["none"] * count, set[Path]()
    for name, attack in protocol.runs():
        for target in systems.targets(name):
            total += count * sum(scoring[defence.identity] for defence in target.defences)
            if attack is None or not target.defences:
                continue
            if target.identity not in known:
                known[target.identity] = _seconds(partial(step, target))
            made_so = protocol.attack_on(target, attack.eps)
            folder = cache_folder(cache, target.label, made_so, dataset, target.identity)
            if folder not in made:
                made.add(folder)
                total += known[target.identity] * made_so.cost * still_to_make(folder, count)
    for defence in systems.defences:
        if defence.detects is not None and protocol.harmless:
            total += _seconds(partial(defence, first["image"])) * len(VERSIONS) * count
    return total * share


def readable(seconds: float) -> str:
    """ "about 3 min", in whole units."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
