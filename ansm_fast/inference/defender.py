"""Defending images in Python, whatever holds them: a file, an array, a PIL image or a tensor."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor, nn

from ansm_fast.attacks.checks import check_logits
from ansm_fast.errors import InputError
from ansm_fast.images.photograph import BadImage, Photograph, Pixels
from ansm_fast.images.read import read_photograph
from ansm_fast.inference.engine import Defended, Engine
from ansm_fast.inference.optimize import for_inference
from ansm_fast.inference.options import DefendOptions
from ansm_fast.localizers import load_localizer
from ansm_fast.models import BaseANSM, ansm_path, load_ansm
from ansm_fast.ops import clamp_project

Result = TypeVar("Result")
_PIL_MODES = ("L", "LA", "RGB", "RGBA", "I;16")


class Defender:
    """A localizer and the ANSM that was trained for it, on one device.

    An image is one of these, or a list of them, for which the answers come as a list:

    * a path: decoded as ``ansm-fast defend`` does; what is defended comes as an array.
    * a ``Photograph``, as ``images.read`` decodes it: pixels with their metadata.
    * a NumPy array (H, W), (H, W, 1), (H, W, 3) RGB, or with alpha last (H, W, 2 or 4), of uint8 or
      uint16; alpha is left as it is.
    * a PIL image of mode L, LA, RGB, RGBA or I;16.
    * a floating tensor (3, H, W) or (B, 3, H, W), RGB in [0, 1], on any device.

    Large images are defended in tiles, but for tensors. Several threads may share one defender.

    Args:
        localizer: "robust" (None), "builtin", a checkpoint, "module:function" or a module.
        weights: the ANSM: "robust", "tiny", "two_view", a checkpoint or a loaded one; None: the one
            that was trained for the localizer.
        device: where both run; "auto": a GPU if there is one.
        max_pixels: of a file; one that has more is an error before a pixel is decoded.

    Attributes:
        ansm, localizer: copies of the networks, for inference; what was given stays as it is.

    Raises:
        InputError: there are no such weights, or no ANSM for that localizer.
    """

    def __init__(
        self,
        localizer: str | PathLike[str] | nn.Module | None = None,
        *,
        weights: str | PathLike[str] | BaseANSM | None = None,
        device: str | torch.device = "auto",
        max_pixels: int = DefendOptions.max_pixels,
    ) -> None:
        if isinstance(localizer, nn.Module):
            if weights is None:
                raise InputError(
                    "weights: name the ANSM that was trained for this localizer; "
                    "`ansm-fast train ansm` makes one"
                )
            network: nn.Module = localizer
        else:
            network = load_localizer(_text(localizer))
        if isinstance(weights, BaseANSM):
            ansm = weights
        else:
            named = None if isinstance(localizer, nn.Module) else localizer
            ansm = load_ansm(ansm_path(_text(weights), _text(named)))
        fingerprint = getattr(network, "fingerprint", "")
        if ansm.trained_for and fingerprint and ansm.trained_for != fingerprint:
            warnings.warn(
                "this ANSM was trained for another localizer, whose masks may get worse by it",
                UserWarning,
                stacklevel=2,
            )
        self.device = _chosen(device)
        self.max_pixels = max_pixels
        self.ansm = for_inference(ansm).to(self.device)
        self.localizer = for_inference(network).to(self.device)
        self._engine = Engine(self.ansm, device=self.device)
        self._masks = Engine(self.ansm, self.localizer, device=self.device)

    def defend(self, image: Any) -> Any:
        """Defend an image, or each of a list: the same kind, shape and type comes back.

        Raises:
            TypeError, ValueError: it is none of the kinds above, and what to do about it.
            InputError: a file that cannot be read.
        """

        def tensor(batch: Tensor) -> Tensor:
            return self.ansm.defend(batch.to(self.device)).to(batch.device)

        return self._each(image, tensor, lambda one: self._defended(one).pixels, as_image=True)

    def defend_and_score(self, image: Any) -> Any:
        """What ``defend`` gives and the attack score beside it, of one pass: a pair, or a list of
        pairs; of a tensor, the score is one for each image. The score is None where the ANSM cannot
        tell. Raises as ``defend``."""
        if isinstance(image, (list, tuple)):
            return [self.defend_and_score(one) for one in image]
        if isinstance(image, Tensor):
            batch = image[None] if image.dim() == 3 else image
            seen = batch.to(self.device)
            with torch.inference_mode():
                delta, attacked = self.ansm.perturbation_and_map(seen)
                made = clamp_project(seen, delta.to(seen.dtype), self.ansm.eps_d).to(batch.device)
                scores = None if attacked is None else attacked.mean((1, 2, 3)).to(batch.device)
            if image.dim() == 3:
                return made[0], None if scores is None else scores[0]
            return made, scores
        photograph = _photograph(image, self.max_pixels)
        found = self._defended(photograph)
        return _like(image, photograph, found.pixels), found.attack_score

    def attack_score(self, image: Any) -> Any:
        """Tell how much an image looks attacked, 0 (left alone) to 1: a float, of a tensor (B,).

        Raises:
            ValueError: this ANSM cannot tell. Else as ``defend``.
        """
        if not self.ansm.has_attack_score:
            raise ValueError("this ANSM cannot tell whether an image was attacked; robust can")

        def tensor(batch: Tensor) -> Tensor:
            with torch.inference_mode():
                return self.ansm.attack_score(batch.to(self.device)).to(batch.device)

        return self._each(image, tensor, lambda one: self._defended(one).attack_score)

    def attacked(self, image: Any) -> Any:
        """Tell whether ``attack_score`` reaches ``ansm.attack_threshold``; raises as that does."""
        scores = self.attack_score(image)
        if isinstance(scores, list):
            return [score >= self.ansm.attack_threshold for score in scores]
        return scores >= self.ansm.attack_threshold

    def mask(self, image: Any) -> Any:
        """The localizer's mask of an image as it is: (H, W) uint8, 255 times the probability of a
        forgery; of a tensor (B, 1, H, W) or (1, H, W), the probability.

        Raises:
            LocalizerError: the localizer gives no finite logits of the image's size. Else as
            ``defend``.
        """

        def tensor(batch: Tensor) -> Tensor:
            with torch.inference_mode():
                seen = batch.to(self.device)
                logits = self.localizer(seen)
                check_logits(logits, seen, self.localizer)
                return logits.sigmoid().to(batch.device)

        return self._each(image, tensor, lambda one: self._masks.mask(one.pixels))

    def _defended(self, image: Photograph) -> Defended:
        return self._engine.defend([image])[0]

    def _each(
        self,
        image: Any,
        of_tensor: Callable[[Tensor], Tensor],
        of_photograph: Callable[[Photograph], Any],
        as_image: bool = False,
    ) -> Any:
        if isinstance(image, (list, tuple)):
            return [self._each(one, of_tensor, of_photograph, as_image) for one in image]
        if isinstance(image, Tensor):
            if image.dim() == 3:
                return of_tensor(image[None])[0]
            return of_tensor(image)
        photograph = _photograph(image, self.max_pixels)
        found = of_photograph(photograph)
        return _like(image, photograph, found) if as_image else found


def _text(name: str | PathLike[str] | None) -> str | None:
    return None if name is None else str(name)


def _chosen(device: str | torch.device) -> torch.device:
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _photograph(image: Any, max_pixels: int) -> Photograph:
    if isinstance(image, Photograph):
        return image
    if isinstance(image, (str, PathLike)):
        try:
            return read_photograph(Path(image), max_pixels)
        except BadImage as error:
            reason = str(error).replace("--max-pixels", "max_pixels")
            raise InputError(f"{image} {reason}") from error
    if isinstance(image, PillowImage.Image):
        if image.mode not in _PIL_MODES:
            raise ValueError(
                f"a PIL image must have one of the modes {', '.join(_PIL_MODES)}, got "
                f"{image.mode}; image.convert('RGB') gives one"
            )
        return _of_array(np.asarray(image))
    if isinstance(image, np.ndarray):
        return _of_array(image)
    raise TypeError(
        "image must be a path, NumPy array, PIL image, Photograph or tensor, got "
        f"{type(image).__name__}"
    )


def _of_array(pixels: Pixels) -> Photograph:
    if pixels.dtype not in (np.uint8, np.uint16):
        raise TypeError(
            f"an array must have uint8 or uint16 pixels, got {pixels.dtype}; bring floats to "
            "0..255, round and convert them, or give a tensor (B, 3, H, W) in [0, 1]"
        )
    shaped = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if shaped.ndim != 3 or shaped.shape[2] not in (1, 2, 3, 4) or 0 in shaped.shape:
        hint = "; a batch is a list of images" if pixels.ndim == 4 else ""
        raise ValueError(
            f"an array must be (H, W) or (H, W, 1 to 4), grey or RGB with or without alpha, got "
            f"{pixels.shape}{hint}"
        )
    count = 1 if shaped.shape[2] < 3 else 3
    alpha = shaped[:, :, count] if shaped.shape[2] > count else None
    return Photograph(np.ascontiguousarray(shaped[:, :, :count]), alpha)


def _like(image: Any, given: Photograph, defended: Pixels) -> Any:
    """The defended pixels as what was given: with its alpha, its number of dimensions, its kind."""
    if isinstance(image, Photograph):
        return replace(image, pixels=defended)
    if given.alpha is not None:
        defended = np.dstack([defended, given.alpha])
    if isinstance(image, (str, PathLike)):
        return defended
    pixels = np.asarray(image)
    result = defended[:, :, 0] if pixels.ndim == 2 else defended
    if isinstance(image, PillowImage.Image):
        made = PillowImage.fromarray(np.ascontiguousarray(result))
        made.info = dict(image.info)
        return made
    return result


def _written(name: str | None) -> int:
    """When the file of this name was written, if it is one: another one is loaded anew."""
    path = Path(name or "")
    return path.stat().st_mtime_ns if path.is_file() else 0


@lru_cache(maxsize=4)
def _shared(
    localizer: str | None, weights: str | None, device: str, written: tuple[int, int]
) -> Defender:
    return Defender(localizer, weights=weights, device=device)


def defend(
    image: Any,
    *,
    localizer: str | PathLike[str] | None = None,
    weights: str | PathLike[str] | None = None,
    device: str | torch.device = "auto",
) -> Any:
    """Defend an image or a list of them; see ``Defender``, of which the last four are kept loaded.

    Raises:
        As ``Defender`` and ``Defender.defend``.
    """
    names = _text(localizer), _text(weights)
    written = _written(names[0]), _written(names[1])
    return _shared(*names, str(device), written).defend(image)
