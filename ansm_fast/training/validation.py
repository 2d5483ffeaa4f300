"""Quick figures while training; `ansm-fast evaluate` measures properly."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ansm_fast.attacks import Attack, CountedLocalizer
from ansm_fast.images.photograph import Image
from ansm_fast.images.tensors import mask_to_tensor, to_tensor
from ansm_fast.models import BaseANSM, TwoViewANSM
from ansm_fast.ops import clamp_project
from ansm_fast.progress import Progress
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.attack_config import ValidationAttack
from ansm_fast.training.batches import MemorySet
from ansm_fast.training.config import LocalizerRun

if TYPE_CHECKING:
    from accelerate import Accelerator

_BATCH = 8


@torch.no_grad()
def mask_figures(
    predict: Callable[[Tensor], Tensor],
    images: Image,
    masks: NDArray[np.bool_],
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Mean F1 at threshold 0.5 over forged images; mean predicted area over pristine ones."""
    return figures_of_each(lambda image: [predict(image)], images, masks, device)[0]


@torch.no_grad()
def figures_of_each(
    predict: Callable[[Tensor], list[Tensor]],
    images: Image,
    masks: NDArray[np.bool_],
    device: torch.device | str = "cpu",
) -> list[dict[str, float]]:
    """``mask_figures`` of each of the masks that ``predict`` finds in one pass."""
    scores: list[list[float]] = []
    areas: list[list[float]] = []
    for start in range(0, len(images), _BATCH):
        part = slice(start, start + _BATCH)
        truth = mask_to_tensor(masks[part]).to(device) > 0
        for number, logits in enumerate(predict(to_tensor(images[part]).to(device))):
            if number == len(scores):
                scores.append([])
                areas.append([])
            for predicted, true in zip(logits > 0, truth, strict=True):
                if true.any():
                    hits = int((predicted & true).sum())
                    f1 = 2 * hits / max(1, int(predicted.sum() + true.sum()))
                    scores[number].append(f1)
                else:
                    areas[number].append(float(predicted.float().mean()))
    return [
        {"f1": float(np.mean(forged)) if forged else float("nan")}
        | ({"false_alarm": float(np.mean(pristine))} if pristine else {})
        for forged, pristine in zip(scores, areas, strict=True)
    ]


