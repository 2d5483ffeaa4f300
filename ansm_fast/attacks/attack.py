"""Attacks as objects: configured once, called on batches, rounded to 8 bits within the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ansm_fast.attacks.gradient import LocalizerFunction, fgsm, mifgsm, pgd, uniform_start
from ansm_fast.attacks.objectives import OBJECTIVES, Objective

AttackName = Literal["fgsm", "bim", "pgd", "mifgsm", "noise"]
ATTACKS: tuple[str, ...] = get_args(AttackName)


def round_to_levels(attacked: Tensor, image: Tensor, eps: float) -> Tensor:
    """Round ``attacked`` to multiples of 1/255 without leaving eps around the 8-bit ``image``.

    A budget that is no whole number of grey levels is rounded down: half a level cannot be stored.
    """
    levels = math.floor(eps * 255 + 1e-4)
    base = torch.round(image * 255)
    shift = (torch.round(attacked * 255) - base).clamp(-levels, levels)
    return (base + shift).clamp(0, 255) / 255


@dataclass(frozen=True)
class Attack:
    """One attack with its settings.

    Attributes:
        name: "fgsm", "bim", "pgd", "mifgsm", or "noise" (uniform random noise, a control).
        eps: L-inf budget in units of the image, >= 0; 4/255 is four grey levels.
        steps: gradient steps of the iterative attacks.
        alpha: step size; by default eps/4, at least eps/steps.
        objective: "untargeted", "hide" or "wrong-mask"; see ``attack_loss``.
        seed: of the random start of PGD, together with each sample's id.
    """

    name: AttackName
    eps: float
    steps: int = 20
    alpha: float | None = None
    objective: Objective = "untargeted"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in ATTACKS:
            raise ValueError(f"name must be one of {', '.join(ATTACKS)}, got {self.name!r}")
        if self.objective not in OBJECTIVES:
            raise ValueError(
                f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}"
            )
        if not 0 <= self.eps <= 1:
            raise ValueError(f"eps must be in [0, 1], got {self.eps}; four grey levels are 4/255")
        if self.steps < 1:
            raise ValueError(f"steps must be >= 1, got {self.steps}")
        if self.alpha is not None and not self.alpha > 0:
            raise ValueError(f"alpha must be > 0, got {self.alpha}")

    @property
    def step_size(self) -> float:
        return self.alpha if self.alpha is not None else max(self.eps / 4, self.eps / self.steps)

    def settings(self) -> dict[str, Any]:
        return asdict(self) | {"alpha": self.step_size}

    def __call__(
        self,
        localizer: LocalizerFunction,
        image: Tensor,
        mask: Tensor,
        wrong_mask: Tensor | None = None,
        sample_ids: Sequence[int] | None = None,
    ) -> Tensor:
        """Attacked image (B, 3, H, W), multiples of 1/255, within eps of the 8-bit ``image``.

        Args:
            localizer: image to logits (B, 1, H, W), differentiable.
            image: (B, 3, H, W) in [0, 1]. mask: (B, 1, H, W) in [0, 1], the truth.
            wrong_mask: for the objective "wrong-mask", a mask of another image.
            sample_ids: numbers that fix each sample's random start; positions by default.
        """
        common: dict[str, Any] = {"objective": self.objective, "wrong_mask": wrong_mask}
        ids = range(len(image)) if sample_ids is None else sample_ids
        if self.name == "fgsm":
            attacked = fgsm(localizer, image, mask, eps=self.eps, **common)
        elif self.name == "noise":
            attacked = uniform_start(image, self.eps, [(self.seed, int(i)) for i in ids])
        else:
            common |= {"eps": self.eps, "alpha": self.step_size, "steps": self.steps}
            if self.name == "mifgsm":
                attacked = mifgsm(localizer, image, mask, **common)
            else:
                start = None
                if self.name == "pgd":
                    start = uniform_start(image, self.eps, [(self.seed, int(i)) for i in ids])
                attacked = pgd(localizer, image, mask, start=start, **common)
        return round_to_levels(attacked, image, self.eps)


def make_attack(name: str, **settings: Any) -> Attack:
    """An ``Attack`` by name; the keywords are its attributes."""
    return Attack(name, **settings)  # type: ignore[arg-type]
