"""How much a photograph looks attacked: beside its defended pixels, from the same pass."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from ansm_fast.cli.defend import command
from ansm_fast.errors import InputError
from ansm_fast.images.photograph import Photograph
from ansm_fast.inference import Engine
from ansm_fast.models import ANSM, ANSMConfig, save_ansm
from ansm_fast.models.base import BaseANSM
from ansm_fast.models.two_view import TwoViewANSM, TwoViewConfig


@pytest.fixture(scope="module")
def gate() -> ANSM:
    torch.manual_seed(0)
    ansm = ANSM(ANSMConfig(jpeg_quality=80))
    torch.nn.init.normal_(ansm.head.weight, std=0.5)
    torch.nn.init.constant_(ansm.head.bias, -1.0)
    return ansm.eval()


@pytest.fixture(scope="module", params=["gate", "two views"])
def telling(request: pytest.FixtureRequest, gate: ANSM) -> BaseANSM:
    """An ANSM of each kind that tells attacked images from others."""
    if request.param == "gate":
        return gate
    torch.manual_seed(0)
    ansm = TwoViewANSM(TwoViewConfig(variant="tiny"))
    for module in ansm.modules():  # heads begin at zero, and find nothing then
        if isinstance(module, torch.nn.Conv2d) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.5)
    return ansm.eval()


def alone(ansm: BaseANSM, pixels: np.ndarray) -> float:
    full = np.iinfo(pixels.dtype).max
    image = torch.from_numpy(pixels.astype(np.float32) / full).permute(2, 0, 1)[None]
    with torch.no_grad():
        return float(ansm.attack_score(image.expand(1, 3, -1, -1)))


def photographs(rng: np.random.Generator, *shapes: tuple[int, ...]) -> list[Photograph]:
    return [Photograph(rng.integers(0, 255, shape, np.uint8)) for shape in shapes]


def test_every_image_of_a_batch_has_its_own(telling: BaseANSM, rng: np.random.Generator) -> None:
    batch = photographs(rng, (48, 64, 3), (41, 49, 3), (47, 63, 1))
    results = Engine(telling).defend(batch)
    scores = [result.attack_score for result in results]
    expected = [alone(telling, image.pixels) for image in batch]
    assert scores == pytest.approx(expected, abs=1e-5) and len(set(scores)) == 3
    deep = Photograph(rng.integers(0, 65535, (33, 40, 3), np.uint16))
    assert Engine(telling).defend([deep])[0].attack_score == pytest.approx(
        alone(telling, deep.pixels), abs=1e-5
    )


@pytest.mark.parametrize("shape", [(300, 333, 3), (161, 97, 1)])
def test_tiles_count_by_their_own_area(telling: BaseANSM, rng: np.random.Generator, shape) -> None:
    (image,) = photographs(rng, shape)
    image.pixels[: shape[0] // 3] = 128  # so that tiles differ
    cut = Engine(telling, tile=96)
    assert cut.is_tiled(image)
    (tiled,) = cut.defend([image])
    assert tiled.attack_score == pytest.approx(alone(telling, image.pixels), abs=1e-4)


def test_the_network_runs_once(gate: ANSM, rng: np.random.Generator) -> None:
    engine = Engine(gate)
    calls: list[int] = []
    real = engine._network
    engine._network = lambda image: (calls.append(1), real(image))[1]
    engine.defend(photographs(rng, (40, 40, 3)))
    assert len(calls) == 1


def test_an_ansm_without_a_gate_gives_none(ansm: ANSM, rng: np.random.Generator) -> None:
    (result,) = Engine(ansm).defend(photographs(rng, (40, 40, 3)))
    assert result.attack_score is None
    (tiled,) = Engine(ansm, tile=32).defend(photographs(rng, (40, 40, 3)))
    assert tiled.attack_score is None


def defend(folder: Path, out: Path, weights: Path, *extra: str) -> str:
    arguments = ["--batch", folder, "-o", out, "--weights", weights, *extra]
    result = CliRunner().invoke(command, [str(one) for one in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    root = tmp_path / "in"
    root.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8)).save(root / name)
    Image.fromarray(np.full((40, 48, 3), 90, np.uint8)).save(root / "flat.png")
    return root


def test_manifest_and_summary(tmp_path: Path, folder: Path, gate: ANSM) -> None:
    weights, out = tmp_path / "w.safetensors", tmp_path / "out"
    save_ansm(weights, gate, {"attack_threshold": 0.25})
    first = json.loads(defend(folder, out, weights, "--json"))
    records = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    scores = {Path(one["input"]).name: one["attack_score"] for one in records}
    for name, score in scores.items():
        expected = alone(gate, np.asarray(Image.open(folder / name)))
        assert score == round(score, 4) == pytest.approx(expected, abs=1e-4)
    assert (first["scored"], first["attacked_threshold"]) == (3, 0.25)
    assert first["attacked"] == sum(score >= 0.25 for score in scores.values())
    # A second run defends nothing, and still says what it knows.
    highest = max(scores.values())
    told = defend(folder, out, weights, "--attacked-threshold", str(highest))
    assert "0 defended, 3 already done" in told
    assert f"1 of 3 look attacked (attack_score of {highest:g} or more)" in told


def test_without_a_score_nothing_is_counted(tmp_path: Path, folder: Path, weights: Path) -> None:
    out = tmp_path / "out"
    found = json.loads(defend(folder, out, weights, "--json"))
    assert (found["scored"], found["attacked"], found["attacked_threshold"]) == (0, None, None)
    assert "attack_score" not in (out / "manifest.jsonl").read_text()
    with pytest.raises(InputError, match=r"--attacked-threshold 0\.5: this ANSM gives no attack"):
        defend(folder, tmp_path / "other", weights, "--attacked-threshold", "0.5")
    assert not (tmp_path / "other").exists()
