"""Feature taps: the outputs of named submodules, as they were when the submodule gave them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ansm_fast.errors import LocalizerError

TapLayout = Literal["channels_first", "channels_last"]
TAP_LAYOUTS: tuple[str, ...] = get_args(TapLayout)


def tap_names(module: nn.Module, taps: Sequence[str]) -> tuple[str, ...]:
    """Return the names, once each of them is known to be a submodule's.

    Raises:
        TypeError: no module, or no tuple. ValueError: the module has no such submodule.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if isinstance(taps, str):
        raise ValueError(f"taps must be a tuple of names, got {taps!r}; write ({taps!r},)")
    if not isinstance(taps, list | tuple):
        raise TypeError(f"taps must be a tuple of names, got {type(taps).__name__}")
    known = dict(module.named_modules())
    unknown = [tap for tap in taps if tap not in known or not tap]
    if unknown:
        raise ValueError(
            f"taps must name submodules of {type(module).__name__}, got {unknown}; "
            "named_modules() lists them"
        )
    return tuple(taps)


class FeatureTaps:
    """Collects the outputs of named submodules during a forward pass.

    Use as a context manager; ``features`` holds the outputs of the last forward of ``module``, in
    tap order, each (B, C, *space). They are what the submodules returned, also where what follows
    overwrites it in place (an in-place ReLU): there a copy is kept. Whether it is needed shows in
    the first forward, where every tap is copied; gradients flow through a copy as through the
    original.

    Args:
        module: its forward is watched.
        taps: names of submodules. Each must run once in a forward, and give one tensor.
        layout: "channels_last" turns tokens (B, N, C) and maps (B, H, W, C) into (B, C, *space);
            a class token counts as one more place. "channels_first" takes (B, C, N) as it is. None:
            what ``module.tap_layout`` says, or maps (B, C, H, W) alone: whether three dimensions
            are tokens nobody can see.

    Raises:
        ValueError: an unknown tap or layout. LocalizerError (a ValueError), which names the tap: in
        the forward, for an output of another kind, for a second output in one forward, or for maps
        whose last dimension seems to be the channels; on reading ``features``, for a tap that did
        not run.
    """

    def __init__(
        self, module: nn.Module, taps: tuple[str, ...], layout: TapLayout | None = None
    ) -> None:
        if layout is not None and layout not in TAP_LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(TAP_LAYOUTS)}, got {layout!r}")
        self.names = tap_names(module, taps)
        self.layout = layout if layout is not None else getattr(module, "tap_layout", None)
        self._module, modules = module, dict(module.named_modules())
        self._tapped = [modules[tap] for tap in taps]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._kept: list[_Kept | None] = [None] * len(self.names)
        # Per tap: None until a forward has shown whether its output is overwritten.
        self._overwritten: list[bool | None] = []
        self._image_shape: torch.Size | None = None
        self._inside = False

    def __enter__(self) -> FeatureTaps:
        self._kept = [None] * len(self.names)
        self._overwritten = [None] * len(self.names)
        self._handles = [
            self._module.register_forward_pre_hook(self._begin, with_kwargs=True),
            self._module.register_forward_hook(self._end, always_call=True),
        ]
        for index, module in enumerate(self._tapped):
            keep = functools.partial(self._keep, index)
            self._handles.append(module.register_forward_hook(keep))
        return self

    def __exit__(self, *_exception: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def features(self) -> list[Tensor]:
        """The outputs of the last forward, in tap order."""
        found: list[Tensor] = []
        for name, kept in zip(self.names, self._kept, strict=True):
            if kept is None:
                raise LocalizerError(
                    f"the tap {name} did not run in the last forward; tap a submodule that does "
                    "(of a compiled model, tap the one that was compiled)"
                )
            if kept.is_overwritten():
                raise LocalizerError(
                    f"the tap {name} was overwritten in place, as it was not in the forward "
                    "before; use one FeatureTaps for each mode of the model"
                )
            found.append(kept.tensor)
        return found

    def _begin(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._learn()
        self._kept = [None] * len(self.names)
        image = next((one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)), None)
        self._image_shape = None if image is None else image.shape
        size = getattr(self._module, "size", None)
        if self._image_shape is not None and isinstance(size, tuple):  # a wrapper that resizes
            self._image_shape = torch.Size((*self._image_shape[:2], *size))
        self._inside = True

    def _end(self, *_ignored: object) -> None:
        self._learn()
        self._inside = False

    def _learn(self) -> None:
        for index, kept in enumerate(self._kept):
            if kept is not None and self._overwritten[index] is None:
                self._overwritten[index] = kept.was_overwritten()
                kept.original = None

    def _keep(self, index: int, _module: nn.Module, _args: object, output: object) -> None:
        name = self.names[index]
        if getattr(self._module, "looks_again", False):
            return
        if self._inside and self._kept[index] is not None:
            raise LocalizerError(
                f"the tap {name} ran twice in one forward, and its two outputs cannot be told "
                "apart; tap submodules that run once"
            )
        tensor = self._checked(name, output)
        if self._overwritten[index] is False:
            self._kept[index] = _Kept(tensor, None, _version(tensor))
        else:
            self._kept[index] = _Kept(tensor.clone(), tensor, _version(tensor))

    def _checked(self, name: str, output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise LocalizerError(
                f"the tap {name} must give a tensor (B, C, H, W), got {_described(output)}; "
                "tap a submodule that gives one tensor"
            )
        shape = tuple(output.shape)
        if output.dim() < 3 or (self._image_shape is not None and shape[0] != self._image_shape[0]):
            raise LocalizerError(
                f"the tap {name} must give (B, C, H, W), one map an image, got {shape} for images "
                f"{tuple(self._image_shape or ())}; tap a submodule that does"
            )
        if self.layout == "channels_last":
            return output.movedim(-1, 1)
        if output.dim() == 3 and self.layout is None:
            raise LocalizerError(
                f"the tap {name} gives {shape}, and whether that is tokens (B, N, C) or (B, C, N) "
                "nobody can see; give tap_layout='channels_last' (or 'channels_first') to "
                "WrappedLocalizer, or layout= to FeatureTaps"
            )
        if self.layout is None and self._seems_channels_last(shape):
            raise LocalizerError(
                f"the tap {name} gives {shape} for images {tuple(self._image_shape or ())}, which "
                "looks like (B, H, W, C); give tap_layout='channels_last' to WrappedLocalizer, or "
                "'channels_first' if it is (B, C, H, W)"
            )
        return output

    def _seems_channels_last(self, shape: tuple[int, ...]) -> bool:
        """Whether dimensions 1 and 2 are the image's sides divided alike, and 2 and 3 are not."""
        image = self._image_shape
        if image is None or len(image) != 4 or len(shape) != 4:
            return False
        return _divided_alike(image[2:], shape[1:3]) and not _divided_alike(
            image[2:], shape[2:], slack=1.5
        )


class _Kept:
    """One output, and what tells whether it was written to since."""

    def __init__(self, tensor: Tensor, original: Tensor | None, version: int) -> None:
        self.tensor, self.original, self.version = tensor, original, version
        self._is_original = original is None

    def was_overwritten(self) -> bool:
        # An inference tensor counts no versions: always copied.
        original = self.original
        return original is None or original.is_inference() or original._version != self.version

    def is_overwritten(self) -> bool:
        return self._is_original and _version(self.tensor) != self.version


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _divided_alike(image: Sequence[int], sides: Sequence[int], slack: float = 1.02) -> bool:
    """Whether both sides are the image's, divided by one number, up to rounding up or down."""
    if 0 in sides:
        return False
    low = max(whole / (side + 1) for whole, side in zip(image, sides, strict=True))
    high = min(
        whole / (side - 1) if side > 1 else float("inf")
        for whole, side in zip(image, sides, strict=True)
    )
    return low <= high * slack


def _described(output: object) -> str:
    kind = type(output).__name__
    if isinstance(output, dict):
        return f"a {kind} with {', '.join(map(repr, list(output)[:8]))}"
    if isinstance(output, list | tuple):
        inside = ", ".join(
            str(tuple(one.shape)) if isinstance(one, Tensor) else type(one).__name__
            for one in list(output)[:4]
        )
        return f"a {kind} of {len(output)}: {inside}"
    return f"a {kind}"
