"""JPEG, PNG, TIFF, WebP and BMP files to photographs, strictly: a damaged file is an error, and
everything that must survive is kept.

Pillow reads what has 8 bits, metadata included. It cuts colour with 16 bits down to 8, so that
goes through OpenCV (PNG) and tifffile (TIFF, see ``tiff``).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms, UnidentifiedImageError

from ansm_fast.errors import out_of_memory
from ansm_fast.images import png_chunks
from ansm_fast.images.any_size import open_any_size
from ansm_fast.images.formats import file_format, is_deep_png
from ansm_fast.images.photograph import BadImage, Photograph, Pixels
from ansm_fast.images.regular_files import NotAFile, read_regular
from ansm_fast.images.tiff import is_plain, photograph_of

# Called with width and height before pixels are decoded; raises BadImage where they are too many.
Admit = Callable[[int, int], None]

# Tags of a TIFF that describe the photograph; the rest describe how the file stores its pixels.
_DESCRIPTIVE = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432)
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")

_SUB_BLOCKS = (0x8769, 0x8825)  # Exif and GPS


class Readable(Protocol):
    """What gives its content: OSError if it cannot be read, NotAFile if it is no file."""

    def read(self) -> bytes: ...


# Of width and height: what libpng, and with it most programs, reads.
MAX_SIDE = 1_000_000


def read_photograph(
    path: Path | Readable, max_pixels: int, reserve: Callable[[int], None] = lambda pixels: None
) -> Photograph:
    """Decode the file at ``path``, or what is read from elsewhere.

    ``reserve`` is called with the number of pixels before they are decoded, and may wait.

    Raises:
        BadImage: it is unreadable, empty, truncated, no image, of an unsupported kind, or has more
            than ``max_pixels`` pixels (found out before any pixel is decoded).
    """
    try:
        data = read_regular(path) if isinstance(path, Path) else path.read()
    except NotAFile as error:
        raise BadImage(f"cannot be read: it is {error}") from error
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror or error}") from error
    return decode_photograph(data, max_pixels, reserve)


def decode_photograph(
    data: bytes, max_pixels: int, reserve: Callable[[int], None] = lambda pixels: None
) -> Photograph:
    """``read_photograph`` of a file's content."""
    if not data:
        raise BadImage("is empty")

    def admit(width: int, height: int) -> None:
        if max(width, height) > MAX_SIDE:
            raise BadImage(
                f"has {width}x{height} pixels; images of more than {MAX_SIDE} pixels a side are "
                "read by few programs, cut it in pieces"
            )
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
    except Exception as error:  # a codec may raise anything on a damaged file
        if reason := out_of_memory(error):
            raise BadImage(f"does not fit in memory ({reason}); lower --max-pixels") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadImage(f"is truncated or damaged ({reason})") from error


def _open(data: bytes, admit: Admit) -> Image.Image:
    image = open_any_size(data, FORMATS)
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
    is_png = file_format(data) == "PNG"
    image = _open(png_chunks.without_packed(data) if is_png else data, admit)
    image.load()
    note, icc, exif = _frames_note(image), image.info.get("icc_profile"), _exif(image)
    if is_png:
        icc, chunks = png_chunks.icc_profile(data), png_chunks.kept_chunks(data)
    else:
        chunks = _described(image)
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
    return _split(np.asarray(image), icc, exif, note, chunks)


def _described(image: Image.Image) -> bytes:
    """Resolution, XMP and comment of what is no PNG, as chunks of one."""
    info, chunks = image.info, b""
    if dpi := info.get("dpi"):
        chunks += png_chunks.resolution(dpi)
    if isinstance(packet := info.get("xmp"), bytes):
        chunks += png_chunks.xmp(packet)
    if isinstance(text := info.get("comment"), bytes):
        chunks += png_chunks.comment(text)
    return chunks


def _split(
    pixels: Pixels, icc: bytes | None, exif: bytes | None, note: str = "", chunks: bytes = b""
) -> Photograph:
    """A photograph of (H, W), (H, W, 1..4) samples: grey or RGB, with or without alpha."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    colours = 1 if pixels.shape[2] <= 2 else 3
    alpha = np.ascontiguousarray(pixels[:, :, colours]) if pixels.shape[2] > colours else None
    plain = np.ascontiguousarray(pixels[:, :, :colours])
    return Photograph(plain, alpha, icc, exif, note, chunks)


def _unchanged(data: bytes) -> Pixels:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise BadImage("is truncated or damaged")
    if decoded.ndim == 3 and decoded.shape[2] >= 3:
        decoded[:, :, :3] = decoded[:, :, 2::-1].copy()
    return decoded


def _png16(data: bytes, admit: Admit) -> Photograph:
    icc, bare = png_chunks.icc_profile(data), png_chunks.without_packed(data)
    # OpenCV is content with half a file; this checks every chunk up to the end.
    _open(bare, admit).verify()
    pixels = _unchanged(bare)
    clear = png_chunks.transparent_grey(data) if pixels.ndim == 2 else None
    if clear is not None:
        pixels = np.dstack([pixels, np.where(pixels == clear, 0, 65535).astype(np.uint16)])
    count = png_chunks.frames(data)
    note = f"still image of {count} animated frames" if count else ""
    return _split(pixels, icc, png_chunks.exif_of(data), note, png_chunks.kept_chunks(data))


def read_tiff(data: bytes, admit: Admit) -> Photograph:
    """Decode a TIFF, turned as its tag says; raises BadImage or what a codec raises."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        if not is_plain(page):
            return _eight_bits(data, admit)
        admit(page.imagewidth, page.imagelength)
        return photograph_of(page, len(data), len(file.pages), _tiff_exif(data))


def _tiff_exif(data: bytes) -> bytes | None:
    """The tags that describe the photograph, where Pillow can read the file's directory."""
    try:
        with open_any_size(data, ["TIFF"]) as image:
            return _exif(image)
    except Exception:  # a damaged directory describes nothing, and its pixels may be whole
        return None
