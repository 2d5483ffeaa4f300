"""The functional ops: validation, autograd and backend choice over native kernels."""

from ansm_fast.ops import backends
from ansm_fast.ops.channelwise_kl import channelwise_kl
from ansm_fast.ops.dual_mask import bce_dice_loss, dual_mask_loss
from ansm_fast.ops.focal import focal_loss
from ansm_fast.ops.image_pack import image_pack, image_unpack
from ansm_fast.ops.perturbation import clamp_project, momentum_step_, pgd_step_

__all__ = [
    "bce_dice_loss",
    "channelwise_kl",
    "clamp_project",
    "dual_mask_loss",
    "focal_loss",
    "image_pack",
    "image_unpack",
    "momentum_step_",
    "pgd_step_",
]

backends.load()
