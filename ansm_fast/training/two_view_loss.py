"""The losses of a two-view ANSM's training: detection without the localizer, then FFA and MgR."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.localizers import FeatureTaps
from ansm_fast.models import TwoViewANSM
from ansm_fast.models.detector import Views, upsampled
from ansm_fast.ops import bce_dice_loss, clamp_project, dual_mask_loss
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.loop import Losses
from ansm_fast.training.online import OnlineAttacks, spread
from ansm_fast.training.processes import network_autocast
from ansm_fast.training.stages import FrozenLocalizer, align_taps, hold_statistics

# What a batch says of each image.
ATTACKED, UNATTACKED, UNDECIDED = 1.0, 0.0, -1.0


def attacked_loss(logits: Tensor, attacked: Tensor) -> Tensor:
    """Binary cross-entropy of the map's logits (B, 1, H', W') with one answer an image, (B,).

    Images whose answer is ``UNDECIDED`` do not count.
    """
    decided = (attacked >= 0).to(logits.dtype)
    wanted = attacked.clamp(min=0)[:, None, None, None].expand_as(logits)
    error = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean((1, 2, 3))
    return (decided * error).sum() / decided.sum().clamp(min=1)


class TwoViewLoss:
    """Losses of one step.

    Detection, without the localizer, and with ``detect.adversarial`` under attacks on the detector
    itself: ``BCE + Dice`` of the mask that the detector finds with the
    truth, plus ``detect.first_view_weight`` times that of the mask that the first view finds alone,
    plus ``detect.attacked_weight`` times the binary cross-entropy of the map of what was attacked.
    Then the detector stays as it is and the writer learns:

    * FFA aligns the tapped features of defended attacked images with those of the original ones.
    * MgR compares the localizer's mask of each defended image with a target: of attacked images the
      mask that the detector found, blended with the truth by ``mgr.detected_share``; of original
      ones the truth, in the BCE blended with the localizer's own mask. The writer cannot know
      better than the detector, and to be asked for more teaches it to read the mask from the noise
      of those attacks that carry it. ``mgr.strength_weight`` times the mean size of the
      perturbation, over its bound, keeps it as faint as it can be.

    Attacked images are written into everywhere while the writer learns, whatever the map says.
    """

    def __init__(
        self, run: ANSMRun, ansm: TwoViewANSM, localizer: nn.Module, taps: tuple[str, ...]
    ) -> None:
        self.run, self.ansm, self.taps = run, ansm, taps
        self.localizer = FrozenLocalizer(localizer, run.precision)
        self.online = OnlineAttacks(run, self.localizer, ansm.defend, ansm)
        adversarial = run.detect.adversarial
        self.on_itself = OnlineAttacks(run, self._found, ansm.defend, ansm, adversarial)

    def __call__(self, step: int, *batch: Tensor) -> Losses:
        """Losses of what ``TwoViewBatches`` gives for the step."""
        if step < self.run.detect.steps:
            return self._detect(step, *batch)
        return self._write(step, *batch)

    def spent(self) -> dict[str, float]:
        """Seconds that the steps' attacks have taken, as "attack"; nothing where none are made."""
        both = [part.spent().get("attack") for part in (self.online, self.on_itself)]
        known = [seconds for seconds in both if seconds is not None]
        return {"attack": sum(known)} if known else {}

    def _found(self, image: Tensor) -> Tensor:
        """Logits of the mask that the detector finds."""
        return self.ansm.detected(self._look(image), (image.shape[2], image.shape[3]))

    def _look(self, image: Tensor) -> Views:
        with network_autocast(self.run.precision, image.device):
            return self.ansm.features(image).float()

    def _attack_itself(
        self, step: int, seen: Tensor, mask: Tensor, attacked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Attack some of the unattacked images: what is seen then, and the answers."""
        unattacked = (attacked == UNATTACKED).nonzero()[:, 0]
        flags = spread(self.run.detect.adversarial.share, len(unattacked))
        chosen = unattacked[torch.from_numpy(flags).to(unattacked.device)]
        if not len(chosen):
            return seen, attacked
        ids = step * len(seen) + chosen.cpu()
        made = self.on_itself(step, seen[chosen], mask[chosen], mask.roll(1, 0)[chosen], ids)
        noise = (made - seen[chosen]).abs().amax((1, 2, 3))
        seen, attacked = seen.clone(), attacked.clone()
        # As with the cache's attacks, less than a level and a half is nothing to be sure of.
        answers = torch.where(noise * 255 < 1.5, UNDECIDED, ATTACKED)
        seen[chosen], attacked[chosen] = made, answers.to(attacked.dtype)
        return seen, attacked

    def _detect(self, step: int, seen: Tensor, mask: Tensor, attacked: Tensor) -> Losses:
        if self.run.detect.adversarial.share:
            # An attack made through batch statistics wins there and against nothing else.
            hold_statistics(self.ansm.detector)
            seen, attacked = self._attack_itself(step, seen, mask, attacked)
        if not self.run.detect.second_view:
            self.ansm.detector.hold_second_view()
        found = self._look(seen)
        logits = self.ansm.detected(found, (mask.shape[2], mask.shape[3]))
        masks = bce_dice_loss(logits, mask)
        answers = attacked_loss(found.attacked, attacked)
        terms = [masks, self.run.detect.attacked_weight * answers]
        losses = {"detected": masks, "attacked": answers}
        if self.run.detect.first_view_weight:
            # Of the common mask alone the body that sees the noise leaves all to the other one.
            first = upsampled(found.first_mask, (mask.shape[2], mask.shape[3]))
            losses["detected_first"] = bce_dice_loss(first, mask)
            terms.append(self.run.detect.first_view_weight * losses["detected_first"])
        return losses | {"loss": torch.stack(terms).sum()}

    def _write(
        self,
        step: int,
        attacked: Tensor,
        original: Tensor,
        mask: Tensor,
        wrong_mask: Tensor,
        ids: Tensor,
        online: Tensor,
    ) -> Losses:
        if online.any():
            attacked = attacked.clone()
            attacked[online] = self.online(
                step, original[online], mask[online], wrong_mask[online], ids[online]
            )
        both, count = torch.cat([attacked, original]), len(attacked)
        size = (mask.shape[2], mask.shape[3])
        self.ansm.detector.eval()
        with torch.no_grad():
            found = self._look(both)
            applied = self.ansm.applied_map(found)
            applied[:count] = 1
            detected = torch.sigmoid(self.ansm.detected(found, size)[:count])
        perturbation = self.ansm.perturbation(found, size, applied)
        defended = clamp_project(both, perturbation, self.ansm.eps_d)
        strength = perturbation[:count].abs().mean() / self.ansm.eps_d
        saturated = (perturbation[:count].detach().abs() > 0.98 * self.ansm.eps_d).float().mean()
        losses, terms = self._two_stage(step, defended, original, mask, detected)
        loss = torch.stack([*terms, self.run.mgr.strength_weight * strength]).sum()
        shown = {"strength": strength.detach(), "saturated": saturated}
        return losses | shown | {"loss": loss}

    def _two_stage(
        self, step: int, defended: Tensor, original: Tensor, mask: Tensor, detected: Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        ffa, mgr, count = self.run.ffa, self.run.mgr, len(original)
        in_ffa = step < self.run.detect.steps + ffa.steps
        weight = ffa.weight if in_ffa else ffa.weight_in_mgr
        losses: dict[str, Tensor] = {}
        terms: list[Tensor] = []
        with FeatureTaps(self.localizer.module, self.taps if weight > 0 else ()) as taps:
            with torch.no_grad():
                own_mask = torch.sigmoid(self.localizer(original))
                wanted = list(taps.features)
            # The original images take no part in FFA.
            logits = self.localizer(defended[:count] if in_ffa else defended)
            if weight > 0:
                seen = [tap[:count] for tap in taps.features]
                losses["ffa"] = align_taps(self.taps, seen, wanted, ffa.alpha)
                terms.append(weight * losses["ffa"])
        if not in_ffa:
            forged = mask.flatten(1).any(1)[:, None, None, None]
            own_mask = torch.where(forged, own_mask, mask)
            target = torch.lerp(mask, detected, mgr.detected_share)
            losses["mgr"] = dual_mask_loss(
                logits[:count],
                logits[count:],
                (target > 0.5).to(mask.dtype),
                mask_orig=mask,
                weight_adv=mgr.weight_adv,
                weight_orig=mgr.weight_orig,
                bce_weight=mgr.bce_weight,
                dice_weight=mgr.dice_weight,
                pos_weight=mgr.pos_weight,
                bce_target=target,
                bce_target_orig=torch.lerp(mask, own_mask, mgr.own_mask_share_orig),
            )
            terms.append(losses["mgr"])
        return losses, terms
