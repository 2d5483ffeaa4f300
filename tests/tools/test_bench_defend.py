from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from tools.bench.defend import photographs
from tools.bench.defend.picture import medians, table


def test_photographs_come_from_their_seed(tmp_path: Path) -> None:
    sizes = list(photographs.sizes_of("20-40", 6))
    assert len(set(sizes)) == 6 and all(20 <= side <= 40 for size in sizes for side in size)
    assert list(photographs.sizes_of("32x48", 2)) == [(32, 48)] * 2
    for name in ("a", "b"):
        photographs.write(tmp_path / name, sizes)
    files = sorted((tmp_path / "a").iterdir())
    assert [cv2.imread(str(path)).shape[:2] for path in files] == sizes
    for path in files:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def row(name: str, seconds: float, others: float = 0.0, turn: int = 0) -> dict[str, object]:
    return {
        "turn": turn,
        "case": "10:480x640", "ansm": "robust", "name": name, "images": 10, "megapixels": 3.0,
        "seconds": seconds, "cpu_seconds": 2 * seconds, "others_cpu_seconds": others,
        "peak_mib": 300.0, "resident_mib": {"10": 250.0},
    }  # fmt: skip


def test_medians_of_rows_that_had_the_machine() -> None:
    rows = [row("plain loop", s, turn=turn) for turn, s in enumerate((4.0, 6.0, 5.0))]
    rows += [row("ours eager", 2.0, turn=1), row("ours eager", 9.0, others=8.0, turn=2)]
    document = {"cores": 2, "rows": [*rows, {"case": "x", "ansm": "y", "name": "z", "error": "w"}]}
    found = medians(document)["10:480x640", "robust"]
    assert found["plain loop"]["seconds"] == 5.0 and found["plain loop"]["runs"] == 3
    assert found["ours eager"]["seconds"] == 2.0
    assert found["ours eager"]["images_per_second"] == pytest.approx(5)
    assert "| 3.00× |" in table(document)
