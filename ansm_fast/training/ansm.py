"""Training of an ANSM for a frozen localizer: stage 1 FFA, stage 2 MgR (arXiv 2506.12871)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.attacks import Attack
from ansm_fast.data.images import Image, mask_to_tensor, to_tensor
from ansm_fast.errors import InputError
from ansm_fast.localizers import BuiltinLocalizer, FeatureTaps, load_localizer
from ansm_fast.losses import FeatureAlignment
from ansm_fast.models import ANSM, ANSMConfig, load_ansm, save_ansm
from ansm_fast.models.checkpoint import load_checkpoint
from ansm_fast.models.unet import BODY_CHANNELS
from ansm_fast.ops import bce_dice_loss, clamp_project, dual_mask_loss
from ansm_fast.training.batches import MemorySet, crop_window, epoch_indices, flip, step_rng
from ansm_fast.training.config import ANSMRun, MgRConfig
from ansm_fast.training.loop import Loop, Losses, Task, learning_rate
from ansm_fast.training.pool import AttackedPool, build_pool
from ansm_fast.training.validation import mask_figures


class AuxiliaryMaskHead(nn.Module):
    """Predicts the true mask from the ANSM's features; dropped after training.

    The gradient that reaches the ANSM through a localizer with clipped residuals is noisy; this
    one tells the body directly what to find under the noise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(BODY_CHANNELS, 1, 1)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        logits = F.interpolate(self.classifier(features), scale_factor=2.0, mode="bilinear")
        return logits[..., : size[0], : size[1]]


def warm_start(ansm: ANSM, head: AuxiliaryMaskHead, localizer: BuiltinLocalizer) -> None:
    """Begin from the localizer's body, which already sees the traces that attacks hide."""
    own = ansm.body.state_dict()
    fitting = {
        name: value
        for name, value in localizer.body.state_dict().items()
        if name in own and own[name].shape == value.shape
    }
    ansm.body.load_state_dict(own | fitting)
    if len(fitting) == len(own):
        head.classifier.load_state_dict(localizer.classifier.state_dict())


def begin_from(ansm: ANSM, path: Path) -> None:
    """Go on from a trained ANSM; the auxiliary head, which no checkpoint holds, begins anew.

    Raises:
        InputError: no such checkpoint, or one of another variant or bound.
    """
    initial = load_ansm(path)
    if initial.config != ansm.config:
        raise InputError(
            f"{path} is a {initial.config.variant} ANSM with eps_d {initial.eps_d * 255:g}/255, "
            f"the config says {ansm.config.variant} with {ansm.eps_d * 255:g}/255; change one"
        )
    ansm.load_state_dict(initial.state_dict())


def transplant(rng: np.random.Generator, attacked: Image, original: Image, share: float) -> Image:
    """Give a share of the batch the noise of another image, mirrored and scaled by 0.5 to 1.5.

    Noise that was made for another image says nothing about this one's mask: what is found under
    it was found by the traces of the forgery. It also multiplies the pool.
    """
    if share <= 0 or len(attacked) < 2:
        return attacked
    noise = attacked.astype(np.int16) - original
    result = attacked.copy()
    for index in np.flatnonzero(rng.random(len(attacked)) < share):
        donor = noise[(index + int(rng.integers(1, len(attacked)))) % len(attacked)]
        donor = donor[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))] * rng.uniform(0.5, 1.5)
        moved = original[index] + np.rint(donor)
        result[index] = np.clip(moved, 0, 255).astype(np.uint8)
    return result


def stage_rate(run: ANSMRun, step: int) -> float:
    """The learning rate: a warm-up and cosine for detection, another for FFA and MgR together."""
    if step < run.detect.steps:
        own = run.optimizer.model_copy(update={"lr": run.detect.lr})
        return learning_rate(own, step, run.detect.steps)
    return learning_rate(run.optimizer, step - run.detect.steps, run.steps - run.detect.steps)


