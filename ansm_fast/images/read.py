"""JPEG, PNG, TIFF, WebP and BMP files to photographs, strictly: a damaged file is an error, and
everything that must survive is kept.

Pillow reads what has 8 bits, metadata included. It cuts colour with 16 bits down to 8, so that
goes through OpenCV (PNG) and tifffile (TIFF).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms, UnidentifiedImageError

from ansm_fast.images.formats import ORIENTATION, PNG_SIGNATURE, file_format, is_deep_png
from ansm_fast.images.photograph import BadImage, Photograph, Pixels
from ansm_fast.images.regular_files import NotAFile, read_regular

# Called with width and height before pixels are decoded; raises BadImage where they are too many.
Admit = Callable[[int, int], None]

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")

# Tags of a TIFF that describe the photograph; the rest describe how the file stores its pixels.
_DESCRIPTIVE = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432)
_SUB_BLOCKS = (0x8769, 0x8825)  # Exif and GPS


def read_photograph(
    path: Path, max_pixels: int, reserve: Callable[[int], None] = lambda pixels: None
) -> Photograph:
    """Decode the file at ``path``.

    ``reserve`` is called with the number of pixels before they are decoded, and may wait.

    Raises:
        BadImage: it is unreadable, empty, truncated, no image, of an unsupported kind, or has more
            than ``max_pixels`` pixels (found out before any pixel is decoded).
    """
    try:
        data = read_regular(path)
    except NotAFile as error:
        raise BadImage(f"cannot be read: it is {error}") from error
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror or error}") from error
    if not data:
        raise BadImage("is empty")

    def admit(width: int, height: int) -> None:
        if width * height > max_pixels:
            raise BadImage(
                f"has {width}x{height} = {width * height} pixels, "
                f"more than --max-pixels {max_pixels}"
            )
        reserve(width * height)

    try:
        if is_deep_png(data):
            return _png16(data, admit)
        if file_format(data) == "TIFF":
            return read_tiff(data, admit)
        return _eight_bits(data, admit)
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage("is not a JPEG, PNG, TIFF, WebP or BMP image") from error
    except MemoryError as error:
        raise BadImage("does not fit in memory; lower --max-pixels") from error
    except Exception as error:  # a codec may raise anything on a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadImage(f"is truncated or damaged ({reason})") from error


def _open(data: bytes, admit: Admit) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    admit(*image.size)
    return image


def _exif(image: Image.Image) -> bytes | None:
    if image.format == "TIFF":
        every, kept = image.getexif(), Image.Exif()
        for tag in _DESCRIPTIVE:
            if tag in every:
                kept[tag] = every[tag]
        for tag in _SUB_BLOCKS:
            if block := every.get_ifd(tag):
                kept[tag] = dict(block)
        raw = kept.tobytes() if len(kept) else b""
    else:
        raw = image.info.get("exif") or b""
    return raw.removeprefix(b"Exif\0\0") or None


def _frames_note(image: Image.Image) -> str:
    # The further frames of an MPO are previews of the first.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    return f"first of {frames} frames" if frames > 1 else ""


def _cmyk_to_rgb(image: Image.Image) -> tuple[Image.Image, bytes | None, str]:
    """RGB pixels and the profile that goes with them: a CMYK profile can't describe RGB."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
            if converted is not None:
                return converted, srgb.tobytes(), "CMYK converted to sRGB by its profile"
        except (ImageCms.PyCMSError, OSError):
            pass
    return image.convert("RGB"), None, "CMYK converted to RGB"


def _eight_bits(data: bytes, admit: Admit) -> Photograph:
    image = _open(data, admit)
    image.load()
    note, icc, exif = _frames_note(image), image.info.get("icc_profile"), _exif(image)
    transparent = "transparency" in image.info
    if image.mode == "CMYK":
        image, icc, note = _cmyk_to_rgb(image)
    elif image.mode in ("P", "PA", "RGBa", "RGB") and (transparent or image.mode != "RGB"):
        image = image.convert("RGBA" if transparent or image.mode in ("PA", "RGBa") else "RGB")
    elif image.mode in ("1", "L", "La"):
        image = image.convert("LA" if transparent or image.mode == "La" else "L")
    elif image.mode in ("RGBX", "YCbCr"):
        image = image.convert("RGB")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise BadImage(f"has pixels of mode {image.mode}; convert it to 8- or 16-bit grey or RGB")
    return _split(np.asarray(image), icc, exif, note)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn as the TIFF tag says. Readers of TIFF do so themselves, Pillow's included, while they
    leave other formats as stored: each output has the size that its input is seen to have."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _split(pixels: Pixels, icc: bytes | None, exif: bytes | None, note: str = "") -> Photograph:
    """A photograph of (H, W), (H, W, 1..4) samples: grey or RGB, with or without alpha."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    colours = 1 if pixels.shape[2] <= 2 else 3
    alpha = np.ascontiguousarray(pixels[:, :, colours]) if pixels.shape[2] > colours else None
    return Photograph(np.ascontiguousarray(pixels[:, :, :colours]), alpha, icc, exif, note)


def _unchanged(data: bytes) -> Pixels:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise BadImage("is truncated or damaged")
    if decoded.ndim == 3 and decoded.shape[2] >= 3:
        decoded[:, :, :3] = decoded[:, :, 2::-1].copy()
    return decoded


def _png16(data: bytes, admit: Admit) -> Photograph:
    image = _open(data, admit)
    icc = image.info.get("icc_profile")
    # OpenCV is content with half a file; this checks every chunk up to the end.
    image.verify()
    return _split(_unchanged(data), icc, _png_exif(data))


def _png_exif(data: bytes) -> bytes | None:
    """The eXIf chunk, which may come after the pixels, where verify() does not keep it."""
    position = len(PNG_SIGNATURE)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            return data[position + 8 : position + 8 + length] or None
        position += length + 12
    return None


def read_tiff(data: bytes, admit: Admit) -> Photograph:
    """Decode a TIFF, turned as its tag says; raises BadImage or what a codec raises."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        pages = len(file.pages)
        page = file.pages.first
        if page.dtype is None or page.dtype.itemsize == 1:
            return _eight_bits(data, admit)
        if page.dtype != np.uint16:
            raise BadImage(f"has samples of type {page.dtype}; convert it to 8 or 16 bits")
        # Plain integers where tifffile keeps what the file says: compare, never name them.
        inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        plain = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
        if not inverted and page.photometric not in plain:
            raise BadImage("is a 16-bit TIFF of neither grey nor RGB; convert it to RGB")
        admit(page.imagewidth, page.imagelength)
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            pixels = _unchanged(data)  # a compression that tifffile has no codec for
        else:
            if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3:
                pixels = np.moveaxis(pixels, 0, 2)
            if inverted:
                pixels = np.uint16(65535) - pixels
        icc = page.tags.valueof(34675)
        exif = Image.Exif()
        for tag in _DESCRIPTIVE:
            value = page.tags.valueof(tag)
            if isinstance(value, str | int):
                exif[tag] = int(value) if isinstance(value, int) else value
        if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] > 4):
            raise BadImage(f"has pixels of shape {pixels.shape}; expected grey or RGB, with alpha")
        block = exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else None
        note = f"first of {pages} pages" if pages > 1 else ""
        pixels = _upright(pixels, int(page.tags.valueof(ORIENTATION, default=1)))
        return _split(pixels, bytes(icc) if icc else None, block, note)
