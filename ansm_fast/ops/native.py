"""Compiled ops as PyTorch knows them: fake kernels, autograd, and the calls that use them.

The same operators, with the schemas of ``csrc/ops.cpp``, exist in several namespaces: ``ansm_fast``
(the compiled libraries, for CPU and CUDA tensors) and ``ansm_fast_triton``. ``bind`` teaches
PyTorch what it must know about one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansm_fast.ops.channelwise_kl.layers import ChannelwiseKLLayers
from ansm_fast.ops.channelwise_kl.registration import ChannelwiseKL
from ansm_fast.ops.dual_mask.registration import DualMask
from ansm_fast.ops.image_pack.registration import ImagePack, ImageUnpack
from ansm_fast.ops.perturbation.registration import ClampProject, MomentumStep, PgdStep


@dataclass(frozen=True)
class Native:
    """The ops of one namespace."""

    channelwise_kl: ChannelwiseKL
    channelwise_kl_layers: ChannelwiseKLLayers
    dual_mask: DualMask
    clamp_project: ClampProject
    pgd_step_: PgdStep
    momentum_step_: MomentumStep
    image_pack: ImagePack
    image_unpack: ImageUnpack


def bind(namespace: str, *, fakes: bool = True) -> Native:
    """Register autograd, and fake kernels unless the ops trace themselves; once a namespace."""
    channelwise_kl = ChannelwiseKL(namespace, fakes)
    return Native(
        channelwise_kl=channelwise_kl,
        channelwise_kl_layers=ChannelwiseKLLayers(namespace, fakes, channelwise_kl),
        dual_mask=DualMask(namespace, fakes),
        clamp_project=ClampProject(namespace, fakes),
        pgd_step_=PgdStep(namespace, fakes),
        momentum_step_=MomentumStep(namespace, fakes),
        image_pack=ImagePack(namespace, fakes),
        image_unpack=ImageUnpack(namespace, fakes),
    )
