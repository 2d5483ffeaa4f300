"""Memory that stays flat over many images of many sizes, and is not fetched anew for each.

An allocator's defaults suit programs of small objects: large arrays go back to the system when
they are freed, so that every image pays for its page faults again, and every thread has an arena
of its own, which keeps the largest that it ever held.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_KEPT = 64 << 20
# A network has some thirty convolutions for every shape: what a few shapes need.
_PRIMITIVES = "96"
# What PyTorch keeps of each convolution of each shape beside them, by default the last thousand.
_CONVOLUTIONS = "32"
# What a network works in for every pixel, and what may lie between what is in use.
_BYTES_PER_PIXEL, _SLACK = 400, 64 << 20

_glibc: ctypes.CDLL | None = None


def keep_flat() -> bool:
    """Choose how this process allocates; for a program, before its first convolution.

    Freed memory is kept up to a bound, in one arena for all threads, and oneDNN and PyTorch's
    interface to it keep the kernels of the last few shapes instead of the last thousand. What the
    environment says of them stays.

    Returns:
        Whether the allocator took it; others than glibc's stay as they are.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _PRIMITIVES)
    os.environ.setdefault("LRU_CACHE_CAPACITY", _CONVOLUTIONS)
    if not sys.platform.startswith("linux") or "LD_PRELOAD" in os.environ:
        return False
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    global _glibc
    try:
        glibc = ctypes.CDLL(None)
        mallopt, glibc.malloc_trim.argtypes = glibc.mallopt, [ctypes.c_size_t]
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    wanted = {
        _ARENA_MAX: 1,
        _MMAP_THRESHOLD: 256 << 20,
        _TRIM_THRESHOLD: 256 << 20,
        _TOP_PAD: _KEPT,
    }
    taken = [mallopt(option, value) for option, value in wanted.items()]
    if not all(taken):
        return False
    _glibc = glibc
    return True


def give_back() -> None:
    """Give all unused pages back at once. Does nothing unless ``keep_flat`` took effect."""
    if _glibc is not None:
        _glibc.malloc_trim(0)


class Tidy:
    """Gives pages back that lie unused between others: images of many sizes tear the memory into
    pieces of many sizes. Does nothing unless ``keep_flat`` took effect.

    Pages are given back where the process has grown by more than the work on the largest image so
    far can explain: images of one size never cause it, and pay for their pages once.

    Args:
        streams: how many images are worked on at once.
        most: pixels of the largest that is worked on as a whole.
    """

    def __init__(self, streams: int, most: int) -> None:
        self._streams, self._most = streams, most
        self._largest, self._base = 0, resident_bytes()

    def after_image(self, pixels: int) -> None:
        """Count an image that is done; called by one thread at a time."""
        if _glibc is None:
            return
        self._largest = max(self._largest, min(pixels, self._most))
        work = self._largest * self._streams * _BYTES_PER_PIXEL
        if resident_bytes() > self._base + work + _SLACK:
            give_back()
            # What else has grown, as the records of many images, must not ask for it every time.
            self._base = max(self._base, resident_bytes() - work - _SLACK // 2)


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
