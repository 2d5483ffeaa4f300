"""Too little memory for an image: tried again in smaller tiles, and then reported as that image's
failure."""

from __future__ import annotations

from collections.abc import Sequence

from ansm_fast.errors import out_of_memory
from ansm_fast.images.photograph import BadImage, Photograph
from ansm_fast.inference.engine import Defended, Engine

# Tiles of less have more halo than core.
_SMALLEST_TILE = 256


def defend_within_memory(engine: Engine, images: Sequence[Photograph]) -> list[Defended | BadImage]:
    """``engine.defend``, and where memory doesn't suffice image by image, each in tiles of half the
    side again and again; a BadImage in the place of one for which that doesn't suffice either."""
    try:
        return list(engine.defend(images))
    except Exception as error:
        if out_of_memory(error) is None:
            raise
    # Outside the handler, whose traceback holds what was allocated.
    return [_one(engine, image) for image in images]


def _one(engine: Engine, image: Photograph) -> Defended | BadImage:
    tile = engine.tile
    while True:
        try:
            (result,) = engine.defend([image], tile=tile)
            return result
        except Exception as error:
            reason = out_of_memory(error)
            if reason is None:
                raise
        tile = tile // 2 // engine.stride * engine.stride
        if tile < min(_SMALLEST_TILE, engine.tile):
            size = f"{image.width}x{image.height}"
            return BadImage(f"of {size} pixels needs more memory than there is ({reason})")
