"""The loop that both trainings share: schedule, averaging, metrics, resumable state."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ansm_fast.errors import InputError, Interrupted
from ansm_fast.progress import Progress
from ansm_fast.training.averaging import AveragedWeights
from ansm_fast.training.batches import step_rng
from ansm_fast.training.logs import MetricsLog
from ansm_fast.training.prefetch import batches_ahead
from ansm_fast.training.processes import (
    StepModule,
    make_accelerator,
    share,
    synchronize_batch_norm,
)
from ansm_fast.training.resume import STATE, check_same_run
from ansm_fast.training.run_config import OptimizerConfig, Run
from ansm_fast.training.state import (
    disk_errors,
    fill_optimizer_state,
    gather_state,
    part,
    read_state,
    scatter_state,
    write_tensors,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

Losses = Mapping[str, Tensor]


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Compute a linear warm-up, then a cosine from ``lr`` to ``lr * final_lr_share``."""
    warmup = min(1.0, (step + 1) / config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return config.lr * warmup * (config.final_lr_share + (1 - config.final_lr_share) * cosine)


@dataclass
class Task:
    """What one training adds to the loop.

    Attributes:
        module: what learns, and what the averaged weights belong to.
        batch: step number to tensors whose first dimension is the batch; depends on the step (and
            the run's seed) alone. Every process makes the whole batch and takes its share.
        loss: step number and a share of its batch to named losses, means over the images; the entry
            "loss" is minimized.
        validate: called with the averaged weights (of ``module``, and of ``extra`` if there is
            one) in eval mode; named figures.
        extra: further learning modules that are needed for training only.
        rate: learning rate of a step; by default ``learning_rate`` over all steps.
        score: of a validation's figures, the larger the better; the averaged weights of the best
            validation are what the training leaves. None: such figures do not count. By default
            the last weights are left.
        spent: seconds that ``loss`` has spent so far on named parts of its work (e.g. "attack");
            their share of the step time is logged.
    """

    module: nn.Module
    batch: Callable[[int], tuple[Tensor, ...]]
    loss: Callable[..., Losses]
    validate: Callable[..., Mapping[str, float]]
    extra: nn.Module | None = None
    rate: Callable[[int], float] | None = None
    score: Callable[[int, Mapping[str, float]], float | None] | None = None
    spent: Callable[[], Mapping[str, float]] = dict

    def learning(self) -> nn.ModuleList:
        return nn.ModuleList([self.module] + ([self.extra] if self.extra is not None else []))


class Loop:
    """Run a task for a number of steps; go on from ``out/state.safetensors`` if it is there.

    Every ``save_every`` steps the whole state is written under a temporary name and renamed, so
    that a kill at any moment loses at most that many steps, which are then taken again with the
    same result: batches depend on the step alone, and torch's random numbers are seeded anew in
    each step. Metrics go to ``out/metrics.jsonl``; see ``MetricsLog``. One process among several
    writes, logs and validates.

    Args:
        run: steps, intervals, optimizer, seed, workers and logs. In a folder that holds the state
            of another run it is refused, unless they differ in where they end or in what they take
            of the machine.
        task: what learns.
        out: folder of the run.
        accelerator: from ``make_accelerator``; one of its own by default.
    """

    def __init__(
        self, run: Run, task: Task, out: Path, accelerator: Accelerator | None = None
    ) -> None:
        self.config, self.task, self.out = run, task, out
        self.rate = task.rate or (lambda step: learning_rate(run.optimizer, step, run.steps))
        self.accelerator = accelerator or make_accelerator()
        learning = task.learning()
        self.ema = AveragedWeights(learning, run.optimizer.ema_decay)
        self.ema.module.to(self.accelerator.device)
        self.model, self.optimizer = self.accelerator.prepare(
            StepModule(synchronize_batch_norm(learning, self.accelerator), task.loss),
            torch.optim.AdamW(
                learning.parameters(),
                lr=run.optimizer.lr,
                weight_decay=run.optimizer.weight_decay,
            ),
        )
        fill_optimizer_state(self.optimizer.optimizer)
        self.settings = json.dumps(run.settings(), sort_keys=True)
        self.best: dict[str, Tensor] = {}  # averaged weights of the best validation
        self.best_step, self.best_score = -1, -math.inf
        self.best_figures: dict[str, float] = {}
        self.step, self.saved_step = 0, -1
        self.seconds, self.smooth_loss = 0.0, math.nan
        self.parts: dict[str, float] = {}  # seconds of each part that the task names
        self.log = MetricsLog(out, run.logs)
        self._state_file = out / STATE
        if self._leads:
            with disk_errors(out, self._kept()):
                out.mkdir(parents=True, exist_ok=True)

    @property
    def _leads(self) -> bool:
        return self.accelerator.is_main_process

    def _kept(self) -> str:
        if self.saved_step < 0:
            return "nothing was saved before"
        return f"the last checkpoint, of step {self.saved_step} in {self._state_file}, is intact"

    def _resume(self) -> None:
        if self._state_file.exists():
            check_same_run(self.out, self.settings)
            tensors, metadata = read_state(self._state_file)
            scatter_state(tensors, self.model, self.optimizer.optimizer)
            self.ema.module.load_state_dict(part(tensors, "ema/"))
            self.best = part(tensors, "best/")
            if self.best:
                self.best_step = int(metadata["best_step"])
                self.best_score = float(metadata["best_score"])
                self.best_figures = json.loads(metadata["best_figures"])
            self.step = self.saved_step = int(metadata["step"])
            self.seconds, self.smooth_loss = map(float, (metadata["seconds"], metadata["loss"]))
            self.parts = json.loads(metadata["parts"])
        if self._leads:
            with disk_errors(self.log.path, self._kept()):
                self.log.start(self.step)
        self.accelerator.wait_for_everyone()

    def _save(self) -> None:
        tensors = gather_state(self.model, self.optimizer.optimizer)
        if self._leads:
            tensors |= {f"ema/{k}": v for k, v in self.ema.module.state_dict().items()}
            tensors |= {f"best/{k}": v for k, v in self.best.items()}
            metadata = {
                "best_step": str(self.best_step),
                "best_score": str(self.best_score),
                "best_figures": json.dumps(self.best_figures),
                "step": str(self.step),
                "seconds": str(self.seconds),
                "loss": str(self.smooth_loss),
                "parts": json.dumps(self.parts),
                "settings": self.settings,
            }
            # Rows first: a state never is ahead of them.
            with disk_errors(self.log.path, self._kept()):
                self.log.flush()
            write_tensors(self._state_file, tensors, metadata, self._kept())
        self.saved_step = self.step
        self.accelerator.wait_for_everyone()

    def _record(self, values: Mapping[str, float]) -> None:
        # Nine digits hold a float32 exactly.
        row = {key: float(f"{value:.9g}") for key, value in values.items()}
        with disk_errors(self.log.path, self._kept()):
            self.log.write({"step": self.step, "seconds": round(self.seconds, 1)} | row)

    def _take_in_weights(self) -> None:
        state = part(self.accelerator.get_state_dict(self.model), "learning.")
        if self._leads:
            self.ema.update(state, self.step)

    def _gradients(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Back-propagate a batch, in parts if need be; mean losses over this process's share."""
        turns = self.accelerator.gradient_accumulation_steps
        means: dict[str, Tensor] = {}
        self.optimizer.zero_grad()
        for turn in range(turns):
            with self.accelerator.accumulate(self.model):
                losses = self.model(self.step, share(batch, self.accelerator, turn))
                self.accelerator.backward(losses["loss"])
            for key, value in losses.items():
                means[key] = means.get(key, 0.0) + value.detach().float() / turns
        return means

    def _update(self, batch: tuple[Tensor, ...]) -> dict[str, float]:
        own = step_rng(self.config.seed, self.step, purpose=100 + self.accelerator.process_index)
        torch.manual_seed(int(own.integers(2**63)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        losses = self._gradients(batch)
        norm = self.accelerator.clip_grad_norm_(
            self.model.parameters(), self.config.optimizer.clip_norm
        )
        if not torch.isfinite(norm):
            raise InputError(
                f"the gradient is not finite at step {self.step}; lower optimizer.lr "
                f"(now {self.config.optimizer.lr}); {self._kept()}"
            )
        self.optimizer.step()
        self.step += 1
        self._take_in_weights()
        everywhere = self.accelerator.gather(torch.stack(list(losses.values()))[None]).mean(0)
        return dict(zip(losses, everywhere.tolist(), strict=True)) | {"grad_norm": float(norm)}

    def _timed_update(self, batches: Iterator[tuple[Tensor, ...]]) -> dict[str, float]:
        started, before = time.monotonic(), dict(self.task.spent())
        values = self._update(next(batches))
        taken = time.monotonic() - started
        self.seconds += taken
        loss = values["loss"]
        last = loss if math.isnan(self.smooth_loss) else self.smooth_loss
        self.smooth_loss = 0.95 * last + 0.05 * loss
        shares: dict[str, float] = {}
        for key, value in self.task.spent().items():
            spent = value - before.get(key, 0.0)
            self.parts[key] = self.parts.get(key, 0.0) + spent
            shares[f"{key}_share"] = spent / taken
        return values | {"smooth_loss": self.smooth_loss} | shares

    def _validate(self) -> dict[str, float]:
        figures: dict[str, float] = {}
        if self._leads:
            assert isinstance(self.ema.module, nn.ModuleList)
            with torch.no_grad():
                found = self.task.validate(*self.ema.module)
            self._compare(found)
            figures = {f"val_{key}": value for key, value in found.items()}
        self.accelerator.wait_for_everyone()
        return figures

    def _compare(self, figures: Mapping[str, float]) -> None:
        """Keep the averaged weights if these figures are the best so far."""
        score = self.task.score(self.step, figures) if self.task.score else None
        if score is not None and score > self.best_score:
            self.best_step, self.best_score = self.step, score
            self.best_figures = dict(figures)
            self.best = {k: v.detach().clone() for k, v in self.ema.module.state_dict().items()}

    def shares(self) -> dict[str, float]:
        """Share of the whole step time that each part of the task's work has taken."""
        return {key: value / max(self.seconds, 1e-9) for key, value in self.parts.items()}

    def run(self) -> nn.Module:
        """Train to the end of the run, or to its ``stop_after``.

        Returns:
            The module with averaged weights, those of the best validation where the task scores
            them; only in the main process are they averaged.

        Raises:
            Interrupted: by Ctrl-C; it says at which step, and of which one the state is saved.
        """
        self._resume()
        self.model.train()
        end = min(self.config.stop_after or self.config.steps, self.config.steps)
        on_gpu = self.accelerator.device.type == "cuda"
        batches = batches_ahead(self.task.batch, range(self.step, end), self.config.workers, on_gpu)
        try:
            self._train(batches, end)
        except Interrupted as error:
            raise Interrupted(f"{error}; {self._kept()}") from error
        self.log.close()
        if self.best:
            self.ema.module.load_state_dict(self.best)
        assert isinstance(self.ema.module, nn.ModuleList)
        return self.ema.module[0]

    def _train(self, batches: Iterator[tuple[Tensor, ...]], end: int) -> None:
        with Progress(
            "train", self.config.steps, unit="steps", done=self.step, silent=not self._leads
        ) as progress:
            while self.step < end:
                values = self._timed_update(batches)
                last = self.step == end
                figures: dict[str, float] = {}
                if self.step % self.config.validate_every == 0 or last:
                    figures = self._validate()
                if self._leads and figures:
                    shown = "  ".join(f"{k} {v:.3f}" for k, v in figures.items())
                    print(
                        f"step {self.step}  loss {self.smooth_loss:.4f}  "
                        f"|g| {values['grad_norm']:.2f}  {shown}",
                        flush=True,
                    )
                if self._leads and (figures or self.step % self.config.log_every == 0):
                    self._record(values | figures)
                if self.step % self.config.save_every == 0 or last:
                    self._save()
                progress.advance(note=f"loss {self.smooth_loss:.3f}")
