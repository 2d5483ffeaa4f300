from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
import torch

from ansm_fast.errors import InputError
from ansm_fast.images.photograph import Photograph
from ansm_fast.inference import engines
from ansm_fast.inference.engine import Engine
from ansm_fast.inference.engines import (
    ENGINES,
    check_precision,
    chosen_engine,
    make_network,
    missing,
)
from ansm_fast.models import ANSM, BaseANSM, load_ansm

CPU = torch.device("cpu")


def scene(rng: np.random.Generator, height: int, width: int) -> torch.Tensor:
    """What looks like a photograph to a network: smooth areas, edges, a little noise; in one half
    more of it, as an attack leaves."""
    coarse = torch.from_numpy(rng.random((1, 3, height // 16 + 1, width // 16 + 1), np.float32))
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    noise = torch.from_numpy(rng.integers(-1, 2, (1, 3, height, width)).astype(np.float32))
    noise[..., width // 2 :] *= 6
    levels = (image.clamp(0, 1) * 255 + noise).round().clamp(0, 255)
    return (levels / 255).contiguous(memory_format=torch.channels_last)


def levels(image: torch.Tensor, perturbation: torch.Tensor) -> torch.Tensor:
    return (image + perturbation).clamp(0, 1).mul(255).round()


def check(ansm: BaseANSM, engine: str, rng: np.random.Generator) -> None:
    """Within a grey level of the network as it is for 99.99 % of the pixels, at several sizes."""
    network = make_network(ansm, engine, CPU, streams=2)
    beyond = pixels = 0
    for height, width in ((160, 224), (96, 208), (16, 16)):
        image = scene(rng, height, width)
        with torch.inference_mode():
            expected, expected_map = ansm.perturbation_and_map(image)
            found, found_map = network(image)
        apart = (levels(image, found) - levels(image, expected)).abs().amax(1)
        beyond, pixels = beyond + int((apart > 1).sum()), pixels + apart.numel()
        assert (found_map is None) == (expected_map is None)
        if found_map is not None:
            assert found_map.shape == expected_map.shape
            torch.testing.assert_close(found_map, expected_map, atol=2e-3, rtol=0)
    assert beyond <= 1e-4 * pixels


@pytest.mark.parametrize("name", ["robust", "tiny", "two_view"])
@pytest.mark.parametrize(
    "engine",
    [
        "eager",
        pytest.param("openvino", marks=pytest.mark.slow),
        pytest.param("onnxruntime", marks=pytest.mark.slow),
    ],
)
def test_bundled_networks(engine: str, name: str, rng: np.random.Generator) -> None:
    if lacking := missing(engine):
        pytest.skip(f"{lacking[0]} is not installed")
    check(load_ansm(name), engine, rng)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["robust", "tiny", "two_view"])
def test_reduced_precision(name: str, precision: str, rng: np.random.Generator) -> None:
    """Most pixels as in float32, and the answer whether it was attacked nearly the same."""
    ansm, image = load_ansm(name), scene(rng, 96, 208)
    network = make_network(ansm, "eager", CPU, streams=1, precision=precision)
    with torch.inference_mode():
        expected, expected_map = ansm.perturbation_and_map(image)
        found, found_map = network(image)
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    apart = (levels(image, found) - levels(image, expected)).abs()
    assert apart.mean() < 0.5 and (apart > 2).float().mean() < 0.02
    if expected_map is not None:
        assert (found_map - expected_map).abs().mean() < 0.02


def test_a_precision_that_an_engine_does_not_have() -> None:
    check_precision("fp16", "openvino")
    for precision, engine, message in (
        ("fp8", "eager", "precision must be one of fp32, bf16, fp16, got 'fp8'"),
        ("bf16", "onnxruntime", "engine onnxruntime computes in fp32 on a CPU, not in bf16"),
    ):
        with pytest.raises(InputError, match=message):
            check_precision(precision, engine)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_other_runtimes(engine: str, ansm: ANSM, rng: np.random.Generator) -> None:
    if lacking := missing(engine):
        pytest.skip(f"{lacking[0]} is not installed")
    check(ansm, engine, rng)


@pytest.mark.slow
def test_compiled(ansm: ANSM, rng: np.random.Generator) -> None:
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("torch.compile needs a C++ compiler")
    check(ansm, "compile", rng)


def test_a_size_that_comes_often_gets_a_model_of_its_own(
    ansm: ANSM, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    from ansm_fast.inference.engines import openvino

    monkeypatch.setattr(openvino, "_OFTEN", 3)
    monkeypatch.setattr(openvino, "_KEPT", 2)
    network = openvino.OpenVINONetwork(ansm, 2)
    images = [scene(rng, 32, 16 * width) for width in (1, 2, 3)]
    first = [network(image)[0].clone() for image in images]
    for _ in range(3):
        for image, expected in zip(images, first, strict=True):
            torch.testing.assert_close(network(image)[0], expected, atol=1e-5, rtol=0)
    assert len(network._of_size) == 2


def test_threads_share_an_engine(ansm: ANSM, rng: np.random.Generator) -> None:
    images = [Photograph(rng.integers(0, 256, (48, 64, 3), np.uint8)) for _ in range(6)]
    for name in [name for name in ENGINES if name != "compile" and not missing(name)]:
        engine = Engine(ansm, network=name, streams=3)
        alone = [engine.defend([image])[0].pixels for image in images]
        together: dict[int, np.ndarray] = {}

        def work(index: int, engine: Engine = engine, found: dict = together) -> None:
            found[index] = engine.defend([images[index]])[0].pixels

        threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for index, expected in enumerate(alone):
            assert np.array_equal(together[index], expected), name


def test_what_cannot_run_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="must be auto or one of eager"):
        chosen_engine("tensorrt", "cpu")
    monkeypatch.setattr(engines, "missing", lambda engine: ["openvino"])
    with pytest.raises(InputError, match=r"pip install 'ansm-fast\[openvino\]'"):
        chosen_engine("openvino", "cpu")
    monkeypatch.setattr(engines, "missing", lambda engine: [])
    with pytest.raises(InputError, match="runs on a CPU here, got device cuda"):
        chosen_engine("openvino", "cuda")
