"""A look at the localizer before an ANSM is trained for it: what it gives, and what is amiss."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ansm_fast.attacks import Attack, CountedLocalizer, ZeroGradientWarning, as_found
from ansm_fast.attacks.checks import check_logits
from ansm_fast.errors import InputError, LocalizerError, out_of_memory
from ansm_fast.images.photograph import Image
from ansm_fast.images.tensors import mask_to_tensor, to_tensor
from ansm_fast.localizers.tap_candidates import candidate_taps
from ansm_fast.training.validation import mask_figures

IMAGES = 16
_BATCH = 4
_STEPS, _LEVELS = 5, 4
# Sides from which a localizer's stride can be read: multiples of 1, 8, 16, 32 and 64.
_SIDES = {1: (77, 101), 8: (72, 104), 16: (80, 112), 32: (96, 160), 64: (64, 192)}
# An F1 that is no better than this many times what marking everything gives is a guess.
_GUESS = 1.2
_FEW = 20


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        low, high: least and largest logit.
        f1, f1_attacked: of forged images, as they are and under PGD.
        area: of pristine images that is marked; None without such.
        all_marked: F1 of marking every pixel.
        gradients: share of the images whose gradient is not 0.
        multiple: sides that the localizer takes are multiples of it; 0: other sizes than ``size``
            were not taken.
        size: height and width of the images that were looked at.
        taps: submodules that FFA aligns.
        own_taps: the localizer names them itself.
        forward, step: seconds of one forward, and of one forward and backward, an image.
        images: how many were looked at, of how many that are ``available``.
        machine: device and threads.
    """

    low: float
    high: float
    f1: float
    f1_attacked: float
    area: float | None
    all_marked: float
    gradients: float
    multiple: int
    size: tuple[int, int]
    taps: tuple[str, ...]
    own_taps: bool
    forward: float
    step: float
    images: int
    available: int
    machine: str

    def lines(self) -> list[str]:
        """To be printed."""
        height, width = self.size
        sizes = {0: f"{height}x{width} alone, as far as was tried", 1: "any"}.get(
            self.multiple, f"multiples of {self.multiple}"
        )
        named = ", its own" if self.own_taps else ""
        pristine = "" if self.area is None else f"; {100 * self.area:.1f} % of pristine images"
        return [
            f"logits from {self.low:.3g} to {self.high:.3g}, sizes: {sizes}",
            f"a gradient arrives at {100 * self.gradients:.0f} % of {self.images} images",
            f"F1 {self.f1:.3f} unattacked, {self.f1_attacked:.3f} under PGD ({_STEPS} steps within "
            f"{_LEVELS}/255), {self.all_marked:.3f} if all is marked{pristine}",
            f"taps for FFA{named}: {', '.join(self.taps) or 'none'}",
            f"{1000 * self.forward:.3g} ms a forward, {1000 * self.step:.3g} ms a forward and "
            f"backward, an image of {height}x{width} ({self.machine})",
        ]

    def warnings(self) -> list[str]:
        """What makes a training doubtful."""
        found: list[str] = []
        if self.f1 < _GUESS * self.all_marked:
            found.append(
                f"this localizer finds hardly more than marking everything does (F1 {self.f1:.3f} "
                f"and {self.all_marked:.3f}), and an ANSM restores no more than there was: train "
                "it longer, or give data of the kind that it was trained on"
            )
        if self.available < _FEW:
            found.append(
                f"{self.available} validation images give rough figures; give more forgeries, or a "
                "folder validation/ of their own"
            )
        if self.f1 >= _GUESS * self.all_marked and self.f1_attacked > 0.9 * self.f1:
            found.append(
                f"PGD hardly harms this localizer (F1 {self.f1_attacked:.3f} of {self.f1:.3f}): "
                "either there is little to restore, or its gradient leads nowhere"
            )
        return found

    def document(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self) | {"size": list(self.size), "taps": list(self.taps)}


