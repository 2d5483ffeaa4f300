"""Whether an image was attacked, as a number: the mean of a map at half the image's size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ansm_fast.images.pixels import read_rgb
from ansm_fast.images.tensors import to_tensor
from ansm_fast.models import ANSM, ANSMConfig, load_ansm, save_ansm

EXAMPLES = Path(__file__).parents[2] / "examples"


def gate() -> ANSM:
    torch.manual_seed(0)
    ansm = ANSM(ANSMConfig(jpeg_quality=80))
    torch.nn.init.normal_(ansm.head.weight, std=0.5)
    return ansm.eval()


@pytest.mark.parametrize("size", [(1, 1), (7, 10), (32, 33)])
def test_the_score_is_the_mean_of_a_map_at_half_the_size(size) -> None:
    ansm, image = gate(), torch.rand(2, 3, *size)
    with torch.no_grad():
        found = ansm.attacked_map(ansm.features(image), size)
        score = ansm.attack_score(image)
        logits, _ = ansm.gate_and_compression(ansm.features(image), size)
    rows, columns = (size[0] + 1) // 2, (size[1] + 1) // 2
    assert found.shape == (2, 1, rows, columns)
    assert found.min() >= 0 and found.max() <= 1 and ansm.has_attack_score
    torch.testing.assert_close(found, logits.sigmoid()[..., :rows, :columns])
    torch.testing.assert_close(score, found.mean((1, 2, 3)))
    assert ansm.attack_score(image[:0]).shape == (0,)


def test_an_ansm_without_a_gate_has_none() -> None:
    ansm, image = ANSM().eval(), torch.rand(1, 3, 16, 16)
    assert not ansm.has_attack_score
    for call in (
        lambda: ansm.attack_score(image),
        lambda: ansm.attacked_map(ansm.features(image), (16, 16)),
    ):
        with pytest.raises(ValueError, match=r"this ANSM has no gate \(jpeg_quality 0\)"):
            call()


def test_the_bundled_gate_tells_attacked_examples() -> None:
    ansm = load_ansm()
    for name in ("000000.png", "000001.png"):
        scores = []
        for folder in ("attacked", "forged"):
            image = to_tensor(read_rgb(EXAMPLES / folder / "images" / name)[None])
            with torch.no_grad():
                scores.append(float(ansm.attack_score(image)))
        assert scores[0] > ansm.attack_threshold > scores[1]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"attack_threshold": 0.31}, 0.31),
        ({"attack_threshold": 1}, 1.0),
        ({"attack_threshold": float("nan")}, 0.5),
        ({"attack_threshold": 2.0}, 0.5),
        ({"attack_threshold": "0.3"}, 0.5),
        ({}, 0.5),
    ],
)
def test_the_threshold_comes_from_the_training(tmp_path: Path, record, expected) -> None:
    path = tmp_path / "a.safetensors"
    save_ansm(path, gate(), record)
    assert load_ansm(path).attack_threshold == expected
