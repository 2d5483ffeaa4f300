"""Whether a localizer ends in probabilities, read off the graph of its output."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# What squeezes any number into a range. Layers with weights end the search: what is before them
# says nothing about the range of what they give.
_BOUNDED = re.compile(
    r"^(Hard)?([Ss]igmoid|[Tt]anh)|^(Safe)?Softmax|^Erf|^Atan|^Clamp|^Exp(?!and)|^A?m(ax|in)"
    r"|^M(ax|in)"
)
_WEIGHTED = re.compile(r"^(\w*Convolution|Addmm|A?Mm|Bmm|Baddbmm|Linear|\w*Norm)\w*Backward")
_OPAQUE = re.compile(r"Compiled|torch::jit")
_LARGEST = 200


def may_be_probabilities(localizer: Callable[[Tensor], Tensor], image: Tensor) -> bool:
    """False if the graph of the localizer's output shows that nothing bounds it.

    True too where the graph cannot be read: compiled, scripted, or cut. A user's own
    ``autograd.Function`` is taken for one that bounds nothing. Costs a forward.
    """
    with torch.inference_mode(False), torch.enable_grad():
        logits = localizer(image[:1].detach().clone().requires_grad_(True))
    if logits.grad_fn is None:
        return True
    seen, waiting = set[Any](), [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        name = node.name()
        if len(seen) > _LARGEST or _OPAQUE.search(name) or _BOUNDED.search(name):
            return True
        if not _WEIGHTED.search(name):
            waiting += [before for before, _ in node.next_functions if before is not None]
    return False
