from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ansm_fast.inference import memory
from tools.bench.defend import photographs

# Run in a process of its own: how a process allocates is chosen once.
RUN = """
import json, sys
from pathlib import Path
from ansm_fast.inference import memory
flat = memory.keep_flat() if sys.argv[3] == "flat" else None
from ansm_fast.inference import Engine, defend_files
from ansm_fast.inference.files import from_files
from ansm_fast.models import load_ansm
found, count = {}, 0
def done(*_):
    global count
    count += 1
    found[count] = memory.resident_bytes()
files = sorted(Path(sys.argv[1]).iterdir())
engine = Engine(load_ansm("tiny"), streams=2)
defend_files(from_files(files), Path(sys.argv[2]), engine, fingerprint="f", on_progress=done)
print(json.dumps([flat, found[100], max(list(found.values())[-50:])]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_stays_flat_over_images_of_all_sizes(tmp_path: Path) -> None:
    photographs.write(tmp_path / "in", list(photographs.sizes_of("64-320", 400)))
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", RUN, str(tmp_path / "in"), str(tmp_path / "out"), "flat"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    flat, after_100, at_the_end = json.loads(ran.stdout)
    if not flat:
        pytest.skip("another allocator")
    assert at_the_end < after_100 + (30 << 20)


class Recorded:
    def __init__(self) -> None:
        self.trims = 0

    def malloc_trim(self, keep: int) -> None:
        self.trims += 1


def test_pages_go_back_only_where_more_grew_than_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    glibc, resident = Recorded(), 300 << 20
    monkeypatch.setattr(memory, "_glibc", glibc)
    monkeypatch.setattr(memory, "resident_bytes", lambda: resident)
    tidy = memory.Tidy(streams=2, most=10**7)
    resident += 150 << 20
    tidy.after_image(300_000)  # the work of two such images, and slack
    assert glibc.trims == 0
    resident += 300 << 20
    tidy.after_image(300_000)
    assert glibc.trims == 1
    for _ in range(5):  # it did not help: whatever grew is in use
        tidy.after_image(300_000)
    assert glibc.trims <= 2


def test_an_allocator_that_was_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    monkeypatch.setattr(memory, "_glibc", None)
    assert not memory.keep_flat()
    memory.Tidy(1, 1).after_image(10**9)


def test_a_decoder_s_array_is_read_without_a_copy_or_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    from ansm_fast.inference.packing import _shared, pack

    pixels = np.arange(16 * 32 * 3, dtype=np.uint8).reshape(16, 32, 3)
    pixels.flags.writeable = False
    assert _shared(pixels).data_ptr() == pixels.__array_interface__["data"][0]
    image = pack([pixels], 16, 32)
    assert image.shape == (1, 3, 16, 32) and not recwarn.list
    assert image[0, :, 0, 1].mul(255).round().tolist() == [3, 4, 5]
    grey = pack([pixels[:, :, :1]], 32, 48)
    assert (grey[0, 0] == grey[0, 2]).all() and grey[0, 0, 31, 47] == grey[0, 0, 15, 31]
