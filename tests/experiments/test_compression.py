"""The grid of compressions: bounded, scored as an evaluation would, and not scored twice."""

from __future__ import annotations

import json
import sys

import compression
import pytest
import result_table
import torch

from ansm_fast.errors import InputError


@pytest.mark.parametrize("cut", [4, 24])
def test_the_cut_bounds_what_changes(cut) -> None:
    image = torch.rand(1, 3, 32, 32)
    changed = (compression.compression(50, 0.05, cut)(image) - image).abs().max()
    assert 0.9 * cut / 255 < float(changed) <= cut / 255 + 1e-6


def test_a_grid_is_written_and_goes_on(images, tmp_path, monkeypatch) -> None:
    output = tmp_path / "found.json"
    command = ["compression.py", str(images), "-o", str(output), "--steps", "1"]
    command += ["--cache", str(tmp_path / "cache"), "--blur", "0", "--cut", "16"]
    monkeypatch.setattr(sys, "argv", [*command, "--quality", "75"])
    compression.main()
    first = json.loads(output.read_text(encoding="utf-8"))
    assert [row["quality"] for row in first["rows"]] == [None, 75]
    assert set(first["rows"][1]["hide"]) == {"f1", "false_alarm"}

    calls = []
    figures = compression.mask_figures
    monkeypatch.setattr(
        compression, "mask_figures", lambda *given: calls.append(given) or figures(*given)
    )
    monkeypatch.setattr(sys, "argv", [*command, "--quality", "75", "90"])
    compression.main()
    second = json.loads(output.read_text(encoding="utf-8"))
    assert second["rows"][:2] == first["rows"] and second["rows"][2]["quality"] == 90
    assert len(calls) == len(second["attacks"])
    assert "| 90 | 0.0 | 16 |" in output.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"rows": [], "images": 2}'])
def test_other_results_are_not_overwritten(tmp_path, content) -> None:
    output = tmp_path / "found.json"
    output.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"found.json holds .*give another -o"):
        result_table.rows_of(output, {"images": 3})
    assert output.read_text(encoding="utf-8") == content
