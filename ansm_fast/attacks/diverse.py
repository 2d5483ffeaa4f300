"""Attacks made to transfer: DI-FGSM (input diversity) and TI-FGSM (smoothed gradients)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.attacks.checks import Budget, LocalizerFunction
from ansm_fast.attacks.gradient import ascend_with_momentum
from ansm_fast.attacks.objectives import Objective
from ansm_fast.attacks.query import prepare
from ansm_fast.attacks.randomness import Seeds, sample_generators
from ansm_fast.attacks.victim import leaves_victim_as_found


class DiverseLocalizer:
    """A localizer that sees every image, with a probability, smaller and somewhere on a canvas.

    Each sample is resized by a random factor in [``lowest``, 1] and padded with zeros to its old
    size; the logits are cut out and resized back, so that they belong to the same pixels.

    Args:
        localizer: image to logits.
        generators: one a sample; every call draws the same count of numbers from each.
        probability: of each sample's being moved, at every call.
        lowest: smallest factor.
    """

    def __init__(
        self,
        localizer: LocalizerFunction,
        generators: list[torch.Generator],
        probability: float = 0.5,
        lowest: float = 0.9,
    ) -> None:
        for name, value in (("probability", probability), ("lowest", lowest)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        self.localizer, self.generators = localizer, generators
        self.probability, self.lowest = probability, lowest

    def _place(self, generator: torch.Generator, size: torch.Size) -> tuple[int, int, int, int]:
        """Top, left, height and width of the picture on its canvas."""
        chance, factor, down, right = torch.rand(4, generator=generator).tolist()
        height, width = size
        if chance >= self.probability:
            return 0, 0, height, width
        scale = self.lowest + (1 - self.lowest) * factor
        small = max(1, round(scale * height)), max(1, round(scale * width))
        top, left = int(down * (height - small[0] + 1)), int(right * (width - small[1] + 1))
        return top, left, *small

    def __call__(self, image: Tensor) -> Tensor:
        size = image.shape[2:]
        places = [self._place(generator, size) for generator in self.generators]
        whole = (0, 0, *size)
        if all(place == whole for place in places):
            return self.localizer(image)
        rows = []
        for row, (top, left, height, width) in zip(image.split(1), places, strict=True):
            small = _resize(row, (height, width))
            padding = (left, size[1] - left - width, top, size[0] - top - height)
            rows.append(F.pad(small, padding))
        logits = self.localizer(torch.cat(rows))
        back = [
            _resize(row[..., top : top + height, left : left + width], tuple(size))
            for row, (top, left, height, width) in zip(logits.split(1), places, strict=True)
        ]
        return torch.cat(back)


def _resize(image: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(image.shape[2:]) == size:
        return image
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False)


@leaves_victim_as_found
def difgsm(
    localizer: LocalizerFunction,
    image: Tensor,
    mask: Tensor,
    *,
    eps: Budget,
    alpha: Budget,
    steps: int,
    decay: float = 1.0,
    probability: float = 0.5,
    lowest: float = 0.9,
    seeds: Seeds | None = None,
    objective: Objective = "untargeted",
    wrong_mask: Tensor | None = None,
    norm: str = "linf",
    eot: int = 1,
) -> Tensor:
    """Run MI-FGSM on randomly resized and padded images (M-DI2-FGSM, arXiv 1803.06978).

    Args:
        decay: 0 is DI2-FGSM, without momentum.
        probability, lowest: see ``DiverseLocalizer``.
        seeds: of each sample's draws.
        eps, alpha, steps, objective, wrong_mask, norm, eot: as of ``mifgsm``.
    """
    # The goal is of the image as it is: its own mask is not that of one moved about.
    victim, image, goal = prepare(
        localizer, image, mask, eps=eps, steps=steps, eot=eot, norm=norm, objective=objective,
        wrong_mask=wrong_mask,
    )  # fmt: skip
    diverse = DiverseLocalizer(victim, sample_generators(image, seeds), probability, lowest)

    def gradient(attacked: Tensor) -> Tensor:
        return victim.gradient(attacked, goal.losses, diverse)[0]

    attacked = ascend_with_momentum(
        gradient, image, eps=eps, alpha=alpha, steps=steps, decay=decay, norm=norm
    )
    victim.finish()
    return attacked


def gaussian_kernel(size: int = 15, sigma: float = 3.0) -> Tensor:
    """Return (size,), sum 1: the density at size points from -sigma to sigma standard deviations.

    As in the authors' code: ``sigma`` says where the kernel is cut off, not how many pixels wide it
    is; with the defaults a standard deviation is 7 / 3 pixels.
    """
    if not isinstance(size, int) or size < 1 or size % 2 == 0:
        raise ValueError(f"the kernel's size must be an odd whole number >= 1, got {size!r}")
    points = torch.linspace(-sigma, sigma, size) if size > 1 else torch.zeros(1)
    density = torch.exp(-points.square() / 2)
    return density / density.sum()


def smooth(gradient: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every channel of (B, C, H, W) with ``kernel`` along both axes, zeros outside."""
    if not gradient.numel():
        return gradient
    channels, half = gradient.shape[1], len(kernel) // 2
    weight = kernel.to(gradient).expand(channels, 1, 1, -1)
    along_x = F.conv2d(gradient, weight, padding=(0, half), groups=channels)
    return F.conv2d(along_x, weight.transpose(2, 3), padding=(half, 0), groups=channels)


@leaves_victim_as_found
def tifgsm(
    localizer: LocalizerFunction,
    image: Tensor,
    mask: Tensor,
    *,
    eps: Budget,
    alpha: Budget,
    steps: int,
    decay: float = 1.0,
    kernel_size: int = 15,
    objective: Objective = "untargeted",
    wrong_mask: Tensor | None = None,
    norm: str = "linf",
    eot: int = 1,
) -> Tensor:
    """Run MI-FGSM along gradients convolved with a Gaussian (TI-FGSM, arXiv 1904.02884).

    Convolving the gradient stands for averaging it over translated images.

    Args:
        kernel_size: odd; 1 leaves the gradient as it is; see ``gaussian_kernel``.
        eps, alpha, steps, decay, objective, wrong_mask, norm, eot: as of ``mifgsm``.
    """
    victim, image, goal = prepare(
        localizer, image, mask, eps=eps, steps=steps, eot=eot, norm=norm, objective=objective,
        wrong_mask=wrong_mask,
    )  # fmt: skip
    kernel = gaussian_kernel(kernel_size)

    def gradient(attacked: Tensor) -> Tensor:
        return smooth(victim.gradient(attacked, goal.losses)[0], kernel)

    attacked = ascend_with_momentum(
        gradient, image, eps=eps, alpha=alpha, steps=steps, decay=decay, norm=norm
    )
    victim.finish()
    return attacked
