"""channelwise_kl as modules: ``ChannelwiseKL`` and ``FeatureAlignment``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ansm_fast.ops.channelwise_kl import channelwise_kl, of_pairs
from ansm_fast.ops.channelwise_kl.options import DIRECTIONS, REDUCTIONS
from ansm_fast.ops.checks import check_choice, check_finite


class ChannelwiseKL(nn.Module):
    """KL divergence between the spatial softmaxes of each channel; ``ops.channelwise_kl``.

    The default is the paper's direction and normalization. Channel-wise distillation (CWD) is
    ``ChannelwiseKL(temperature=4, direction="target_input", reduction="channelmean",
    loss_weight=16)``.

    Args:
        temperature, alpha, direction, reduction: as in ``ops.channelwise_kl``.
        loss_weight: factor on the result; CWD takes ``temperature ** 2``. With 0 the loss and its
            gradients are 0, whatever the maps.

    Raises:
        ValueError: an option out of range. TypeError: one that is no number.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        alpha: float = 0.0,
        direction: str = "input_target",
        reduction: str = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice("direction", direction, DIRECTIONS)
        check_choice("reduction", reduction, REDUCTIONS)
        if not check_finite("temperature", temperature) > 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        self.temperature, self.alpha = temperature, check_finite("alpha", alpha, 0)
        self.direction, self.reduction = direction, reduction
        self.loss_weight = check_finite("loss_weight", loss_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of two (B, C, *space) maps: a scalar, or (B, C) of reduction "none"."""
        return self.weighted(self.loss_weight, input, target)

    def weighted(self, weight: float, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss times ``weight``, in place of ``loss_weight``."""
        for name, maps in (("input", input), ("target", target)):
            if not isinstance(maps, Tensor):
                raise TypeError(
                    f"{name} must be a tensor, got {type(maps).__name__}; of several maps "
                    "FeatureAlignment or ops.channelwise_kl make one loss"
                )
        # A weight of 0 leaves the loss out, as 0 * NaN would be NaN: only its checks and its shape
        # are wanted then.
        pair = (input, target) if weight else (input.detach(), target.detach())
        loss = channelwise_kl(
            *pair,
            temperature=self.temperature,
            alpha=self.alpha,
            direction=self.direction,
            reduction=self.reduction,
        )
        if weight == 0:
            return loss.new_zeros(loss.shape) + (input[:0].sum() + target[:0].sum()).to(loss.dtype)
        return loss if weight == 1 else loss * weight

    def extra_repr(self) -> str:
        return (
            f"temperature={self.temperature}, alpha={self.alpha}, direction={self.direction!r}, "
            f"reduction={self.reduction!r}, loss_weight={self.loss_weight}"
        )


class FeatureAlignment(nn.Module):
    """FFA (arXiv 2506.12871): the mean over taps of their channel-wise KL divergences::

        1/n * sum_i w_i * KLC(softmax(defended_i) || softmax(original_i))

    Args:
        weights: a list of one factor a tap; None for 1 each. A tap of weight 0 adds nothing to the
            loss and its gradients, whatever its maps, but counts in n.
        alpha, temperature, reduction: as in ``ops.channelwise_kl``; reduction "none" isn't offered,
            the taps having different numbers of channels.

    Raises:
        ValueError: an option out of range. TypeError: one of a wrong type.
    """

    def __init__(
        self,
        weights: Sequence[float] | None = None,
        alpha: float = 0.0,
        temperature: float = 1.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_choice("reduction", reduction, REDUCTIONS[1:])
        self.weights = None
        if weights is not None:
            if not hasattr(weights, "__len__") or isinstance(weights, str | Mapping):
                raise TypeError(f"weights must be a list of numbers, got {type(weights).__name__}")
            named = enumerate(weights)
            self.weights = tuple(float(check_finite(f"weights[{i}]", w)) for i, w in named)
        self.divergence = ChannelwiseKL(temperature, alpha, "input_target", reduction)

    def forward(self, defended: Sequence[Tensor], original: Sequence[Tensor]) -> Tensor:
        """Compute the loss of lists of tapped features; both get gradients: detach what is fixed.

        Raises:
            TypeError: one is no list of tensors. ValueError: lists of different or zero length, or
            not one weight a tap.
        """
        for name, maps in (("defended", defended), ("original", original)):
            if not isinstance(maps, list | tuple):
                hint = f"; write [{name}] for a single tap" if isinstance(maps, Tensor) else ""
                raise TypeError(
                    f"{name} must be a list of tensors, one a tap, got {type(maps).__name__}{hint}"
                )
        weights = self.weights if self.weights is not None else (1.0,) * len(defended)
        if not len(defended) or not len(defended) == len(original) == len(weights):
            raise ValueError(
                "defended, original and weights must have one entry a tap, at least 1, got "
                f"{len(defended)}, {len(original)} and {len(weights)}"
            )
        if 0 in weights:
            return self._without_zeros(defended, original, weights)
        return self._mean(defended, original, None if set(weights) == {1} else weights)

    def _mean(
        self,
        defended: Sequence[Tensor],
        original: Sequence[Tensor],
        weights: Sequence[float] | None = None,
    ) -> Tensor:
        """Take the mean over all taps in one call, on a GPU in one launch."""
        options = self.divergence
        loss = of_pairs(
            defended,
            original,
            temperature=options.temperature,
            alpha=options.alpha,
            direction=options.direction,
            reduction=options.reduction,
            weights=weights,
        )
        assert isinstance(loss, Tensor)  # a list only for reduction "none"
        return loss

    def _without_zeros(
        self, defended: Sequence[Tensor], original: Sequence[Tensor], weights: Sequence[float]
    ) -> Tensor:
        """Check taps of weight 0 and give them gradients of 0: multiplied, a NaN would stay."""
        kept = [i for i, weight in enumerate(weights) if weight]
        zeros = [
            self.divergence.weighted(0, one, other)
            for one, other, weight in zip(defended, original, weights, strict=True)
            if not weight
        ]
        total = torch.stack([zero.to(zeros[0].device) for zero in zeros]).sum()
        if kept:
            left = [[maps[i] for i in kept] for maps in (defended, original)]
            mean = self._mean(left[0], left[1], [weights[i] for i in kept])
            total = mean * (len(kept) / len(weights)) + total.to(mean.device)
        return total
