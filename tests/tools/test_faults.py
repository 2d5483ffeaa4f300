"""A few faults of each kind; ``python -m tools.faults`` does them by the hundred."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tools.faults.__main__ import COUNTS, do, main
from tools.faults.bench import NEVER, Bench, picture
from tools.faults.mutations import mutated


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(COUNTS))
def test_nothing_is_lost_torn_or_false(kind: str) -> None:
    found = do(kind, COUNTS[kind][1], 0, time.monotonic() + 600)
    assert {name: found[name] for name in NEVER} == dict.fromkeys(NEVER, 0), found.get("notes")
    assert found["runs"] > 0


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
    import random

    base = picture("png", 1)
    first = [mutated(base, random.Random(seed)) for seed in range(50)]
    assert first == [mutated(base, random.Random(seed)) for seed in range(50)]
    assert sum(one != base for one in first) >= 45


def test_an_unknown_kind_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["earthquake"])
    assert left.value.code == 2 and "no kind earthquake; expected kills" in capsys.readouterr().err
