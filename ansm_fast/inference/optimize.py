"""Rewrites of a network for inference that change its result by rounding only."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ansm_fast.errors import InputError

Module = TypeVar("Module", bound=nn.Module)


def _fold(module: nn.Module) -> None:
    for child in module.children():
        _fold(child)
    if not isinstance(module, nn.Sequential):
        return
    for index in range(len(module) - 1):
        first, second = module[index], module[index + 1]
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            module[index] = fuse_conv_bn_eval(first, second)
            module[index + 1] = nn.Identity()


def for_inference(module: Module) -> Module:
    """A frozen copy in eval mode: batch normalization folded into the convolutions before it,
    weights in channels_last order. ``module`` itself stays as it is."""
    try:
        optimized = copy.deepcopy(module).requires_grad_(False)
    except (TypeError, RuntimeError) as error:  # a lock, a file, a feature map in it
        reason = " ".join(str(error).split())
        raise InputError(
            f"the module {type(module).__name__} cannot be copied ({reason}); let it hold nothing "
            "that copy.deepcopy refuses"
        ) from error
    for part in optimized.modules():  # not eval(), which a wrapper need not hand down
        part.training = False
    _fold(optimized)
    return optimized.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
