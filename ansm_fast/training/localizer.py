"""Training of a localizer on forgeries with masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ansm_fast.errors import InputError
from ansm_fast.localizers import (
    TrainableLocalizer,
    load_localizer,
    save_localizer,
)
from ansm_fast.localizers.builtin import LocalizerConfig
from ansm_fast.models.checkpoint import lineage
from ansm_fast.ops import bce_dice_loss
from ansm_fast.training.augmentation import augmented_crop
from ansm_fast.training.batches import MemorySet, epoch_indices, flip, step_rng
from ansm_fast.training.config import LocalizerRun
from ansm_fast.training.loop import Loop, Task
from ansm_fast.training.online import OnlineAttacks, OnlineCompression, spread
from ansm_fast.training.processes import check_batch_sizes, make_accelerator, network_autocast
from ansm_fast.training.resume import check_same_run
from ansm_fast.training.rounding import round_weights
from ansm_fast.training.run_config import CropPhase
from ansm_fast.training.state import disk_errors
from ansm_fast.training.validation import LocalizerValidation
from ansm_fast.training.widening import widened


class LocalizerBatches:
    """Augmented crops of the training set; what a step sees depends on (seed, step) alone.

    A batch is images (B, 3, H, W), masks (B, 1, H, W), wrong masks (another image's), numbers for
    random starts, and which images are to be attacked. Pixels are bytes: they become numbers where
    they are used, since a GPU waits for four times as much.
    """

    def __init__(self, run: LocalizerRun, training_set: MemorySet) -> None:
        self.run, self.set = run, training_set
        self._starts = self._phase_starts()

    def _phase_starts(self) -> list[tuple[int, int, CropPhase]]:
        starts, step, position = [], 0, 0
        for phase in self.run.phases:
            starts.append((step, position, phase))
            end = round(phase.until * self.run.steps)
            position += (end - step) * phase.batch_size
            step = end
        return starts

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        start, position, phase = next(s for s in reversed(self._starts) if s[0] <= step)
        position += (step - start) * phase.batch_size
        chosen = epoch_indices(self.run.seed, position, phase.batch_size, len(self.set))
        rng = step_rng(self.run.seed, step)
        pairs = [
            augmented_crop(
                rng,
                self.set.images[index],
                self.set.masks[index],
                phase.crop,
                self.run.augmentation,
            )
            for index in chosen
        ]
        images, masks = flip(rng, *(np.stack(parts) for parts in zip(*pairs, strict=True)))
        size = phase.batch_size
        return (
            torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2),
            torch.from_numpy(np.ascontiguousarray(masks)).unsqueeze(1),
            torch.from_numpy(np.roll(masks, 1, axis=0)).unsqueeze(1),
            torch.arange(position, position + size),
            torch.from_numpy(spread(self.run.online.share, size)),
        )


def begin_from(localizer: TrainableLocalizer, path: Path) -> None:
    """Go on from a trained localizer; a wider U-Net begins with what the narrower one computes.

    Raises:
        InputError: no such checkpoint, one of another architecture, or a wider one.
    """
    initial = load_localizer(path)
    if type(initial) is not type(localizer) or not _can_become(initial.config, localizer.config):
        raise InputError(
            f"initial: {path} is a {type(initial).__name__} with "
            f"{getattr(initial, 'config', 'no configuration')}, the config says "
            f"{type(localizer).__name__} with {localizer.config}; change one"
        )
    localizer.load_state_dict(widened(initial.state_dict(), localizer.state_dict()))


def _can_become(narrow: object, wide: object) -> bool:
    if isinstance(narrow, LocalizerConfig) and isinstance(wide, LocalizerConfig):
        return all(one <= other for one, other in zip(narrow.widths, wide.widths, strict=True))
    return narrow == wide


def train_network(
    run: LocalizerRun, out: str | Path, make: Callable[[], nn.Module]
) -> tuple[nn.Module, Loop]:
    """Train any network that gives mask logits, resuming what ``out`` holds.

    Args:
        run: everything but the network; its ``architecture`` and ``half_weights`` are not read.
        out: folder of the run, where its state and its metrics are kept.
        make: makes the network, image (B, 3, H, W) in [0, 1] to mask logits (B, 1, H, W), after
            the seed is set.

    Returns:
        The trained network, its weights averaged, and the loop: how many seconds all steps took,
        and which process writes.
    """
    out = Path(out)
    # First what is quick to see, before anything is loaded.
    check_batch_sizes(run.batch_sizes(), run.accumulate)
    check_same_run(out, run.settings())
    torch.manual_seed(run.seed)
    training_set = MemorySet.training(run.data)
    validation = LocalizerValidation(run)
    network = make().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = LocalizerBatches(run, training_set)

    accelerator = make_accelerator(run.accumulate, run.device)
    for line in [*training_set.lines, *validation.lines]:
        accelerator.print(line)

    def localize(images: Tensor) -> Tensor:
        with network_autocast(run.precision, images.device):
            return network(images).float()

    online = OnlineAttacks(run, localize, lambda x: x, network)
    compress = OnlineCompression(run.online_compression, run.seed)

    def loss(step: int, levels: Tensor, *rest: Tensor) -> dict[str, Tensor]:
        ids, attacked = rest[2:]
        images, masks, wrong_masks = levels.float().div_(255), rest[0].float(), rest[1].float()
        if attacked.any():
            found = online(
                step, images[attacked], masks[attacked], wrong_masks[attacked], ids[attacked]
            )
            images[attacked] = compress(step, found)
        return {"loss": bce_dice_loss(localize(images), masks)}

    def validate(module: nn.Module) -> dict[str, float]:
        return validation(module, accelerator.device)

    task = Task(network, batches, loss, validate, spent=online.spent)
    loop = Loop(run, task, out, accelerator)
    return loop.run(), loop


def train_localizer(run: LocalizerRun, out: str | Path) -> Path:
    """Train, resuming what ``out`` holds; returns the checkpoint ``out/localizer.safetensors``."""

    def make() -> nn.Module:
        localizer = run.architecture.make()
        if run.initial is not None:
            begin_from(localizer, run.initial)
        return localizer

    trained, loop = train_network(run, out, make)
    assert isinstance(trained, TrainableLocalizer)
    if run.half_weights:
        round_weights(trained)
    path = Path(out) / "localizer.safetensors"
    provenance: dict[str, object] = {"config": run.settings(), "seconds": round(loop.seconds)}
    if run.initial is not None:
        provenance["initial"] = lineage(run.initial, "localizer")
    if loop.accelerator.is_main_process:
        with disk_errors(path, f"the finished run's state in {out} is intact"):
            save_localizer(path, trained, provenance)
    return path
