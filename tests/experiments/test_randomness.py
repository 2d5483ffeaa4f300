"""The random defence: as random as it says, and attacked as one who knows it would."""

from __future__ import annotations

import json
import sys

import pytest
import randomness
import torch

from ansm_fast.attacks import Attack
from ansm_fast.errors import InputError


def test_without_noise_it_is_the_compression_alone() -> None:
    image = torch.rand(1, 3, 32, 32)
    defence = randomness.RandomDefence(lambda x: x[:, :1], sigma=0, draws=3)
    compressed = (image + defence.compress(image)).clamp(0, 1)[:, :1]
    torch.testing.assert_close(defence.once(image), compressed)
    torch.testing.assert_close(defence(image).sigmoid(), compressed.sigmoid())


def test_noise_is_drawn_anew_and_averaged() -> None:
    image = torch.full((1, 3, 64, 64), 0.5)
    defence = randomness.RandomDefence(lambda x: 40 * (x[:, :1] - 0.5), sigma=16, draws=64)
    assert not torch.equal(defence.once(image), defence.once(image))
    once, mean = defence.once(image).sigmoid().std(), defence(image).sigmoid().std()
    assert mean < 0.2 * once


def test_a_set_without_pristine_images_has_its_table() -> None:
    row = {"sigma": 4.0} | {name: {"f1": 0.5} for name in ("none", *randomness.ATTACKS)}
    assert "| 4.0 | 0.500 | 0.500 | 0.500 | 0.500 |" in randomness.table({"rows": [row]})


def test_attacks_are_told_apart_and_a_call_goes_on(images, tmp_path, monkeypatch) -> None:
    calls = []
    run = Attack.__call__

    def watched(self, victim, *rest):
        calls.append(
            (
                self.objective,
                self.eot,
                isinstance(getattr(victim, "__self__", None), randomness.RandomDefence),
            )
        )
        return run(self, victim, *rest)  # fmt: skip

    monkeypatch.setattr(Attack, "__call__", watched)
    output = tmp_path / "found.json"
    command = ["randomness.py", str(images), "-o", str(output), "--steps", "1", "--draws", "2"]
    for sigma in (["0"], ["0", "8"]):
        monkeypatch.setattr(sys, "argv", [*command, "--sigma", *sigma])
        randomness.main()
    assert calls == [
        ("untargeted", 1, False), ("untargeted", 1, True), ("hide", 1, True),
        ("untargeted", 1, False), ("untargeted", 2, True), ("hide", 2, True),
    ]  # fmt: skip
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"]
    assert [row["sigma"] for row in rows] == [0, 8]
    assert set(rows[1]["adaptive"]) == {"f1", "false_alarm"}
    assert "| 8.0 |" in output.with_suffix(".md").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [*command, "--sigma", "0", "--eps", "8"])
    with pytest.raises(InputError, match="other images, attacks or another localizer"):
        randomness.main()
