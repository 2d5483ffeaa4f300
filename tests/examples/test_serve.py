"""The service of examples/serve.py."""

from __future__ import annotations

import importlib.util
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ansm_fast

pytest.importorskip("fastapi", reason="examples/serve.py needs fastapi")
pytest.importorskip("httpx", reason="the service is asked by httpx")
from fastapi.testclient import TestClient

NOISE = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
SERVE = Path(__file__).parents[2] / "examples" / "serve.py"


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", dpi=(300, 300))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def serve():
    spec = importlib.util.spec_from_file_location("serve", SERVE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(serve) -> TestClient:
    return TestClient(serve.app)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)


def test_an_image_comes_back_defended_with_its_score_and_metadata(client, pixels) -> None:
    answer = client.post("/defend", content=png(pixels))
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(answer.content))
    assert np.array_equal(np.asarray(image), ansm_fast.defend(pixels))
    assert round(image.info["dpi"][0]) == 300
    scored = client.post("/score", content=png(pixels)).json()
    assert float(answer.headers["x-attack-score"]) == pytest.approx(
        scored["attack_score"], abs=1e-3
    )
    assert isinstance(scored["attacked"], bool)


def test_a_mask(client, serve, pixels) -> None:
    answer = client.post("/mask", content=png(pixels))
    found = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.array_equal(found, serve.defender().mask(pixels))


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 422, "the image is empty"),
        (b"hello", 422, "the image is not a JPEG, PNG, TIFF, WebP or BMP image"),
        (png(NOISE)[:200], 422, "the image is truncated or damaged"),
        (b"x" * 2000, 413, "the image has more than 1500 bytes"),
    ],
)
def test_what_is_no_image_gets_the_reason(
    client, serve, monkeypatch, content, status, said
) -> None:
    monkeypatch.setattr(serve, "MAX_BYTES", 1500)
    for path in ("/defend", "/mask", "/score"):
        answer = client.post(path, content=content)
        assert answer.status_code == status and answer.json()["detail"].startswith(said)


def test_too_many_pixels(client, serve, monkeypatch, pixels) -> None:
    monkeypatch.setattr(serve, "MAX_PIXELS", 99)
    answer = client.post("/defend", content=png(pixels))
    assert answer.status_code == 413
    assert answer.json()["detail"] == "the image has 50x37 = 1850 pixels, more than 99"


def test_several_at_once_share_one_defender(client, serve, pixels) -> None:
    images = [png(np.roll(pixels, shift, 0)) for shift in range(6)]
    wanted = [client.post("/defend", content=image).content for image in images]
    with ThreadPoolExecutor(3) as pool:
        answers = pool.map(lambda image: client.post("/defend", content=image).content, images)
        assert list(answers) == wanted
    assert serve._loaded.cache_info().misses == 1


def test_an_ansm_without_a_score(client, serve, monkeypatch, pixels) -> None:
    without = ansm_fast.Defender("builtin", weights="tiny")
    monkeypatch.setattr(serve, "_loaded", lambda: without)
    assert "x-attack-score" not in client.post("/defend", content=png(pixels)).headers
    answer = client.post("/score", content=png(pixels))
    assert answer.status_code == 404 and "cannot tell" in json.loads(answer.content)["detail"]
