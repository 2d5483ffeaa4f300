"""``ansm-fast export``: what it refuses before it begins, and (slow) what it writes."""

from __future__ import annotations

import pytest
import torch

from ansm_fast.models import load_ansm


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("export a.txt", "FILE must end in .onnx or .pt2, got a.txt"),
        ("export there.onnx", "there.onnx is there already; give another name, or remove it"),
        ("export none/a.onnx", "no such folder: none; make it first"),
        ("export a.onnx --weights none.safetensors", "no such checkpoint: none.safetensors"),
        ("export a.pt2 --outputs mask", "--outputs must be of defended,"),
        ("export a.pt2 --weights tiny --outputs attack_score", "gives no attack_score"),
    ],
)
def test_what_it_refuses(run, tmp_path, monkeypatch, line, said) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.onnx").write_text("mine")
    result = run(line)
    assert result.code and len(result.err) == 1 and said in result.err[0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["there.onnx"]
    assert (tmp_path / "there.onnx").read_text() == "mine"


@pytest.mark.slow
def test_a_program(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("export tiny.pt2 --weights tiny --outputs perturbation")
    assert result.code == 0 and result.out.startswith("tiny.pt2: ") and result.err == []
    image = torch.rand(1, 3, 20, 31)
    with torch.inference_mode():
        (found,) = torch.export.load("tiny.pt2").module()(image)
        assert torch.allclose(found, load_ansm("tiny")(image), atol=1e-5)
