"""Noise and image move together, and what was found is not looked for again."""

from __future__ import annotations

import json
import sys

import displaced
import numpy as np


def test_places_keep_image_and_mask_together() -> None:
    mask = np.arange(2 * 20 * 30).reshape(2, 20, 30)
    image = np.repeat(mask[..., None], 3, -1)
    for put in displaced.PLACES.values():
        np.testing.assert_array_equal(put(image)[..., 1], put(mask))
    assert displaced.PLACES["middle alone"](mask).shape == (2, 12, 18)
    assert displaced.PLACES["mirrored"](mask)[0, 0, 0] == 29
    assert displaced.PLACES["upside down"](mask)[0, 0, 0] == 19 * 30
    assert displaced.PLACES["moved by a pixel"](mask)[0, 0, 0] == 31


def test_a_call_goes_on(images, tmp_path, monkeypatch) -> None:
    made = []
    attacked = displaced.attacked_images

    def watched(config, victim, data):
        found = attacked(config, victim, data)
        made.append((config.name, config.objective, config.eps, np.abs(found - 1.0 * data.images)))
        return found

    monkeypatch.setattr(displaced, "attacked_images", watched)
    output = tmp_path / "found.json"
    command = ["displaced.py", str(images), "-o", str(output), "--steps", "1", "--count", "2"]
    monkeypatch.setattr(sys, "argv", command)
    displaced.main()
    assert [(name, objective) for name, objective, *_ in made] == [
        ("noise", "untargeted"), ("pgd", "untargeted"), ("fgsm", "untargeted"), ("pgd", "hide"),
        ("pgd", "wrong-mask"), ("tifgsm", "untargeted"),
    ]  # fmt: skip
    assert [change.max() for *_, change in made] == [eps for _, _, eps, _ in made]
    document = json.loads(output.read_text(encoding="utf-8"))
    document["rows"] = document["rows"][:4]
    output.write_text(json.dumps(document), encoding="utf-8")
    displaced.main()
    assert [name for name, *_ in made[6:]] == ["pgd", "tifgsm"]
    assert output.with_suffix(".md").read_text(encoding="utf-8").count("\n") == 8
