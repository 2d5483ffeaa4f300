from __future__ import annotations

import json
import sys

import detector
import pytest

from ansm_fast.errors import InputError


def test_a_row_for_every_ansm_and_noise_and_none_twice(images, tmp_path, monkeypatch) -> None:
    output = tmp_path / "found.json"
    command = ["detector.py", str(images), "-o", str(output), "--steps", "1", "--localizers"]
    attacks, attacked = [], detector.attacked

    def counted(*rest):
        attacks.append(rest[2])
        return attacked(*rest)

    monkeypatch.setattr(detector, "attacked", counted)
    for localizers in (["builtin"], ["builtin", "robust"]):
        monkeypatch.setattr(sys, "argv", command + localizers)
        detector.main()
    assert attacks == ["untargeted", "hide"] * 2
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"]
    assert [(row["made_for"], row["objective"]) for row in rows] == [
        ("no attack", ""), ("builtin", "untargeted"), ("builtin", "hide"),
        ("robust", "untargeted"), ("robust", "hide"),
    ]  # fmt: skip
    assert all(0 <= row["found"]["f1"] <= 1 and 0 <= row["found"]["score"] <= 1 for row in rows)
    shown = output.with_suffix(".md").read_text(encoding="utf-8")
    assert "| ANSM | no attack | builtin, untargeted |" in shown


def test_an_ansm_without_a_detector_is_refused(images, tmp_path, monkeypatch) -> None:
    command = ["detector.py", str(images), "-o", str(tmp_path / "x.json"), "--weights", "tiny"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(InputError, match="--weights tiny detects nothing"):
        detector.main()
