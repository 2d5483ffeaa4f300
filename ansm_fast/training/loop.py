"""The loop that both trainings share: schedule, averaging, metrics, resumable state."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ansm_fast.errors import InputError
from ansm_fast.training.config import OptimizerConfig

Losses = Mapping[str, Tensor]


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine from ``lr`` to ``lr * final_lr_share``."""
    warmup = min(1.0, (step + 1) / config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return config.lr * warmup * (config.final_lr_share + (1 - config.final_lr_share) * cosine)


class AveragedWeights:
    """Exponential moving average of a module's parameters; buffers are copied.

    The decay grows with the number of steps, so that early weights are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


@dataclass
class Task:
    """What one training adds to the loop.

    Attributes:
        module: what learns, and what the averaged weights belong to.
        loss: step number to named losses; the entry "loss" is minimized.
        validate: called with the averaged weights loaded and in eval mode; named figures.
        extra: further learning modules that are needed for training only.
    """

    module: nn.Module
    loss: Callable[[int], Losses]
    validate: Callable[[nn.Module], Mapping[str, float]]
    extra: nn.Module | None = None

    def learning(self) -> nn.ModuleList:
        return nn.ModuleList([self.module] + ([self.extra] if self.extra is not None else []))


def _pack_state(
    learning: nn.Module, optimizer: torch.optim.Optimizer, ema: AveragedWeights
) -> dict:
    tensors = {f"model/{k}": v for k, v in learning.state_dict().items()}
    tensors |= {f"ema/{k}": v for k, v in ema.state.items()}
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in entry.items()}
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}


def _restore_state(
    tensors: Mapping[str, Tensor],
    learning: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: AveragedWeights,
) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

    learning.load_state_dict(part("model/"))
    ema.state = part("ema/")
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in part("optimizer/").items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


class Loop:
    """Run a task for a number of steps; go on from ``out/state.safetensors`` if it is there.

    Every ``save_every`` steps the whole state is written under a temporary name and renamed, so
    that a kill at any moment loses at most that many steps. Metrics go to ``out/metrics.jsonl``.

    Args:
        task: what learns.
        out: folder of the run.
        settings: the run's configuration as JSON values; another one's state is refused.
        steps, validate_every, save_every: in optimizer steps.
        optimizer: its configuration.
        rate: learning rate of a step; by default ``learning_rate`` over all steps.
    """

    def __init__(
        self,
        task: Task,
        out: Path,
        settings: Mapping[str, object],
        *,
        steps: int,
        validate_every: int,
        save_every: int,
        optimizer: OptimizerConfig,
        rate: Callable[[int], float] | None = None,
    ) -> None:
        self.task, self.out, self.config = task, out, optimizer
        self.steps, self.validate_every, self.save_every = steps, validate_every, save_every
        self.rate = rate or (lambda step: learning_rate(optimizer, step, steps))
        self.learning = task.learning()
        self.optimizer = torch.optim.AdamW(
            self.learning.parameters(), lr=optimizer.lr, weight_decay=optimizer.weight_decay
        )
        self.ema = AveragedWeights(task.module, optimizer.ema_decay)
        self.settings = json.dumps(settings, sort_keys=True)
        self.step = 0
        self.seconds = 0.0
        out.mkdir(parents=True, exist_ok=True)
        self._state_file, self._metrics_file = out / "state.safetensors", out / "metrics.jsonl"

    def _resume(self) -> None:
        if not self._state_file.exists():
            self._metrics_file.unlink(missing_ok=True)
            return
        try:
            with safe_open(self._state_file, framework="pt") as opened:
                metadata = opened.metadata() or {}
                tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{self._state_file} cannot be read ({error}); remove it to start the run again"
            ) from error
        if metadata.get("settings") != self.settings:
            raise InputError(
                f"{self.out} holds a run with another configuration; "
                "give another output folder or remove this one"
            )
        _restore_state(tensors, self.learning, self.optimizer, self.ema)
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
        self._drop_metrics_after(self.step)

    def _drop_metrics_after(self, step: int) -> None:
        if not self._metrics_file.exists():
            return
        lines = self._metrics_file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        self._metrics_file.write_text("".join(kept), encoding="utf-8")

    def _save(self) -> None:
        temporary = self._state_file.with_name(".state.tmp")
        metadata = {
            "step": str(self.step),
            "seconds": f"{self.seconds:.1f}",
            "settings": self.settings,
        }
        save_file(_pack_state(self.learning, self.optimizer, self.ema), temporary, metadata)
        os.replace(temporary, self._state_file)

    def _record(self, values: Mapping[str, float]) -> None:
        row = {"step": self.step, "seconds": round(self.seconds, 1)}
        row |= {key: round(value, 6) for key, value in values.items()}
        with self._metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _update(self) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        losses = self.task.loss(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.learning.parameters(), self.config.clip_norm)
        if not torch.isfinite(norm):
            raise InputError(
                f"the gradient is not finite at step {self.step}; lower optimizer.lr "
                f"(now {self.config.lr}); the last state in {self._state_file} is intact"
            )
        self.optimizer.step()
        self.step += 1
        self.ema.update(self.task.module, self.step)
        return {key: float(value.detach()) for key, value in losses.items()} | {
            "grad_norm": float(norm)
        }

    def averaged(self) -> nn.Module:
        """Load the averaged weights into the module, in eval mode, and return it."""
        self.task.module.load_state_dict(self.ema.state)
        return self.task.module.eval()

    def _validate(self) -> dict[str, float]:
        current = {k: v.detach().clone() for k, v in self.task.module.state_dict().items()}
        with torch.no_grad():
            figures = {f"val_{k}": v for k, v in self.task.validate(self.averaged()).items()}
        self.task.module.load_state_dict(current)
        self.learning.train()
        return figures

    def run(self, *, stop_at: int | None = None) -> nn.Module:
        """Train to the end (or to ``stop_at``) and return the module with averaged weights."""
        self._resume()
        self.learning.train()
        end = self.steps if stop_at is None else min(stop_at, self.steps)
        smoothed: dict[str, float] = {}
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns) as progress:
            bar = progress.add_task("train", total=self.steps, completed=self.step)
            while self.step < end:
                started = time.monotonic()
                for key, value in self._update().items():
                    smoothed[key] = 0.95 * smoothed.get(key, value) + 0.05 * value
                self.seconds += time.monotonic() - started
                last = self.step == self.steps
                if self.step % self.validate_every == 0 or last:
                    figures = self._validate()
                    self._record(smoothed | figures)
                    shown = "  ".join(f"{k} {v:.3f}" for k, v in figures.items())
                    progress.console.print(
                        f"step {self.step}  loss {smoothed['loss']:.4f}  "
                        f"|g| {smoothed['grad_norm']:.2f}  {shown}"
                    )
                if self.step % self.save_every == 0 or last:
                    self._save()
                progress.update(
                    bar, completed=self.step, description=f"loss {smoothed['loss']:.3f}"
                )
        return self.averaged()
