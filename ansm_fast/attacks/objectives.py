"""What an attacker maximizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor
from torch.nn import functional as F

from ansm_fast.ops.checks import check_floating, check_shape, check_tensor
from ansm_fast.ops.value_range import check_unit_range

Objective = Literal["untargeted", "hide", "wrong-mask", "own-prediction"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)
MASK_WAY_OUT = "divide it by 255, or give it as bool or uint8, where all but 0 is forged"


@dataclass(frozen=True)
class Goal:
    """An objective with its mask: the attacker ascends ``sign`` times the BCE against ``target``.

    Attributes:
        target: (B, 1, H, W), a mask in [0, 1].
        sign: 1 where the attacker drives the localizer away from ``target``, -1 where towards it.
    """

    target: Tensor
    sign: float

    def pixel_losses(self, logits: Tensor) -> Tensor:
        """Return (B, 1, H, W), what is to grow at every pixel."""
        return self.sign * F.binary_cross_entropy_with_logits(
            logits, self.target.to(logits.dtype), reduction="none"
        )

    def losses(self, logits: Tensor) -> Tensor:
        """Return (B,), what is to grow, summed over the pixels of a sample."""
        return self.pixel_losses(logits).flatten(1).sum(1)

    def margins(self, logits: Tensor) -> Tensor:
        """Return (B, 1, H, W), the logit's distance from what the attacker wants: > 0 until
        there."""
        return self.sign * (2 * (self.target > 0.5).to(logits.dtype) - 1) * logits


def make_goal(
    objective: Objective,
    mask: Tensor,
    wrong_mask: Tensor | None = None,
    own_mask: Tensor | None = None,
) -> Goal:
    """Return the goal of an objective; see ``attack_loss`` for the objectives and their masks.

    Raises:
        ValueError: an unknown objective, or its mask is missing or of another shape than ``mask``.
    """
    if objective == "untargeted":
        return Goal(mask, 1.0)
    if objective == "hide":
        return Goal(mask.new_zeros(mask.shape), -1.0)
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    name, other, what = (
        ("wrong_mask", wrong_mask, "a mask of another image")
        if objective == "wrong-mask"
        else ("own_mask", own_mask, "the localizer's own mask of the image")
    )
    if other is None:
        raise ValueError(f"objective {objective!r} needs {name}, {what}")
    if other.shape != mask.shape:
        raise ValueError(
            f"{name} must have the mask's shape {tuple(mask.shape)}, got {tuple(other.shape)}"
        )
    return Goal(other, 1.0)


def attack_loss(
    logits: Tensor,
    mask: Tensor,
    objective: Objective,
    wrong_mask: Tensor | None = None,
    own_mask: Tensor | None = None,
) -> Tensor:
    """Compute the scalar that an attack ascends, summed over samples and pixels.

    - ``untargeted``: BCE against the true mask. Its gradient changes sign at the mask's border,
      so the noise carries the mask: a defence may learn to read it.
    - ``hide``: minus BCE against the empty mask; says nothing about where the forgery is.
    - ``wrong-mask``: BCE against another image's mask: the untargeted attack with nothing but the
      mask exchanged, the strict control for a defence that reads masks out of noise.
    - ``own-prediction``: BCE against the localizer's own mask of the unattacked image (logits > 0):
      what an attacker does who does not know the truth. The noise carries no more than the
      localizer said anyway.

    Args:
        logits: (B, 1, H, W).
        mask, wrong_mask, own_mask: the same shape; floats in [0, 1], or bool or whole numbers, of
            which all but 0 is forged. The range of floats is looked at on a CPU, not on a GPU,
            which the caller's loop would have to wait for.

    Raises:
        ValueError: an unknown objective, or a mask is missing, of another shape or out of range.
        TypeError: no tensors, or logits that are not floating.
    """
    masks = {"mask": mask, "wrong_mask": wrong_mask, "own_mask": own_mask}
    check_floating("logits", logits)
    check_tensor("mask", mask)
    for name, one in masks.items():
        if one is not None:
            check_shape(name, one, "the logits", logits)
        if one is not None and not one.is_floating_point():
            masks[name] = (one != 0).to(logits.dtype)
        elif one is not None and one.device.type == "cpu":
            check_unit_range(name, one, MASK_WAY_OUT)
    assert masks["mask"] is not None  # for mypy
    goal = make_goal(objective, masks["mask"], masks["wrong_mask"], masks["own_mask"])
    return goal.losses(logits).sum()
