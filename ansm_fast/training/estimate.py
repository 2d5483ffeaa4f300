"""How long a training of an ANSM takes here, from steps that were timed."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ansm_fast.attacks import as_found, attack_kind
from ansm_fast.images.tensors import to_tensor
from ansm_fast.models.base import BaseANSM
from ansm_fast.training.ansm import find_taps, make_task
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.attack_cache import BATCH, AttackCache
from ansm_fast.training.batches import MemorySet
from ansm_fast.training.inspection import Inspection, median_seconds
from ansm_fast.training.networks import make_network

# What a step's time hangs on.
_DECISIVE = (
    "architecture", "variant", "jpeg_quality", "detail", "crop", "batch_size", "online",
    "objective", "precision", "accumulate",
)  # fmt: skip


@dataclass(frozen=True)
class Steps:
    """Measured seconds: one step of each stage (0 where a run has none), and one image through the
    ANSM and the localizer."""

    detection: float
    ffa: float
    mgr: float
    image: float


@dataclass(frozen=True)
class Estimate:
    """Seconds of the parts of a training."""

    attacks: float
    detection: float
    writing: float
    measuring: float

    @property
    def total(self) -> float:
        return self.attacks + self.detection + self.writing + self.measuring

    def line(self) -> str:
        """ "about 41 min (attacks 12, detection 14, FFA and MgR 9, measuring 6)"."""
        unit, name = (3600.0, "h") if self.total >= 5400 else (60.0, "min")
        if self.total < 90:
            unit, name = 1.0, "s"
        digits = 0 if 10 * unit <= self.total < 5400 else 1
        parts = (
            f"attacks {self.attacks / unit:.{digits}f}",
            f"detection {self.detection / unit:.{digits}f}",
            f"FFA and MgR {self.writing / unit:.{digits}f}",
            f"measuring {self.measuring / unit:.{digits}f}",
        )
        return f"about {self.total / unit:.{digits}f} {name} ({', '.join(parts)})"


class Estimator:
    """Estimates trainings for one localizer; steps of one kind are timed once.

    Args:
        localizer: on ``device``. found: what the look at it found. data: a few images.
    """

    def __init__(
        self, localizer: nn.Module, found: Inspection, data: MemorySet, device: torch.device
    ) -> None:
        self.localizer, self.found, self.data, self.device = localizer, found, data, device
        self._known: dict[str, Steps] = {}

    def __call__(self, run: ANSMRun, evaluated: Iterable[tuple[str, int]] = ()) -> Estimate:
        """Estimate a run; ``evaluated`` are name and steps of the attacks of its verdict."""
        steps, step = self._steps(run), self.found.step
        count = min(run.data.validation_count, len(self.data))
        weights = np.array([share.weight for share in run.attacks])
        costs = [attack_kind(share.name).cost(share.steps) for share in run.attacks]
        cost = float(np.average(costs, weights=weights))
        sizes = [run.attack_cache_size]
        sizes += [other.attack_cache_size for other in run.detect.other_localizers]
        cached = sum(math.ceil(size / BATCH) * BATCH for size in sizes)
        renewed = BATCH * (run.steps // run.renew_every) if run.renew_every else 0
        validations = math.ceil(run.steps / run.validate_every)
        once, each = 0.0, 1
        for attack in run.validation_attacks:
            each += 1
            times = validations if attack.adaptive else 1
            once += times * attack_kind(attack.name).cost(attack.steps)
        judged = [attack_kind(name).cost(number) for name, number in evaluated]
        attacked = (once + sum(judged)) * count * step
        # The verdict scores no defence and the ANSM.
        scored = (each * validations + 2 * (1 + len(judged))) * count * steps.image
        in_ffa = min(run.ffa.steps, run.steps - run.detect.steps)
        in_mgr = run.steps - run.detect.steps - in_ffa
        return Estimate(
            attacks=(cached + renewed) * cost * step,
            detection=run.detect.steps * steps.detection,
            writing=in_ffa * steps.ffa + in_mgr * steps.mgr,
            measuring=attacked + scored,
        )

    def _steps(self, run: ANSMRun) -> Steps:
        settings = run.settings()
        kept: dict[str, Any] = {name: settings.get(name) for name in _DECISIVE}
        kept["detect"] = [run.detect.crop, run.detect.batch_size, run.detect.steps > 0]
        kept["ffa"] = [run.ffa.weight, run.ffa.weight_in_mgr, run.ffa.steps > 0]
        key = json.dumps(kept, sort_keys=True)
        if key not in self._known:
            self._known[key] = self._measured(run)
        return self._known[key]

    def _measured(self, run: ANSMRun) -> Steps:
        run = run.model_copy(update={"renew_every": 0, "initial": None, "warm_start": False})
        count = len(self.data)
        cache = AttackCache(
            self.data.images,
            np.arange(count),
            np.full(count, 4.0),
            np.full(count, "pgd_hide"),
        )
        taps = find_taps(run, self.localizer)
        with tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng():
            network = make_network(run, self.localizer)
            task = make_task(
                run, network, self.localizer, taps, self.data, cache, dict, Path(scratch),
                self.device,
            )  # fmt: skip
            learning = task.learning().to(self.device).train()

            def seconds(step: int) -> float:
                batch = [tensor.to(self.device) for tensor in task.batch(step)]

                def work() -> None:
                    task.loss(step, *batch)["loss"].backward()

                return median_seconds(work, self.device, repeats=2)

            detect, ffa = run.detect.steps, run.ffa.steps
            detection = seconds(0) if detect else 0.0
            aligning = seconds(detect) if ffa else 0.0
            refining = seconds(detect + ffa) if detect + ffa < run.steps else 0.0
            ansm = learning[0].eval()
            assert isinstance(ansm, BaseANSM)
            image = to_tensor(self.data.images[:4]).to(self.device)

            def through() -> None:
                with torch.no_grad(), as_found(self.localizer):
                    self.localizer(ansm.defend(image))

            passed = median_seconds(through, self.device, repeats=2) / len(image)
        return Steps(detection, aligning, refining, passed)
