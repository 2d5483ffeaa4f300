"""Curves of an attack through the defence: the steps that they say, within the budget."""

from __future__ import annotations

import json
import sys

import adaptive_curve
import torch
from torch import nn

from ansm_fast.models import load_ansm


def test_an_ascent_stays_within_the_budget_and_ascends() -> None:
    image = torch.rand(2, 3, 16, 16)
    found = list(
        adaptive_curve.ascent(lambda x: x[:, :1], image, lambda logits: logits.sum(), 4 / 255, 10)
    )
    assert [step for step, _, _ in found] == [0, 1, 2, 5, 10]
    assert torch.equal(found[0][1], image)
    for _, attacked, _ in found:
        assert (attacked - image).abs().max() <= 4 / 255 + 1e-6
        assert attacked.min() >= 0 and attacked.max() <= 1
    losses = [loss for _, _, loss in found]
    assert losses == sorted(losses) and losses[-1] > losses[0]


def test_train_mode_normalizes_by_the_batch_and_leaves_the_statistics() -> None:
    ansm = load_ansm("two_view").eval()
    before = {name: buffer.clone() for name, buffer in ansm.named_buffers()}
    modes = []

    def victim(image):
        modes.append({part.training for part in ansm.modules() if isinstance(part, nn.BatchNorm2d)})
        return ansm.defend(image)

    image = torch.rand(1, 3, 32, 32)
    seen = {mode: adaptive_curve._in_mode(ansm, mode, victim)(image) for mode in ("eval", "train")}
    assert modes == [{False}, {True}]
    assert not any(part.training for part in ansm.modules())
    assert seen["train"].isfinite().all()
    for name, buffer in ansm.named_buffers():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(buffer, before[name]), name


def test_a_call_goes_on_and_shows_the_floor(images, tmp_path, monkeypatch) -> None:
    output = tmp_path / "found.json"
    command = ["adaptive_curve.py", str(images), "-o", str(output), "--steps", "1"]
    command += ["--weights", "robust", "--modes", "eval", "--objectives"]
    calls = []
    run = adaptive_curve.curve

    def counted(*rest):
        calls.append(rest[3])
        return run(*rest)

    monkeypatch.setattr(adaptive_curve, "curve", counted)
    for objectives in (["hide"], ["hide", "untargeted"]):
        monkeypatch.setattr(sys, "argv", command + objectives)
        adaptive_curve.main()
    assert calls == ["hide", "untargeted"]
    document = json.loads(output.read_text(encoding="utf-8"))
    assert [one["step"] for one in document["rows"][0]["curve"]] == [0, 1]
    assert document["floor"] == 2 * 16 * 16 / (16 * 16 + 48 * 48)
    assert "| everything marked |" in output.with_suffix(".md").read_text(encoding="utf-8")
