"""What tells the formats of image files apart, and the tags that all of them share."""

from __future__ import annotations

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".bmp"})
# Images all the same, which are told rather than passed over in silence.
OTHER_SUFFIXES = frozenset({".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".pgm"})

# The formats of outputs with the suffix of each, and how hard to compress.
SUFFIXES = {"png": ".png", "webp": ".webp", "tiff": ".tif"}
EFFORTS = ("fast", "small")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 274  # the tag, in EXIF and in TIFF


def file_format(data: bytes) -> str | None:
    """Tell JPEG, PNG, TIFF, WebP or BMP by its first bytes, whatever the file's name; else None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return "BMP" if data.startswith(b"BM") else None


def is_deep_png(data: bytes) -> bool:
    """Tell whether a PNG has 16 bits a sample."""
    return file_format(data) == "PNG" and data[24:25] == b"\x10"