def attacked_images(
    config: ValidationAttack,
    victim: Callable[[Tensor], Tensor],
    data: MemorySet,
    device: torch.device | str = "cpu",
) -> Image:
    """Attack the set's images on ``victim``."""
    attack = Attack(
        config.name,  # type: ignore[arg-type]
        config.eps / 255,
        steps=config.steps,
        objective=config.objective,  # type: ignore[arg-type]
        norm=config.norm,
    )
    image, mask = to_tensor(data.images), mask_to_tensor(data.masks)
    wrong, counted = torch.roll(mask, 1, 0), CountedLocalizer(victim)
    parts = []
    for start in range(0, len(image), _BATCH):
        one = slice(start, start + _BATCH)
        x, truth, other = (tensor[one].to(device) for tensor in (image, mask, wrong))
        ids = range(start, min(start + _BATCH, len(image)))
        parts.append(attack(counted, x, truth, other, ids).cpu())
    pixels = (torch.cat(parts) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def attack_name(config: ValidationAttack, taken: Container[str]) -> str:
    """ "pgd_hide" or "pgd_hide_adaptive"; with the budget where that name is taken."""
    name = f"{config.name}_{config.objective}" + ("_adaptive" if config.adaptive else "")
    return f"{name}_{config.eps:g}" if name in taken else name


class LocalizerValidation:
    """Figures of a localizer, unattacked and under the config's attacks on itself."""

    def __init__(self, run: LocalizerRun) -> None:
        self.data = MemorySet.validation(run.data)
        self.lines = self.data.lines
        self.attacks: dict[str, ValidationAttack] = {}
        for config in run.validation_attacks:
            self.attacks[attack_name(config, self.attacks)] = config

    def __call__(self, module: nn.Module, device: torch.device | str = "cpu") -> dict[str, float]:
        figures = mask_figures(module, self.data.images, self.data.masks, device)
        for name, config in self.attacks.items():
            images = attacked_images(config, module, self.data, device)
            found = mask_figures(module, images, self.data.masks, device)
            figures |= {f"{name}_{key}": value for key, value in found.items()}
        return figures


class ANSMValidation:
    """Figures of an ANSM on unattacked validation images and under each attack of the config.

    Attacks on the localizer alone are made once, adaptive ones anew each time. In the main process
    only; the others hold no images.
    """

    def __init__(self, run: ANSMRun, localizer: nn.Module, accelerator: Accelerator) -> None:
        self.localizer, self.device = localizer, accelerator.device
        self.adaptive: dict[str, ValidationAttack] = {}
        self.sets: dict[str, Image] = {}
        self.lines: list[str] = []
        if not accelerator.is_main_process:
            return
        self.data = MemorySet.validation(run.data)
        self.lines = self.data.lines
        self.sets["clean"] = self.data.images
        attacks = run.validation_attacks
        with Progress("attack validation set", len(attacks), unit="attacks") as progress:
            for config in attacks:
                name = attack_name(config, self.sets.keys() | self.adaptive.keys())
                if config.adaptive:
                    self.adaptive[name] = config
                else:
                    self.sets[name] = attacked_images(config, localizer, self.data, self.device)
                progress.advance()

    def __call__(self, module: nn.Module, head: nn.Module | None = None) -> dict[str, float]:
        """Return F1 and false alarms of the localizer behind the ANSM ("clean_f1"), and of what the
        ANSM itself finds ("clean_detected_f1"; through ``head``, "clean_auxiliary_f1"); of two
        views also the AUC of the answer whether an image was attacked ("pgd_hide_attacked_auc").
        """
        assert isinstance(module, BaseANSM)
        name_of_guess = "detected" if isinstance(module, TwoViewANSM) else "auxiliary"
        scores: dict[str, list[float]] = {}

        def protected(image: Tensor) -> Tensor:
            return self.localizer(module.defend(image))

        def both(image: Tensor) -> list[Tensor]:
            size = (image.shape[2], image.shape[3])
            found = module.features(image)
            defended = clamp_project(image, module.perturbation(found, size), module.eps_d)
            if isinstance(module, TwoViewANSM):
                scores.setdefault(name, []).extend(
                    module.attacked_map(found, size).mean((1, 2, 3)).tolist()
                )
                guess = module.detected(found, size)
            else:
                assert head is not None
                guess = head(found, size)
            return [self.localizer(defended), guess]

        made = {
            name: attacked_images(config, protected, self.data, self.device)
            for name, config in self.adaptive.items()
        }
        figures: dict[str, float] = {}
        for name, images in (self.sets | made).items():
            defended, guessed = figures_of_each(both, images, self.data.masks, self.device)
            figures |= {f"{name}_{key}": value for key, value in defended.items()}
            figures[f"{name}_{name_of_guess}_f1"] = guessed["f1"]
        for name, values in scores.items():
            if name != "clean":
                figures[f"{name}_attacked_auc"] = rank_auc(values, scores["clean"])
        if scores:
            attacked = [
                value for name, values in scores.items() if name != "clean" for value in values
            ]
            figures["attack_threshold"] = attack_threshold(scores["clean"], attacked)
        return figures


def attack_threshold(unattacked: Sequence[float], attacked: Sequence[float]) -> float:
    """Score from which an image counts as attacked: half-way between what one in a hundred
    unattacked images exceeds and what all but one in a hundred attacked ones do, since a camera's
    noise and weaker attacks lie between them; where these overlap, the first."""
    highest = float(np.quantile(unattacked, 0.99))
    if not attacked:
        return highest
    return max(highest, (highest + float(np.quantile(attacked, 0.01))) / 2)


def rank_auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Probability that a positive score exceeds a negative one; ties count half."""
    above = np.subtract.outer(np.asarray(positive), np.asarray(negative))
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def restored_score(figures: Mapping[str, float]) -> float:
    """How good a defence is by the figures of ``ANSMValidation``: half of it is F1 on unattacked
    images, half the mean of F1 and the worst F1 under attack; what is marked on pristine images,
    in the worst case, is subtracted."""
    attacked = [
        value
        for key, value in figures.items()
        if key.endswith("_f1")
        and not key.endswith(("_detected_f1", "_auxiliary_f1"))
        and key != "clean_f1"
    ]
    alarms = [value for key, value in figures.items() if key.endswith("_false_alarm")]
    under_attack = (float(np.mean(attacked)) + min(attacked)) / 2 if attacked else 0.0
    return (figures["clean_f1"] + under_attack) / 2 - max(alarms, default=0.0)
