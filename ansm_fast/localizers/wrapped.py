"""Makes a localizer of a user's own model."""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.attacks.checks import check_logits, check_shape
from ansm_fast.attacks.victim import evaluating
from ansm_fast.errors import InputError, LocalizerError, out_of_memory
from ansm_fast.localizers.logits import LOGITS_FROM, LogitsFrom, as_logits, check_kind
from ansm_fast.localizers.taps import TAP_LAYOUTS, TapLayout, tap_names
from ansm_fast.models.unet import check_image, pad_to_stride

_WAY_OUT = (
    "if it takes some sizes alone, give WrappedLocalizer stride=32 (pads to a multiple) or "
    "size=(512, 512) (resizes there and back)"
)
# What torch says of tensors of two dtypes or on two devices.
_OF_TENSORS = re.compile(
    r"bias type|weight type|same dtype|same device|different dtype|mat2 to|expected device"
)
_OTHER_TENSORS = (
    "give the model its own dtype and device: preprocess=lambda image: image.half(), for one, or "
    "model.to(device)"
)


class WrappedLocalizer(nn.Module):
    """Makes a localizer of any module that gives a mask.

    The module runs in eval mode and without gradients towards its parameters, whatever its own
    flags say, and they stay as they are: ``train()`` of the wrapper, or of what holds it, does not
    reach it. For a model with two useful modes keep the one you want out of ``training`` (dropout
    as a defence: ``F.dropout(x, training=True)``).

    Args:
        module: the model; kept, not copied.
        preprocess: maps RGB in [0, 1] to the model's input (normalization, channel order).
        postprocess: picks the tensor out of the model's output, and resizes it to the model's
            input where it is smaller: (B, 1, H, W), or (B, 2, H, W) for two classes.
        logits_from: what that tensor holds. "logits", > 0 where forged; "probabilities" in [0, 1],
            see ``logits_of_probabilities`` (a bare ``torch.logit`` gives infinite logits and NaN
            gradients where they are 0 or 1); "two_class", logits of which channel 1 is the forged
            class; "two_class_probabilities", the softmax of such. None: logits, unless the first
            ones are all in [0, 1], which is an error. Of another kind than logits the module runs
            in float32, under autocast as well: half precision cannot tell probabilities apart near
            0 and 1, nor the small difference of two large logits.
        size: (height, width) of the only images that the model takes: resized there (bilinear,
            antialiased), and the logits back.
        stride: the model takes multiples of it: the last row and column are repeated until height
            and width are, and the logits cut off again.
        taps: names of submodules of ``module`` for FFA.
        tap_layout: "channels_last" where they give tokens (B, N, C) or maps (B, H, W, C);
            "channels_first" where they give (B, C, N), which nobody can tell from tokens; see
            ``FeatureTaps``.

    Raises:
        ValueError: an option is wrong. On calling: LocalizerError (a ValueError) if the module
        fails or its output is not what was said; the first output is looked at closely.

    Example::

        localizer = WrappedLocalizer(my_model, postprocess=lambda out: out["mask"], stride=32)
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        preprocess: Callable[[Tensor], Tensor] | None = None,
        postprocess: Callable[..., Tensor] | None = None,
        logits_from: LogitsFrom | None = None,
        size: Sequence[int] | None = None,
        stride: int | None = None,
        taps: tuple[str, ...] = (),
        tap_layout: TapLayout | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"module must be a torch.nn.Module, got {type(module).__name__}; "
                "give an instance of the model"
            )
        for name, value, known in (
            ("logits_from", logits_from, LOGITS_FROM),
            ("tap_layout", tap_layout, TAP_LAYOUTS),
        ):
            if value is not None and value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        for name, function in (("preprocess", preprocess), ("postprocess", postprocess)):
            if function is not None and not callable(function):
                raise TypeError(
                    f"{name} must be a function of a tensor, got {function!r}; to pick an output "
                    "write postprocess=lambda out: out['mask']"
                )
        self.taps = tuple(f"module.{tap}" for tap in tap_names(module, taps))
        self.module = module
        self.preprocess, self.postprocess = preprocess, postprocess
        self.logits_from, self.tap_layout = logits_from, tap_layout
        self.size, self.stride = _checked_size(size, stride)
        self.fingerprint = type(module).__name__
        self.training = False
        self._seen = self.looks_again = False

    def train(self, mode: bool = True) -> WrappedLocalizer:
        """Changes nothing: a wrapped localizer is always in eval mode."""
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Mask logits (B, 1, H, W) of an image (B, 3, H, W) in [0, 1]; > 0 means forged."""
        check_image(image, self)
        height, width = image.shape[2:]
        shown = image
        if self.size is not None and self.size != (height, width):
            shown = F.interpolate(
                image, self.size, mode="bilinear", align_corners=False, antialias=True
            )
        elif self.stride is not None:
            shown = pad_to_stride(image, self.stride)
        logits = self._localize(shown)
        if self.size is not None and self.size != (height, width):
            return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def _localize(self, image: Tensor) -> Tensor:
        if self._is_still():
            output = self._run(image)
        else:
            with evaluating(self.module):
                output = self._run(image)
        if isinstance(output, Tensor) and output.is_floating_point():
            first = not self._seen and not torch.compiler.is_compiling()
            if first:
                check_kind(output, self.logits_from)
            output = as_logits(output, self.logits_from)
            if first:
                self._seen = True
                check_logits(output, image, self._again)
        check_shape(output, image)
        return output

    def _precision(self, image: Tensor) -> torch.autocast | nullcontext[None]:
        if self.logits_from in (None, "logits"):
            return nullcontext()
        return torch.autocast(image.device.type, enabled=False)

    def _again(self, image: Tensor) -> Tensor:
        self.looks_again = True  # taps are those of the run before
        try:
            return as_logits(self._run(image), self.logits_from)
        finally:
            self.looks_again = False

    def _is_still(self) -> bool:
        """In eval mode and frozen already, as in the commands: then nothing has to be switched."""
        return not any(part.training for part in self.module.modules()) and not any(
            parameter.requires_grad for parameter in self.module.parameters()
        )

    def _run(self, image: Tensor) -> Any:
        try:
            with self._precision(image):
                output = self.module(self.preprocess(image) if self.preprocess else image)
                return self.postprocess(output) if self.postprocess else output
        except InputError:
            raise
        except Exception as error:
            if out_of_memory(error) is not None:
                raise
            reason = (str(error).splitlines() or [""])[0]
            way_out = _OTHER_TENSORS if _OF_TENSORS.search(reason) else _WAY_OUT
            raise LocalizerError(
                f"{type(self.module).__name__} failed on images of {image.shape[2]} x "
                f"{image.shape[3]} ({type(error).__name__}: {reason[:200]}); {way_out}"
            ) from error


def _checked_size(
    size: Sequence[int] | None, stride: int | None
) -> tuple[tuple[int, int] | None, int | None]:
    if size is not None and stride is not None:
        raise ValueError(f"give size or stride, not both, got size={size} and stride={stride}")
    if isinstance(size, numbers.Real):
        size = (size, size)  # type: ignore[assignment]
    pair = isinstance(size, list | tuple) and len(size) == 2
    if size is not None and not (pair and all(_is_whole(side) for side in size)):
        raise ValueError(f"size must be (height, width), each >= 1, got {size!r}")
    if stride is not None and (type(stride) is not int or stride < 1):
        raise ValueError(f"stride must be a whole number >= 1, got {stride!r}")
    return (None if size is None else (int(size[0]), int(size[1]))), stride


def _is_whole(side: object) -> bool:
    """A whole number >= 1; may be one of NumPy's."""
    return isinstance(side, numbers.Integral) and not isinstance(side, bool) and int(side) >= 1
