from __future__ import annotations

import json
import sys

import precision
import torch


def test_every_precision_beside_fp32(images, tmp_path, monkeypatch) -> None:
    output, threads = tmp_path / "found.json", torch.get_num_threads()
    command = ["precision.py", str(images), "-o", str(output), "--steps", "1", "--weights", "tiny"]
    monkeypatch.setattr(sys, "argv", command)
    try:
        precision.main()
        found = output.read_bytes()
        monkeypatch.setattr(precision, "measured", None)  # what is known is not measured again
        precision.main()
    finally:
        torch.set_num_threads(threads)
    assert output.read_bytes() == found
    (row,) = json.loads(found)["rows"]
    exact, *others = row["precisions"]
    assert exact["precision"] == "fp32" and exact["pgd"]["differ"] == 0
    assert [one["precision"] for one in others] == ["bf16", "fp16"]
    assert all(0 < one["none"]["differ"] <= 1 for one in others)
    assert exact["none"]["false_alarm"] >= 0 and exact["seconds_per_megapixel"] > 0
