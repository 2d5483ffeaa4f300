"""The losses of an ANSM's training: detection, stage 1 FFA, stage 2 MgR (arXiv 2506.12871)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.attacks.checks import check_logits
from ansm_fast.attacks.victim import evaluating
from ansm_fast.errors import LocalizerError
from ansm_fast.localizers import FeatureTaps
from ansm_fast.losses import FeatureAlignment
from ansm_fast.models import ANSM
from ansm_fast.models.unet import BODY_CHANNELS
from ansm_fast.ops import bce_dice_loss, clamp_project, dual_mask_loss
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.loop import Losses, learning_rate
from ansm_fast.training.online import OnlineAttacks
from ansm_fast.training.processes import network_autocast
from ansm_fast.training.stage_config import MgRConfig


class AuxiliaryMaskHead(nn.Module):
    """Predicts the true mask from the ANSM's features; dropped after training.

    The gradient that reaches the ANSM through a localizer with clipped residuals is noisy; this
    one tells the body directly what to find under the noise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(BODY_CHANNELS, 1, 1)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        body = features[:, :BODY_CHANNELS]
        logits = F.interpolate(self.classifier(body), scale_factor=2.0, mode="bilinear")
        return logits[..., : size[0], : size[1]]


def hold_statistics(module: nn.Module) -> None:
    """Normalize by the running statistics, which stay as they are, until the next ``train()``."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


def stage_rate(run: ANSMRun, step: int) -> float:
    """Compute the rate: a warm-up and cosine for detection, another for FFA and MgR together."""
    if step < run.detect.steps:
        own = run.optimizer.model_copy(update={"lr": run.detect.lr})
        return learning_rate(own, step, run.detect.steps)
    return learning_rate(run.optimizer, step - run.detect.steps, run.steps - run.detect.steps)


def refinement(mgr: MgRConfig, logits: Tensor, own_mask: Tensor, mask: Tensor) -> Tensor:
    """Compute the loss of MgR for (2 B, 1, H, W) ``logits``: of attacked, then of originals."""
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


class FrozenLocalizer:
    """Gives logits as float32, in eval mode and in the run's precision."""

    def __init__(self, module: nn.Module, precision: str) -> None:
        self.module, self.precision = module, precision
        self._has_localized = False

    def __call__(self, image: Tensor) -> Tensor:
        """Logits of an image.

        Raises:
            LocalizerError: what the localizer gives for the first images is of a wrong kind.
        """
        with network_autocast(self.precision, image.device), evaluating(self.module):
            logits = self.module(image)
            if not self._has_localized:
                self._has_localized = True
                check_logits(logits, image, self.module)
        return logits.float()


def align_taps(
    names: Sequence[str], defended: list[Tensor], original: list[Tensor], alpha: float
) -> Tensor:
    """Compute the alignment of FFA, mean over channels and sum over pixels: the paper's 1/N is left
    to ``ffa.weight``.

    Raises:
        LocalizerError: a tap gives another shape for the defended images than for the original.
    """
    for name, one, other in zip(names, defended, original, strict=True):
        if one.shape != other.shape:
            raise LocalizerError(
                f"the tap {name} gives {tuple(one.shape)} for the defended images and "
                f"{tuple(other.shape)} for the original ones; tap a submodule whose output "
                "depends on the image's size alone"
            )
    alignment = FeatureAlignment(alpha=alpha, reduction="channelmean")
    return alignment([tap.float() for tap in defended], [tap.float() for tap in original])


