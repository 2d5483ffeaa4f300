"""What an attacker maximizes."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor
from torch.nn import functional as F

Objective = Literal["untargeted", "hide", "wrong-mask"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)


def attack_loss(
    logits: Tensor, mask: Tensor, objective: Objective, wrong_mask: Tensor | None = None
) -> Tensor:
    """The scalar that an attack ascends, summed over samples and pixels.

    - ``untargeted``: BCE against the true mask. Its gradient changes sign at the mask's border,
      so the noise carries the mask: a defence may learn to read it.
    - ``hide``: minus BCE against the empty mask; says nothing about where the forgery is.
    - ``wrong-mask``: BCE against another image's mask: the untargeted attack with nothing but the
      mask exchanged, the strict control for a defence that reads masks out of noise.

    Args:
        logits, mask, wrong_mask: (B, 1, H, W); masks in [0, 1].
    """
    if objective == "untargeted":
        return F.binary_cross_entropy_with_logits(logits, mask, reduction="sum")
    if objective == "hide":
        return -F.softplus(logits).sum()
    if objective == "wrong-mask":
        if wrong_mask is None:
            raise ValueError("objective 'wrong-mask' needs wrong_mask, a mask of another image")
        return F.binary_cross_entropy_with_logits(logits, wrong_mask, reduction="sum")
    raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
