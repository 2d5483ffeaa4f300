"""A few faults of each kind; ``python -m tools.faults`` does them by the hundred."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.faults.__main__ import COUNTS, main
from tools.faults.bench import Bench, picture
from tools.faults.mutations import mutated
from tools.ops import ROOT


@pytest.mark.slow
def test_nothing_is_lost_torn_or_false(tmp_path: Path) -> None:
    """In a process of its own, which has no threads when it forks."""
    result = tmp_path / "faults.json"
    command = [sys.executable, "-m", "tools.faults", "--short", "-o", str(result)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=1500)
    found = json.loads(result.read_text())
    assert ended.returncode == 0 and set(found["never"].values()) == {0}, ended.stdout.decode()
    assert set(found["kinds"]) == set(COUNTS)
    assert all(kind["runs"] > 0 for kind in found["kinds"].values())


def test_what_must_never_happen_is_found(tmp_path: Path) -> None:
    """In a folder in which all of it has happened."""
    bench = Bench(tmp_path / "work", 0, time.monotonic())
    out, mine = tmp_path / "out", tmp_path / "mine.png"
    out.mkdir()
    good = picture("png", 0)
    (out / "good.png").write_bytes(good)
    (out / "torn.png").write_bytes(good[:50])
    (out / ".torn.png.0123.tmp").write_bytes(b"")
    lines = [
        {"status": "done", "output": name, "input_sha256": "a", "output_sha256": "b"}
        for name in ("gone.png", "good.png")
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (out / "manifest.jsonl").write_text(text + '{"input": "/a", "written_at": 1, "\n\n')
    bench.check(out, {mine: b"content"}, complete=5)
    assert bench.counts["lost"] == 2  # a file of somebody else's, and three inputs
    assert bench.counts["torn"] == 1 and bench.counts["false_lines"] == 3
    assert bench.counts["leftovers"] == 2
    assert any("torn.png of 50 bytes" in note for note in bench.notes)


def test_mutations_are_the_same_again() -> None:
    base = picture("png", 1)
    first = [mutated(base, random.Random(seed)) for seed in range(50)]
    assert first == [mutated(base, random.Random(seed)) for seed in range(50)]
    assert sum(one != base for one in first) >= 45


def test_an_unknown_kind_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["earthquake"])
    assert left.value.code == 2 and "no kind earthquake; expected kills" in capsys.readouterr().err
