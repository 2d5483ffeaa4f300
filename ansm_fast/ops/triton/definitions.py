"""Importing this file defines every op of the namespace ``ansm_fast_triton``; it needs Triton."""

from ansm_fast.ops.triton import channelwise_kl, dual_mask, image_pack, perturbation

__all__ = ["channelwise_kl", "dual_mask", "image_pack", "perturbation"]
