"""The operators of channelwise_kl."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansm_fast.ops.channelwise_kl.layers import ChannelwiseKLLayers
from ansm_fast.ops.channelwise_kl.single import ChannelwiseKL

FUNCTIONS = ("channelwise_kl",)
SCHEMAS = {
    # (loss, gradient of input, gradient of target) of the sum over rows, divided as `reduction`
    # says, which counts in options.REDUCTIONS. The loss is float32, or float64. A gradient that is
    # not asked for is an empty tensor. Gradients are multiplied by `grad_output`, one number,
    # before they are rounded; with it no loss is made.
    "channelwise_kl": (
        "(Tensor input, Tensor target, float temperature, float alpha, bool input_first, "
        "int reduction, bool grad_input, bool grad_target, Tensor? grad_output=None) "
        "-> (Tensor, Tensor, Tensor)"
    ),
    # The same for a list of pairs, which may differ in shape and order: results for each. Unless
    # the reduction is none, all are divided by the number of pairs: the losses add up to their
    # mean, and the gradients need no scaling. `grad_output` is empty or holds one number for each
    # pair.
    "channelwise_kl_layers": (
        "(Tensor[] input, Tensor[] target, float temperature, float alpha, bool input_first, "
        "int reduction, bool[] grad_input, bool[] grad_target, Tensor[] grad_output) "
        "-> (Tensor[], Tensor[], Tensor[])"
    ),
    # gradient * grad_output, where grad_output is one number or one for each (sample, channel).
    "channelwise_kl_backward": "(Tensor grad_output, Tensor gradient) -> Tensor",
    "channelwise_kl_scale_": "(Tensor(a0!) gradient, Tensor grad_output) -> ()",
}


def bind(namespace: str, *, fakes: bool) -> dict[str, Callable[..., Any]]:
    single = ChannelwiseKL(namespace, fakes)
    return {
        "channelwise_kl": single,
        "channelwise_kl_layers": ChannelwiseKLLayers(namespace, fakes, single),
    }
