"""Grey and RGB TIFF of 8 and 16 bits a sample, by tifffile and the codecs of imagecodecs.

Pillow cuts colour with 16 bits down to 8, and takes planes of 8 bits that stand apart for each
other. OpenCV forgets what a TIFF says about its samples (white is zero, the meaning of the fourth)
and turns what is turned already. Palettes, CMYK, bilevel and JPEG inside TIFF are left to Pillow.
"""

from __future__ import annotations

import numpy as np
import tifffile

from ansm_fast.images import png_chunks
from ansm_fast.images.formats import ORIENTATION
from ansm_fast.images.photograph import BadImage, Photograph, Pixels

_ICC, _XMP = 34675, 700
# Plain integers where tifffile keeps what the file says: compared, never named.
_PLAIN = (
    tifffile.PHOTOMETRIC.MINISBLACK,
    tifffile.PHOTOMETRIC.MINISWHITE,
    tifffile.PHOTOMETRIC.RGB,
)
_JPEG = (tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG)
_MOST_SAMPLES = 8
_UNSPECIFIED, _ASSOCIATED, _UNASSOCIATED = 0, 1, 2


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn as the TIFF tag says. Readers of TIFF do so themselves, Pillow's included, while they
    leave other formats as stored: each output has the size that its input is seen to have."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def straight(colours: Pixels, alpha: Pixels) -> Pixels:
    """Divide out the alpha by which colours were multiplied; where it is 0 they stay."""
    high = int(np.iinfo(colours.dtype).max)
    divisor = alpha[:, :, None].astype(np.uint32)
    divided = (colours.astype(np.uint32) * high + divisor // 2) // np.maximum(divisor, 1)
    kept = np.where(divisor == 0, colours, np.minimum(divided, high))
    return kept.astype(colours.dtype)


def is_plain(page: tifffile.TiffPage) -> bool:
    """Tell whether a page is grey or RGB of 8 or 16 bits, and no JPEG.

    Raises:
        BadImage: it has other samples, of a kind that nothing here reads.
    """
    if page.dtype is None or page.dtype.itemsize == 1:
        plain = page.dtype == np.uint8 and page.bitspersample == 8
        return plain and page.photometric in _PLAIN and page.compression not in _JPEG
    if page.dtype != np.uint16:
        raise BadImage(f"has samples of type {page.dtype}; convert it to 8 or 16 bits")
    if page.bitspersample != 16:
        raise BadImage(
            f"has samples of {page.bitspersample} bits, which are not supported; convert it to 8 "
            "or 16 bits"
        )
    if page.photometric not in _PLAIN:
        raise BadImage("is a 16-bit TIFF of neither grey nor RGB; convert it to RGB")
    return True


def read_page(page: tifffile.TiffPage, size: int) -> tuple[Pixels, Pixels | None, int]:
    """Decode a plain page of a file of ``size`` bytes, turned as its tag says: colours, alpha or
    None, and how many other samples a pixel has.

    Raises:
        BadImage: it is cut short or of an odd shape. What a codec raises on damage.
    """
    samples = page.samplesperpixel * page.imagedepth
    if samples > _MOST_SAMPLES:  # they would take memory that nobody asked for
        raise BadImage(f"has {samples} samples a pixel; expected grey or RGB, with alpha")
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not parts or any(not count or start + count > size for start, count in parts):
        raise BadImage("is truncated or damaged (a part of its pixels is not there)")
    pixels = page.asarray()
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    count = 3 if page.photometric == tifffile.PHOTOMETRIC.RGB else 1
    if pixels.ndim != 3 or pixels.shape[2] < count:
        raise BadImage(f"has pixels of shape {pixels.shape}; expected grey or RGB, with alpha")
    pixels = upright(pixels, int(page.tags.valueof(ORIENTATION, default=1)))
    colours, extra = pixels[:, :, :count], pixels[:, :, count:]
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        colours = pixels.dtype.type(np.iinfo(pixels.dtype).max) - colours
    return _with_alpha(colours, extra, [int(meaning) for meaning in page.extrasamples])


def photograph_of(page: tifffile.TiffPage, size: int, frames: int, exif: bytes | None
    ) -> Photograph:  # fmt: skip
    """``read_page`` with everything that goes along; raises as that does."""
    colours, alpha, left_out = read_page(page, size)
    notes = [f"first of {frames} frames"] if frames > 1 else []
    if left_out:
        notes.append(f"{left_out} extra sample{'s' * (left_out > 1)} of a pixel left out")
    icc, packet = page.tags.valueof(_ICC), page.tags.valueof(_XMP)
    return Photograph(
        np.ascontiguousarray(colours),
        None if alpha is None else np.ascontiguousarray(alpha),
        icc if isinstance(icc, bytes) and icc else None,
        exif,
        "; ".join(notes),
        (png_chunks.xmp(packet) if isinstance(packet, bytes) else b"") + _resolution(page),
    )


def _with_alpha(
    colours: Pixels, extra: Pixels, meanings: list[int]
) -> tuple[Pixels, Pixels | None, int]:
    """Colours, alpha if one of the extra samples is one, and how many others there are."""
    meanings = [*meanings, *[_UNSPECIFIED] * extra.shape[2]][: extra.shape[2]]
    for index, meaning in enumerate(meanings):
        alpha = extra[:, :, index]
        if meaning == _ASSOCIATED:
            return straight(colours, alpha), alpha, len(meanings) - 1
        if meaning == _UNASSOCIATED:
            return colours, alpha, len(meanings) - 1
    return colours, None, len(meanings)


def _resolution(page: tifffile.TiffPage) -> bytes:
    unit = page.tags.valueof(296, default=2)
    values = [page.tags.valueof(tag) for tag in (282, 283)]
    inches = {2: 1.0, 3: 2.54}.get(unit) if isinstance(unit, int) else None
    if inches is None or not all(isinstance(v, tuple) and len(v) == 2 and v[1] for v in values):
        return b""
    across, down = (inches * v[0] / v[1] for v in values)
    return png_chunks.resolution((across, down))