class TwoStageLoss:
    """Losses of one step: detection under noise, then FFA, then MgR with the auxiliary head.

    With ``objective: pixel_mse`` FFA and MgR give way to the mean squared error, in grey levels,
    between the defended images and the original ones::

        MSE(defend(attacked), original) + MSE(defend(original), original)

    With ``objective: gate`` they give way to a choice. The localizer sees every image x, attacked
    or original, as it is and compressed; L is BCE + Dice with the truth, of each image alone::

        gain = L(x) - L(compressed(x))
        loss = mean of |gain| * BCE(gate, gain > 0)

    The localizer is not differentiated: a gate that learns through it stays a little shut where it
    could be open, since the noise that this lets through tells the localizer what was attacked.

    Networks run in the run's precision, losses in float32.

    Args:
        localizer: image to logits, in eval mode and without gradients to its parameters whatever
            its flags say; its submodules named by ``taps`` are aligned.
    """

    def __init__(
        self,
        run: ANSMRun,
        ansm: ANSM,
        head: AuxiliaryMaskHead,
        localizer: nn.Module,
        taps: tuple[str, ...],
    ) -> None:
        self.run, self.ansm, self.head = run, ansm, head
        self.localizer, self.taps = FrozenLocalizer(localizer, run.precision), taps
        self.online = OnlineAttacks(run, self.localizer, self.defend, ansm)

    def defend(self, image: Tensor) -> Tensor:
        return self._defended(image)[0]

    def _features(self, image: Tensor) -> Tensor:
        if self.run.frozen_statistics:
            hold_statistics(self.ansm)
        with network_autocast(self.run.precision, image.device):
            return self.ansm.features(image)

    def _guess(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        with network_autocast(self.run.precision, features.device):
            return self.head(features, size).float()

    def _defended(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Defended image, perturbation and the body's features."""
        features = self._features(image)
        # The head in float32: it tells pixels apart by less than bfloat16 does.
        size = (image.shape[2], image.shape[3])
        perturbation = self.ansm.perturbation(features.float(), size)
        return clamp_project(image, perturbation, self.ansm.eps_d), perturbation, features

    def _detect(self, seen: Tensor, mask: Tensor) -> Losses:
        guess = self._guess(self._features(seen), (mask.shape[2], mask.shape[3]))
        loss = bce_dice_loss(guess, mask)
        return {"auxiliary": loss, "loss": loss}

    def __call__(self, step: int, *batch: Tensor) -> Losses:
        """Losses of what ``ANSMBatches`` gives for the step."""
        if step < self.run.detect.steps:
            return self._detect(*batch)
        attacked, original, mask, wrong_mask, ids, online = batch
        if online.any():
            attacked = attacked.clone()
            attacked[online] = self.online(
                step, original[online], mask[online], wrong_mask[online], ids[online]
            )
        if self.run.objective == "gate":
            return self._choose(torch.cat([attacked, original]), torch.cat([mask, mask]))
        defended, perturbation, features = self._defended(torch.cat([attacked, original]))
        saturated = (perturbation.detach().abs() > 0.98 * self.ansm.eps_d).float().mean()
        if self.run.objective == "pixel_mse":
            error = 255 * (defended - torch.cat([original, original]))
            losses: Losses = {"loss": 2 * error.square().mean()}
        else:
            losses = self._two_stage(step, defended, original, mask, features)
        return {"saturated": saturated} | dict(losses)

    def _choose(self, seen: Tensor, mask: Tensor) -> Losses:
        size = (seen.shape[2], seen.shape[3])
        logits, compression = self.ansm.gate_and_compression(self._features(seen).float(), size)
        with torch.no_grad():
            compressed = clamp_project(seen, compression, self.ansm.eps_d)
            gain = bce_dice_loss(self.localizer(seen), mask, reduction="none")
            gain = gain - bce_dice_loss(self.localizer(compressed), mask, reduction="none")
            wanted = (gain > 0).float()[:, None, None, None].expand_as(logits)
        error = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        chosen = (logits.detach() > 0) == (wanted > 0)
        return {
            "loss": (gain.abs() * error.mean((1, 2, 3))).mean(),
            "chosen": chosen.float().mean(),
        }

    def _two_stage(
        self, step: int, defended: Tensor, original: Tensor, mask: Tensor, features: Tensor
    ) -> Losses:
        ffa, mgr = self.run.ffa, self.run.mgr
        in_ffa = step < self.run.detect.steps + ffa.steps
        weight_ffa = ffa.weight if in_ffa else ffa.weight_in_mgr
        terms: list[Tensor] = []
        losses: dict[str, Tensor] = {}
        if weight_ffa > 0 or not in_ffa:
            logits, own_mask, seen, wanted = self._localized(defended, original)
            if weight_ffa > 0:
                losses["ffa"] = align_taps(
                    self.taps, [tap[: len(original)] for tap in seen], wanted, ffa.alpha
                )
                terms.append(weight_ffa * losses["ffa"])
            if not in_ffa:
                losses["mgr"] = refinement(mgr, logits, own_mask, mask)
                terms.append(losses["mgr"])
        if mgr.auxiliary_weight > 0:
            guess = self._guess(features, (mask.shape[2], mask.shape[3]))
            losses["auxiliary"] = bce_dice_loss(guess, torch.cat([mask, mask]))
            terms.append(mgr.auxiliary_weight * losses["auxiliary"])
        return losses | {"loss": torch.stack(terms).sum()}

    def _localized(
        self, defended: Tensor, original: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Logits of the defended images, own mask of the original ones, tapped features of both."""
        with FeatureTaps(self.localizer.module, self.taps) as taps:
            with torch.no_grad():
                own_mask = torch.sigmoid(self.localizer(original))
                wanted = list(taps.features)
            logits = self.localizer(defended)
            return logits, own_mask, list(taps.features), wanted
