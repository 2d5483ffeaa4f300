"""The arithmetic: batches of equally large 8-bit images, single 16-bit ones, and tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ansm_fast.attacks.checks import check_logits
from ansm_fast.images.photograph import Photograph, Pixels
from ansm_fast.inference.optimize import for_inference
from ansm_fast.inference.tiling import tiles
from ansm_fast.models import BaseANSM
from ansm_fast.ops import clamp_project, image_pack, image_unpack

MASK_HALO = 128


@dataclass
class Defended:
    """Defended pixels, shaped and typed as the photograph's, and the localizer's masks.

    ``mask_before`` and ``mask_after`` are (H, W) uint8, 255 times the probability of a forgery;
    ``attack_score`` is near 0 if the photograph was left alone, near 1 if it was attacked, None if
    the ANSM can't tell.
    """

    pixels: Pixels
    attack_score: float | None = None
    mask_before: Pixels | None = None
    mask_after: Pixels | None = None


def _pad(pixels: Pixels, height: int, width: int) -> Pixels:
    missing = (height - pixels.shape[0], width - pixels.shape[1])
    if missing == (0, 0):
        return pixels
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")


def _halved(part: tuple[slice, slice]) -> tuple[slice, slice]:
    """The same part of a map at half the size; parts begin at even pixels."""
    rows, columns = (slice(side.start // 2, -(-side.stop // 2)) for side in part)
    return rows, columns


def _area(part: tuple[slice, slice]) -> int:
    return (part[0].stop - part[0].start) * (part[1].stop - part[1].start)


class Engine:
    """Defends photographs with one ANSM on one device.

    Args:
        ansm: the network; a copy optimized for inference is made.
        localizer: optional; its masks before and after are then made too.
        device: where the networks run.
        tile: larger images (by area than ``tile`` squared) are cut into cores of this side; a
            multiple of ``ansm.stride``.

    A grey image is defended as three equal channels and gets the mean of their perturbations. The
    masks of a tiled image are made tile by tile: a localizer that looks at the whole image, as the
    built-in one does, then sees a tile at a time. Its attack score is the mean over all tiles' own
    areas, and so that of the whole image.
    """

    def __init__(
        self,
        ansm: BaseANSM,
        localizer: nn.Module | None = None,
        *,
        device: str | torch.device = "cpu",
        tile: int = 1536,
    ) -> None:
        if not isinstance(ansm, BaseANSM):
            raise TypeError(f"ansm must be an ANSM, got {type(ansm).__name__}; see load_ansm")
        if tile <= 0 or tile % ansm.stride:
            raise ValueError(f"tile must be a positive multiple of {ansm.stride}, got {tile}")
        self.device = torch.device(device)
        self.stride, self.halo, self.eps_d = ansm.stride, ansm.receptive_field, ansm.eps_d
        self.tile = tile
        self._ansm = for_inference(ansm).to(self.device)
        self._gives_logits = False
        self._localizer = for_inference(localizer).to(self.device) if localizer else None

    def padded(self, image: Photograph) -> tuple[int, int]:
        """Height and width rounded up to the stride: images that agree in them share a batch."""
        up = self.stride
        return -(-image.height // up) * up, -(-image.width // up) * up

    def is_tiled(self, image: Photograph) -> bool:
        return image.height * image.width > self.tile**2

    @torch.inference_mode()
    def defend(self, images: Sequence[Photograph]) -> list[Defended]:
        """Defend images that agree in ``padded`` size and depth.

        Raises:
            ValueError: they don't agree. TypeError: pixels of another type. LocalizerError: as
            ``mask``.
        """
        if not isinstance(images, Sequence):
            raise TypeError(f"images must be a list of Photograph, got {type(images).__name__}")
        for image in images:
            if not isinstance(image, Photograph):
                raise TypeError(
                    f"images must be a list of Photograph, got one of {type(image).__name__}; "
                    "write Photograph(pixels) with pixels (H, W, 3) of uint8, or use ansm.defend "
                    "for a tensor"
                )
        if not images:
            return []
        if len({(self.padded(image), image.depth) for image in images}) > 1:
            raise ValueError("images of one batch must agree in padded size and depth")
        for image in images:
            if image.pixels.dtype not in (np.uint8, np.uint16) or image.pixels.ndim != 3:
                raise TypeError(
                    "pixels must be (H, W, 3) or (H, W, 1), uint8 or uint16, got "
                    f"{image.pixels.dtype} {image.pixels.shape}; bring floats to 0..255 and round"
                )
        batch = [image.pixels for image in images]
        if any(self.is_tiled(image) for image in images):
            results = [self._tiled(pixels) for pixels in batch]
        else:
            results = self._whole(batch)
        if self._localizer is not None:
            for image, result in zip(images, results, strict=True):
                result.mask_before = self.mask(image.pixels)
                result.mask_after = self.mask(result.pixels)
        return results

    def _whole(
        self, batch: Sequence[Pixels], inner: tuple[slice, slice] | None = None
    ) -> list[Defended]:
        """Defend in one pass; the attack score is taken over ``inner``, or over the image."""
        up = self.stride
        height, width = (-(-side // up) * up for side in batch[0].shape[:2])
        image = self._pack([_pad(pixels, height, width) for pixels in batch])
        perturbation, attacked = self._ansm.perturbation_and_map(image)
        grey = [pixels.shape[2] == 1 for pixels in batch]
        for index, is_grey in enumerate(grey):
            if is_grey:
                perturbation[index] = perturbation[index].mean(0, keepdim=True)
        defended = self._unpack(image, perturbation, batch[0].dtype == np.uint16)
        results: list[Defended] = []
        for index, pixels in enumerate(batch):
            rows, columns, channels = pixels.shape
            own = defended[index][:rows, :columns, :channels]
            score = None
            if attacked is not None:
                part = inner or (slice(0, rows), slice(0, columns))
                score = float(attacked[index, 0][_halved(part)].mean())
            results.append(Defended(np.ascontiguousarray(own), score))
        return results

    def _tiled(self, pixels: Pixels) -> Defended:
        result, (height, width) = np.empty_like(pixels), pixels.shape[:2]
        scores: list[float] = []
        areas: list[int] = []
        for part in tiles(height, width, self.tile, self.halo, self.stride):
            window = np.ascontiguousarray(pixels[part.window])
            (defended,) = self._whole([window], part.inner)
            result[part.core] = defended.pixels[part.inner]
            if defended.attack_score is not None:
                scores.append(defended.attack_score)
                areas.append(_area(_halved(part.inner)))
        score = float(np.average(scores, weights=areas)) if scores else None
        return Defended(result, score)

    @torch.inference_mode()
    def mask(self, pixels: Pixels) -> Pixels:
        """255 times the localizer's probability of a forgery, (H, W) uint8.

        Raises:
            LocalizerError: the localizer gives no finite logits of the image's size.
        """
        if self._localizer is None:
            raise ValueError("this engine has no localizer; pass localizer= to Engine")
        localizer = self._localizer

        def one(part: Pixels) -> Pixels:
            seen = self._pack([part])
            logits = localizer(seen)
            check_logits(logits, seen, localizer, sure=self._gives_logits)
            self._gives_logits = True
            logits = logits[0, 0]
            return logits.sigmoid().mul(255).round().to(torch.uint8).cpu().numpy()

        if pixels.shape[0] * pixels.shape[1] <= self.tile**2:
            return one(pixels)
        result, (height, width) = np.empty(pixels.shape[:2], np.uint8), pixels.shape[:2]
        for tile in tiles(height, width, self.tile, MASK_HALO, self.stride):
            result[tile.core] = one(np.ascontiguousarray(pixels[tile.window]))[tile.inner]
        return result

    def _pack(self, batch: Sequence[Pixels]) -> Tensor:
        """(B, 3, H, W) float32 RGB in [0, 1], channels_last, of one depth."""
        colour = [np.repeat(p, 3, axis=2) if p.shape[2] == 1 else p for p in batch]
        stacked = np.stack(colour)
        if stacked.dtype == np.uint16:
            levels = torch.from_numpy(stacked.astype(np.float32)).to(self.device)
            return levels.div_(65535).permute(0, 3, 1, 2)
        return image_pack(
            torch.from_numpy(stacked).to(self.device),
            bgr=False,
            memory_format=torch.channels_last,
        )

    def _unpack(self, image: Tensor, perturbation: Tensor, deep: bool) -> Pixels:
        """(B, H, W, 3) of the defended levels, uint16 where ``deep``, otherwise uint8."""
        if deep:
            defended = clamp_project(image, perturbation, self.eps_d)
            levels = defended.mul(65535).round_().permute(0, 2, 3, 1)
            return levels.contiguous().cpu().numpy().astype(np.uint16)
        return image_unpack(image, perturbation, self.eps_d, bgr=False).cpu().numpy()
