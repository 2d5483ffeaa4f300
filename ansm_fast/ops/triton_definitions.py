"""Importing this file defines every op of the namespace ``ansm_fast_triton``; it needs Triton."""

from ansm_fast.ops.channelwise_kl import triton as channelwise_kl
from ansm_fast.ops.dual_mask import triton as dual_mask
from ansm_fast.ops.image_pack import triton as image_pack
from ansm_fast.ops.perturbation import triton as perturbation

__all__ = ["channelwise_kl", "dual_mask", "image_pack", "perturbation"]
