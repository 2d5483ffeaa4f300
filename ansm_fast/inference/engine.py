"""The arithmetic: batches of equally large 8-bit images, single 16-bit ones, and tiles."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ansm_fast.attacks.checks import check_logits
from ansm_fast.images.photograph import Photograph, Pixels
from ansm_fast.inference.engines import chosen_engine, make_network
from ansm_fast.inference.memory import give_back
from ansm_fast.inference.optimize import for_inference
from ansm_fast.inference.packing import pack, unpack
from ansm_fast.inference.profile import adopt, current, stage
from ansm_fast.inference.tiling import Tile, tiles
from ansm_fast.models import BaseANSM

MASK_HALO = 128
# From so many pixels on an image and its result leave less memory for the work on tiles.
_LARGE, _LARGE_TILE = 40_000_000, 736


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
        network: what computes the ANSM, "auto" or one of ``engines.ENGINES``.
        precision: what the network computes in, one of ``engines.PRECISIONS``.
        streams: how many threads defend at once. Those that have nothing to do take tiles of an
            image that another one defends.

    A grey image is defended as three equal channels and gets the mean of their perturbations. The
    masks of a tiled image are made tile by tile: a localizer that looks at the whole image, as the
    built-in one does, then sees a tile at a time. Its attack score is the mean over all tiles' own
    areas, and so that of the whole image. Threads may share an engine.
    """

    def __init__(
        self,
        ansm: BaseANSM,
        localizer: nn.Module | None = None,
        *,
        device: str | torch.device = "cpu",
        tile: int = 1600,
        network: str = "auto",
        precision: str = "fp32",
        streams: int = 1,
    ) -> None:
        if not isinstance(ansm, BaseANSM):
            raise TypeError(f"ansm must be an ANSM, got {type(ansm).__name__}; see load_ansm")
        self.device = torch.device(device)
        self.stride, self.halo, self.eps_d = ansm.stride, ansm.receptive_field, ansm.eps_d
        self.tile = self._checked(tile)
        self.streams = streams
        self._idle = threading.Semaphore(streams)
        self.network = chosen_engine(network, self.device)
        self._network = make_network(ansm, self.network, self.device, streams, precision)
        self._gives_logits = False
        self._localizer = for_inference(localizer).to(self.device) if localizer else None

    def _checked(self, tile: int) -> int:
        if tile <= 0 or tile % self.stride:
            raise ValueError(f"tile must be a positive multiple of {self.stride}, got {tile}")
        return tile

    def padded(self, image: Photograph) -> tuple[int, int]:
        """Height and width rounded up to the stride: images that agree in them share a batch."""
        return self._up(image.pixels)

    def _up(self, pixels: Pixels) -> tuple[int, int]:
        up = self.stride
        return -(-pixels.shape[0] // up) * up, -(-pixels.shape[1] // up) * up

    def is_tiled(self, image: Photograph, tile: int | None = None) -> bool:
        return image.height * image.width > (tile or self.tile) ** 2

    def _side(self, images: Sequence[Photograph]) -> int:
        largest = max(image.height * image.width for image in images)
        return min(self.tile, _LARGE_TILE) if largest > _LARGE else self.tile

    @torch.inference_mode()
    def defend(self, images: Sequence[Photograph], *, tile: int | None = None) -> list[Defended]:
        """Defend images that agree in ``padded`` size and depth.

        Args:
            tile: takes the place of the engine's own: a smaller one needs less memory.

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
        side = self._side(images) if tile is None else self._checked(tile)
        batch = [image.pixels for image in images]
        with self._a_stream():
            if any(self.is_tiled(image, side) for image in images):
                results = [self._tiled(pixels, side) for pixels in batch]
            else:
                results = self._whole(batch)
            if self._localizer is not None:
                masks = self._masks(batch + [result.pixels for result in results], side)
                for index, result in enumerate(results):
                    result.mask_before, result.mask_after = masks[index], masks[len(batch) + index]
        return results

    def _whole(
        self, batch: Sequence[Pixels], inner: tuple[slice, slice] | None = None
    ) -> list[Defended]:
        """Defend in one pass; the attack score is taken over ``inner``, or over the image."""
        with stage("pack"):
            image = pack(batch, *self._up(batch[0]), self.device)
        with stage("network"):
            perturbation, attacked = self._network(image)
        with stage("unpack"):
            for index, pixels in enumerate(batch):
                if pixels.shape[2] == 1:
                    perturbation[index] = perturbation[index].mean(0, keepdim=True)
            defended = unpack(image, perturbation, self.eps_d, batch[0].dtype == np.uint16)
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

    def _tiled(self, pixels: Pixels, side: int) -> Defended:
        result, (height, width) = np.empty_like(pixels), pixels.shape[:2]
        found: list[tuple[float, int]] = []

        def one(part: Tile) -> None:
            window = np.ascontiguousarray(pixels[part.window])
            (defended,) = self._whole([window], part.inner)
            result[part.core] = defended.pixels[part.inner]
            if defended.attack_score is not None:
                found.append((defended.attack_score, _area(_halved(part.inner))))

        self._each(tiles(height, width, side, self.halo, self.stride), one)
        if height * width > _LARGE:  # its file takes what the work on its tiles has left
            give_back()
        if not found:
            return Defended(result)
        scores, areas = zip(*sorted(found), strict=True)  # in one order whoever came first
        return Defended(result, float(np.average(scores, weights=areas)))

    def mask(self, pixels: Pixels) -> Pixels:
        """255 times the localizer's probability of a forgery, (H, W) uint8.

        Raises:
            LocalizerError: the localizer gives no finite logits of the image's size.
        """
        with torch.inference_mode(), self._a_stream():
            return self._masks([pixels], self.tile)[0]

    def _masks(self, batch: Sequence[Pixels], side: int) -> list[Pixels]:
        """Masks of pixels of one depth, of those that are equally large in one pass."""
        if self._localizer is None:
            raise ValueError("this engine has no localizer; pass localizer= to Engine")
        results = [np.empty(pixels.shape[:2], np.uint8) for pixels in batch]
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, pixels in enumerate(batch):
            alike[pixels.shape[0], pixels.shape[1]].append(index)

        for (height, width), members in alike.items():

            def one(part: Tile, members: list[int] = members) -> None:
                found = self._masks_of([batch[index][part.window] for index in members])
                for index, mask in zip(members, found, strict=True):
                    results[index][part.core] = mask[part.inner]

            if height * width <= side**2:
                whole = (slice(0, height), slice(0, width))
                one(Tile(whole, whole))
            else:
                self._each(tiles(height, width, side, MASK_HALO, self.stride), one)
        return results

    def _masks_of(self, batch: Sequence[Pixels]) -> Pixels:
        with stage("masks"):
            height, width = batch[0].shape[:2]
            seen = pack(batch, height, width, self.device)
            assert self._localizer is not None
            logits = self._localizer(seen)
            check_logits(logits, seen, self._localizer, sure=self._gives_logits)
            self._gives_logits = True
            return logits[:, 0].sigmoid().mul(255).round().to(torch.uint8).cpu().numpy()

    # -- streams ----------------------------------------------------------------------------

    @contextmanager
    def _a_stream(self) -> Iterator[None]:
        """Inside, one stream fewer is idle, if any is: more callers than streams are welcome."""
        taken = self._idle.acquire(blocking=False)
        try:
            yield
        finally:
            if taken:
                self._idle.release()

    def _each(self, parts: Iterable[Tile], work: Callable[[Tile], None]) -> None:
        """Work on every part, together with the streams that are idle meanwhile."""
        rest, lock, faults = iter(parts), threading.Lock(), list[BaseException]()
        profile = current()

        def take() -> bool:
            with lock:
                part = None if faults else next(rest, None)
            if part is None:
                return False
            try:
                work(part)
            except BaseException as error:  # of a helper: raised where the image is defended
                faults.append(error)
                return False
            return True

        def help_out() -> None:
            adopt(profile)
            try:
                with torch.inference_mode():
                    while take():
                        pass
            finally:
                self._idle.release()

        helpers: list[threading.Thread] = []
        more = True
        while more:
            if self._idle.acquire(blocking=False):
                helpers.append(threading.Thread(target=help_out, name="ansm-fast-helper"))
                helpers[-1].start()
            more = take()
        for helper in helpers:
            helper.join()
        if faults:
            raise faults[0]