def refinement(mgr: MgRConfig, logits: Tensor, own_mask: Tensor, mask: Tensor) -> Tensor:
    """The loss of MgR for (2 B, 1, H, W) ``logits``: defended attacked, then defended original."""
    adv, orig = logits.chunk(2)
    forged = mask.flatten(1).any(1)
    # Not the localizer's own mask on a pristine image: all it could add are false alarms.
    own_mask = torch.where(forged[:, None, None, None], own_mask, mask)
    losses = dual_mask_loss(
        adv,
        orig,
        mask,
        weight_adv=mgr.weight_adv,
        weight_orig=mgr.weight_orig,
        bce_weight=mgr.bce_weight,
        dice_weight=mgr.dice_weight,
        pos_weight=mgr.pos_weight,
        bce_target=torch.lerp(mask, own_mask, mgr.own_mask_share_adv),
        bce_target_orig=torch.lerp(mask, own_mask, mgr.own_mask_share_orig),
        reduction="none",
    )
    return torch.where(forged, losses, mgr.pristine_weight * losses).mean()


class TwoStageLoss:
    """Losses of one step: detection under noise, then FFA, then MgR with the auxiliary head."""

    def __init__(
        self,
        run: ANSMRun,
        ansm: ANSM,
        head: AuxiliaryMaskHead,
        localizer: BuiltinLocalizer,
        training_set: MemorySet,
        pool: AttackedPool,
    ) -> None:
        self.run, self.ansm, self.head, self.localizer = run, ansm, head, localizer
        self.set, self.pool = training_set, pool
        self.taps = run.ffa.taps if run.ffa.taps is not None else localizer.taps

    def _images(self, step: int, size: int, crop: int) -> tuple[Image, Image, NDArray[np.bool_]]:
        chosen = epoch_indices(self.run.seed, step * size, size, len(self.pool))
        rng = step_rng(self.run.seed, step)
        rows, columns = crop_window(rng, (self.set.images.shape[1], self.set.images.shape[2]), crop)
        originals = self.pool.indices[chosen]
        attacked, original, mask = flip(
            rng,
            self.pool.attacked[chosen][:, rows, columns],
            self.set.images[originals][:, rows, columns],
            self.set.masks[originals][:, rows, columns],
        )
        attacked = transplant(rng, attacked, original, self.run.transplant_share)
        return attacked, original, mask

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Attacked images, original images, masks of a step of FFA or MgR."""
        attacked, original, mask = self._images(step, self.run.batch_size, self.run.crop)
        return to_tensor(attacked), to_tensor(original), mask_to_tensor(mask)

    def _detect(self, step: int) -> Losses:
        detect = self.run.detect
        attacked, original, mask = self._images(step, detect.batch_size, detect.crop)
        clean = step_rng(self.run.seed, step, purpose=3).random(len(mask)) < detect.original_share
        seen = np.where(clean[:, None, None, None], original, attacked)
        guess = self.head(self.ansm.features(to_tensor(seen)), mask.shape[1:3])
        loss = bce_dice_loss(guess, mask_to_tensor(mask))
        return {"auxiliary": loss, "loss": loss}

    def _align(self, defended: list[Tensor], original: list[Tensor]) -> Tensor:
        # Mean over channels, sum over pixels: the paper's 1/N is left to `ffa.weight`.
        return FeatureAlignment(alpha=self.run.ffa.alpha, reduction="channelmean")(
            defended, original
        )

    def __call__(self, step: int) -> Losses:
        ffa, mgr = self.run.ffa, self.run.mgr
        if step < self.run.detect.steps:
            return self._detect(step)
        attacked, original, mask = self.batch(step)
        size = (mask.shape[2], mask.shape[3])
        both = torch.cat([attacked, original])
        features = self.ansm.features(both)
        perturbation = self.ansm.perturbation(features, size)
        defended = clamp_project(both, perturbation, self.ansm.eps_d)
        losses: dict[str, Tensor] = {
            "saturated": (perturbation.abs() > 0.98 * self.ansm.eps_d).float().mean()
        }
        in_ffa = step < self.run.detect.steps + ffa.steps
        weight_ffa = ffa.weight if in_ffa else ffa.weight_in_mgr
        with FeatureTaps(self.localizer, self.taps) as taps:
            with torch.no_grad():
                own_mask = torch.sigmoid(self.localizer(original))
                wanted = taps.features
            taps.features = [torch.empty(0)] * len(self.taps)
            logits = self.localizer(defended)
            seen = taps.features
        total = torch.zeros(())
        if weight_ffa > 0:
            half = len(attacked)
            losses["ffa"] = self._align([tap[:half] for tap in seen], list(wanted))
            total = total + weight_ffa * losses["ffa"]
        if not in_ffa:
            losses["mgr"] = refinement(mgr, logits, own_mask, mask)
            total = total + losses["mgr"]
        if mgr.auxiliary_weight > 0:
            guess = self.head(features, size)
            losses["auxiliary"] = bce_dice_loss(guess, torch.cat([mask, mask]))
            total = total + mgr.auxiliary_weight * losses["auxiliary"]
        return losses | {"loss": total}


def _validation(run: ANSMRun, localizer: BuiltinLocalizer) -> dict[str, tuple]:
    """Original and attacked validation images: PGD-10 untargeted and hide, eps 4/255."""
    data = MemorySet(run.data.validation, run.data.validation_count)
    image, mask = to_tensor(data.images), mask_to_tensor(data.masks)
    sets = {"clean": (data.images, data.masks)}
    for objective in ("untargeted", "hide"):
        attack = Attack("pgd", 4 / 255, steps=10, objective=objective)
        parts = [
            attack(
                localizer, image[i : i + 8], mask[i : i + 8], sample_ids=range(i, len(image))[:8]
            )
            for i in range(0, len(image), 8)
        ]
        pixels = (torch.cat(parts) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        sets[f"pgd_{objective}"] = (pixels, data.masks)
    return sets


def train_ansm(run: ANSMRun, out: str | Path, settings: Mapping[str, object]) -> Path:
    """Train, resuming what ``out`` holds; returns the checkpoint ``out/ansm.safetensors``."""
    out = Path(out)
    torch.manual_seed(run.seed)
    localizer = load_localizer(run.localizer).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    training_set = MemorySet(run.data.train)
    ansm, head = ANSM(ANSMConfig(run.variant, run.eps_d / 255)), AuxiliaryMaskHead()
    if run.warm_start:
        warm_start(ansm, head, localizer)
    if run.initial is not None:
        begin_from(ansm, run.initial)
    ansm = ansm.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sets = _validation(run, localizer)
    # Last, since it takes long: what is wrong with the other inputs has shown by now.
    keys = ("attacks", "pool_size", "seed", "data")
    pool = build_pool(
        run.pool,
        localizer,
        training_set,
        run.attacks,
        run.pool_size,
        run.seed,
        {key: settings[key] for key in keys} | {"victim": localizer.fingerprint},
    )

    def validate(module: nn.Module) -> dict[str, float]:
        assert isinstance(module, ANSM)
        figures: dict[str, float] = {}
        for name, (images, masks) in sets.items():
            found = mask_figures(lambda x: localizer(module.defend(x)), images, masks)
            figures |= {f"{name}_{key}": value for key, value in found.items()}
            found = mask_figures(
                lambda x: head(module.features(x), (x.shape[2], x.shape[3])), images, masks
            )
            figures[f"{name}_auxiliary_f1"] = found["f1"]
        return figures

    loop = Loop(
        Task(ansm, TwoStageLoss(run, ansm, head, localizer, training_set, pool), validate, head),
        out,
        settings,
        steps=run.steps,
        validate_every=run.validate_every,
        save_every=run.save_every,
        optimizer=run.optimizer,
        rate=lambda step: stage_rate(run, step),
    )
    trained = loop.run()
    assert isinstance(trained, ANSM)
    path = out / "ansm.safetensors"
    provenance: dict[str, object] = {
        "config": dict(settings),
        "localizer": localizer.fingerprint,
        "seconds": round(loop.seconds),
    }
    if run.initial is not None:
        _, _, metadata = load_checkpoint(run.initial, "ansm")
        provenance["initial"] = json.loads(metadata["provenance"]) | {
            "fingerprint": metadata["fingerprint"]
        }
    save_ansm(path, trained, provenance)
    return path
