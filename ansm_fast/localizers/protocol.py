"""What a localizer is: any ``nn.Module`` that turns an image into mask logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Localizer(Protocol):
    """Image (B, 3, H, W), RGB in [0, 1], to mask logits (B, 1, H, W); differentiable.

    ``taps`` names the submodules whose outputs FFA aligns; it may be empty.
    """

    taps: tuple[str, ...]

    def __call__(self, image: Tensor) -> Tensor: ...


class WrappedLocalizer(nn.Module):
    """Makes a localizer of any module that gives a mask.

    Args:
        module: the model; kept as it is, in eval mode, its parameters frozen.
        preprocess: maps RGB in [0, 1] to the model's input (normalization, channel order).
        postprocess: maps the model's output to logits (B, 1, H, W); for a model that gives
            probabilities pass ``torch.logit``-like code, for one that gives two classes the
            difference of their logits.
        taps: names of submodules of ``module`` for FFA.

    Example::

        localizer = WrappedLocalizer(my_model, postprocess=lambda out: out["mask"])
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        preprocess: Callable[[Tensor], Tensor] | None = None,
        postprocess: Callable[..., Tensor] | None = None,
        taps: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        known = dict(module.named_modules())
        unknown = [tap for tap in taps if tap not in known]
        if unknown:
            raise ValueError(f"taps must name submodules of {type(module).__name__}, got {unknown}")
        self.module = module.eval().requires_grad_(False)
        self.preprocess, self.postprocess = preprocess, postprocess
        self.taps = tuple(f"module.{tap}" for tap in taps)
        self.fingerprint = type(module).__name__

    def forward(self, image: Tensor) -> Tensor:
        output = self.module(self.preprocess(image) if self.preprocess else image)
        logits = self.postprocess(output) if self.postprocess else output
        if not isinstance(logits, Tensor) or logits.shape != (len(image), 1, *image.shape[2:]):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"the localizer must give logits of shape {(len(image), 1, *image.shape[2:])}, "
                f"got {got}; pass postprocess= to WrappedLocalizer"
            )
        return logits


class FeatureTaps:
    """Collects the outputs of named submodules during a forward pass.

    Use as a context manager; ``features`` holds the outputs of the last forward, in tap order.
    """

    def __init__(self, module: nn.Module, taps: tuple[str, ...]) -> None:
        modules = dict(module.named_modules())
        missing = [tap for tap in taps if tap not in modules]
        if missing:
            raise ValueError(f"taps must name submodules of the localizer, got {missing}")
        self._modules = [modules[tap] for tap in taps]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self.features: list[Tensor] = []

    def __enter__(self) -> FeatureTaps:
        self.features = [torch.empty(0)] * len(self._modules)
        for index, module in enumerate(self._modules):

            def keep(_module: nn.Module, _args: object, output: Tensor, index: int = index) -> None:
                self.features[index] = output

            self._handles.append(module.register_forward_hook(keep))
        return self

    def __exit__(self, *_exception: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