def inspect_localizer(
    localizer: nn.Module,
    images: Image,
    masks: NDArray[np.bool_],
    taps: tuple[str, ...] | None = None,
    device: torch.device | str = "cpu",
) -> Inspection:
    """Look at a localizer on a few images; it is left as it was found.

    Args:
        localizer: image to logits, on ``device``.
        images: (N, H, W, 3) uint8; the first 16 are used, forged ones before pristine ones.
        masks: (N, H, W) bool.
        taps: that FFA aligns; by default the localizer's own, or those of ``candidate_taps``.

    Raises:
        LocalizerError: it gives no logits, or no gradient.
        InputError: no image is forged.
    """
    chosen, available = _choose(masks), len(masks)
    images, masks = images[chosen], masks[chosen]
    image, mask = to_tensor(images).to(device), mask_to_tensor(masks).to(device)
    with as_found(localizer), torch.no_grad():
        logits = torch.cat([_logits(localizer, part) for part in image.split(_BATCH)])
    low, high = float(logits.min()), float(logits.max())
    gradients, attacked = _attacked(localizer, image, mask)
    with as_found(localizer):
        plain = mask_figures(localizer, images, masks, device)
        under = mask_figures(localizer, attacked, masks, device)
        multiple = _multiple(localizer, image[:1])
        own = tuple(getattr(localizer, "taps", ()))
        forward, step = _times(localizer, image[:_BATCH])
    return Inspection(
        low=low,
        high=high,
        f1=plain["f1"],
        f1_attacked=under["f1"],
        area=plain.get("false_alarm"),
        all_marked=all_marked(masks),
        gradients=gradients,
        multiple=multiple,
        size=(images.shape[1], images.shape[2]),
        taps=taps if taps is not None else own or candidate_taps(localizer, image[:2]),
        own_taps=bool(own) and taps in (None, own),
        machine=f"{image.device}, {torch.get_num_threads()} threads",
        forward=forward,
        step=step,
        images=len(images),
        available=available,
    )


def all_marked(masks: NDArray[np.bool_]) -> float:
    """Compute the mean F1 of marking every pixel, 2 a / (1 + a) for a forgery of area a."""
    areas = masks.reshape(len(masks), -1).mean(axis=1)
    areas = areas[areas > 0]
    return float((2 * areas / (1 + areas)).mean()) if len(areas) else float("nan")


def _choose(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    forged = masks.any(axis=(1, 2))
    if not forged.any():
        raise InputError(
            "no image of the validation set is forged, so that nothing can be measured; give "
            "images with masks that mark a part"
        )
    pristine = np.flatnonzero(~forged)[: IMAGES // 4]
    return np.append(np.flatnonzero(forged)[: IMAGES - len(pristine)], pristine)


def _logits(localizer: nn.Module, image: Tensor) -> Tensor:
    logits = localizer(image)
    check_logits(logits, image, localizer)
    return logits.float()


def _attacked(localizer: nn.Module, image: Tensor, mask: Tensor) -> tuple[float, Image]:
    """Share of the images whose gradient is not 0 everywhere, and the attacked images."""
    attack = Attack("pgd", _LEVELS / 255, steps=_STEPS)
    counted, parts, stuck = CountedLocalizer(localizer), [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeroGradientWarning)  # it is counted here
        for start in range(0, len(image), _BATCH):
            part = slice(start, start + _BATCH)
            ids = range(len(image))[part]
            result = attack.run(counted, image[part], mask[part], sample_ids=ids)
            parts.append(result.attacked.cpu())
            stuck += int(result.stuck.sum())
    pixels = (torch.cat(parts) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return 1 - stuck / len(image), pixels.contiguous().numpy()


@torch.no_grad()
def _multiple(localizer: nn.Module, image: Tensor) -> int:
    """The least multiple of whose kind all sides may be, 0 if other sizes are not taken at all."""
    for multiple, (height, width) in _SIDES.items():
        shown = torch.nn.functional.interpolate(image, (height, width), mode="bilinear")
        try:
            if tuple(localizer(shown).shape) == (1, 1, height, width):
                return multiple
        except Exception as error:  # a model may raise anything on a size that it does not take
            if out_of_memory(error) is not None:
                raise
    return 0


def _times(localizer: nn.Module, image: Tensor) -> tuple[float, float]:
    """Seconds of a forward, and of a forward and backward to the image, for one image."""

    def forward() -> None:
        with torch.no_grad():
            localizer(image)

    def step() -> None:
        shown = image.clone().requires_grad_()
        torch.autograd.grad(localizer(shown).sum(), shown)

    return median_seconds(forward, image.device) / len(image), median_seconds(
        step, image.device
    ) / len(image)


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Measure ``work``, which ran once before to warm up: the median of some runs."""
    taken: list[float] = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:]))


def check_sides(localizer: nn.Module, image: Tensor, sides: dict[str, int]) -> None:
    """See that a localizer takes the squares that a training will show it.

    Args:
        image: (1, 3, H, W) to cut them from. sides: field of the configuration to its length.

    Raises:
        LocalizerError: it doesn't; the field is named.
    """
    for field, side in sides.items():
        height, width = (min(side, length) for length in image.shape[2:])
        part = image[..., :height, :width]
        try:
            with torch.no_grad(), as_found(localizer):
                check_logits(localizer(part), part, localizer)
        except LocalizerError as error:
            raise LocalizerError(f"{field} {side}: {error}") from error
