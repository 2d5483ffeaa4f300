"""Taps for a localizer that names none: outputs of its stages, one for each of several strides."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ansm_fast.attacks.victim import as_found
from ansm_fast.errors import LocalizerError
from ansm_fast.localizers.taps import FeatureTaps

_MOST = 4
# Fewer channels are masks rather than features.
_LEAST_CHANNELS = 4


def candidate_taps(localizer: nn.Module, image: Tensor) -> tuple[str, ...]:
    """Choose submodules whose outputs FFA can align, from one forward of ``image`` (B, 3, H, W).

    Of the submodules that run once and give one map (B, C, H/s, W/s) with C >= 4 that depends on
    the image, the last for each stride s; strides of 2 and more where there are any, the finest
    four. What runs last at a stride is the end of a stage. Empty if there is none.
    """
    outputs: dict[str, list[object]] = {}
    shown = image.detach().requires_grad_()
    with torch.enable_grad(), as_found(localizer), _watched(localizer, outputs):
        localizer(shown)
    by_stride: dict[int, str] = {}
    # In the order in which they ended: a stage after its layers.
    for name, found in outputs.items():
        stride = _stride(found, _seen_size(localizer, image), len(image))
        if stride is not None:
            by_stride[stride] = name
    coarse = [by_stride[stride] for stride in sorted(by_stride) if stride > 1]
    chosen = tuple(coarse or by_stride.values())[:_MOST]
    return tuple(name for name in chosen if _can_be_tapped(localizer, name, image))


@contextmanager
def _watched(localizer: nn.Module, outputs: dict[str, list[object]]) -> Iterator[None]:
    def keep(name: str, _module: nn.Module, _arguments: object, output: object) -> None:
        if not getattr(localizer, "looks_again", False):
            outputs[name] = [*outputs.pop(name, []), output]

    handles = [
        module.register_forward_hook(functools.partial(keep, name))
        for name, module in localizer.named_modules()
        if name
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _seen_size(localizer: nn.Module, image: Tensor) -> tuple[int, int]:
    """Height and width that the network inside a wrapper sees."""
    size, stride = getattr(localizer, "size", None), getattr(localizer, "stride", None)
    if isinstance(size, tuple):
        return size[0], size[1]
    multiple = stride if isinstance(stride, int) else 1
    height, width = (-(-side // multiple) * multiple for side in image.shape[2:])
    return height, width


def _stride(found: list[object], size: tuple[int, int], count: int) -> int | None:
    """By what a map is smaller than the image; None for what is no map."""
    if len(found) != 1 or not isinstance(found[0], Tensor):
        return None
    output = found[0]
    if output.dim() != 4 or not output.is_floating_point() or not output.requires_grad:
        return None
    if len(output) != count or output.shape[1] < _LEAST_CHANNELS:
        return None
    strides = [round(side / max(1, own)) for side, own in zip(size, output.shape[2:], strict=True)]
    # Rounded up or down, by a pixel at the most.
    fits = all(
        stride >= 1 and abs(side / stride - own) <= 1
        for stride, side, own in zip(strides, size, output.shape[2:], strict=True)
    )
    return strides[0] if fits and strides[0] == strides[1] else None


def _can_be_tapped(localizer: nn.Module, name: str, image: Tensor) -> bool:
    try:
        with torch.no_grad(), as_found(localizer), FeatureTaps(localizer, (name,)) as taps:
            localizer(image)
            return len(taps.features) == 1
    except LocalizerError:
        return False
