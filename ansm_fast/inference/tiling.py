"""Tiles whose halo covers the receptive field, so that tiles together equal the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """``core``: the part of the image that the tile answers for; ``window``: what it reads."""

    core: tuple[slice, slice]
    window: tuple[slice, slice]

    @property
    def inner(self) -> tuple[slice, slice]:
        """``core`` in the coordinates of ``window``."""
        (cy, cx), (wy, wx) = self.core, self.window
        return (
            slice(cy.start - wy.start, cy.stop - wy.start),
            slice(cx.start - wx.start, cx.stop - wx.start),
        )


def tiles(height: int, width: int, core: int, halo: int, stride: int) -> Iterator[Tile]:
    """Cut (height, width) into cores of at most ``core`` pixels a side, row by row, as equally
    large as multiples of ``stride`` can be.

    Every window starts at a multiple of ``stride``, since a strided network samples the image on a
    grid that starts at the window's corner, and reaches at least ``halo`` pixels beyond its core
    or to the image's edge.

    Raises:
        ValueError: ``core`` is not a positive multiple of ``stride``, or ``halo`` is negative.
    """
    if core <= 0 or core % stride:
        raise ValueError(f"core must be a positive multiple of stride {stride}, got {core}")
    if halo < 0:
        raise ValueError(f"halo must not be negative, got {halo}")
    reach = -(-halo // stride) * stride
    down, across = (_even(side, core, stride) for side in (height, width))
    for y in range(0, height, down):
        rows = slice(y, min(y + down, height))
        for x in range(0, width, across):
            columns = slice(x, min(x + across, width))
            window = (
                slice(max(y - reach, 0), min(rows.stop + reach, height)),
                slice(max(x - reach, 0), min(columns.stop + reach, width)),
            )
            yield Tile((rows, columns), window)


def _even(side: int, core: int, stride: int) -> int:
    """The core that takes as many steps as ``core`` does, the last of which is not the rest."""
    steps = -(-side // core)
    return -(-side // (steps * stride)) * stride
