"""The harness's own test kernels: most with one mistake, which the harness must find.

    python -m tools.simt.examples VARIANT NAME ...

runs kernels that are right in a process of its own, which the variant "address" needs.
"""

from __future__ import annotations

import ctypes

import numpy as np

from tools.simt import harness

N = 1024  # four blocks of 256 threads
FLOATS = ctypes.POINTER(ctypes.c_float)


class Examples:
    def __init__(self, variant: str):
        self.library = harness.load_examples(variant)
        self.call = self.library.handle.simt_example
        self.call.restype = ctypes.c_char_p
        self.call.argtypes = [ctypes.c_char_p, FLOATS, FLOATS, ctypes.c_int64, FLOATS]

    def run(self, name: str, schedule: str = "lifo", n: int = N, out_size: int = N):
        """The inputs, what the kernel wrote, its third array, and the launch's error."""
        given = aligned(n)
        given[:] = np.random.default_rng(n).standard_normal(n)
        out, third = aligned(out_size), aligned(n)
        pointers = [array.ctypes.data_as(FLOATS) for array in (given, out, third)]
        self.library.reset()
        with self.library.schedule(schedule):
            error = self.call(name.encode(), pointers[0], pointers[1], n, pointers[2])
        return given, out, third, self.library.explain(error.decode()) if error else ""

    def launch(self) -> dict:
        (launch,) = self.library.report()
        return launch


def aligned(n: int) -> np.ndarray:
    memory = np.zeros(n * 4 + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + n * 4].view(np.float32)
