"""Images of more than 2**31 elements."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ansm_fast.ops.cases import BRAIN, HALF, Call, with_end
from ansm_fast.ops.image_pack import image_pack, image_unpack
from ansm_fast.ops.large import PART


def calls(elements: int) -> Iterator[Call]:
    rows = elements // 3 // 4096
    image, noise = (with_end(value, 1, 3, rows, 4096) for value in (0.5, 2.0))
    levels = with_end(255, 1, rows, 4096, 3, dtype=torch.uint8)
    yield Call("image_pack", "channels_last", (levels, False, True, BRAIN))
    yield Call("image_pack", "contiguous", (levels, False, False, BRAIN))
    yield Call("image_unpack", "contiguous", (image, noise, 0.25, None, True, False))


def pack_and_unpack(backend: str, device: torch.device, elements: int) -> str | None:
    height = -(-elements // (3 * PART))
    shape = (1, height, PART, 3)
    images = torch.empty(shape, device=device, dtype=torch.uint8)
    for piece in images.view(-1).split(1 << 26):
        piece.copy_(torch.randint(0, 256, piece.shape, device=device, dtype=torch.uint8))
    packed = image_pack(images, dtype=HALF, backend=backend)
    for start in (0, height // 2, height - 1):
        rows = slice(start, start + 1)
        expected = image_pack(images[:, rows], dtype=HALF, backend="reference")
        if not torch.equal(packed[:, :, rows], expected):
            return f"packed row {start} differs"
    back = image_unpack(packed, backend=backend)
    for one, other in zip(
        back.view(-1).split(1 << 28), images.view(-1).split(1 << 28), strict=True
    ):
        if not torch.equal(one, other):
            return "the way back differs"
    return None
