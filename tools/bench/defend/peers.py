"""What one would write by hand: a plain loop, and scripts for ONNX Runtime and OpenVINO.

Each takes the files, the folder for the results and the ANSM, and calls ``done`` after every image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ansm_fast.models import BaseANSM
from ansm_fast.ops import clamp_project
from tools.bench.defend.plain_graph import plain_onnx

Work = Callable[[Callable[[], None]], None]


def _read(path: Path) -> np.ndarray:
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / 255


def _write(folder: Path, path: Path, image: np.ndarray) -> None:
    levels = (image[0].transpose(1, 2, 0) * 255).round().astype(np.uint8)
    cv2.imwrite(str(folder / f"{path.stem}.png"), cv2.cvtColor(levels, cv2.COLOR_RGB2BGR))


def plain_loop(files: Sequence[Path], output: Path, ansm: BaseANSM) -> Work:
    """Read, the network as it is, write."""

    def work(done: Callable[[], None]) -> None:
        with torch.inference_mode():
            for path in files:
                _write(output, path, ansm.defend(torch.from_numpy(_read(path))).numpy())
                done()

    return work


def _threaded(
    files: Sequence[Path], output: Path, defend: Callable[[np.ndarray], np.ndarray]
) -> Work:
    """Reading and writing in threads beside the network."""

    def work(done: Callable[[], None]) -> None:
        with ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(2) as writers:
            read = [readers.submit(_read, path) for path in files[:8]]
            written: list[Any] = []
            for index, path in enumerate(files):
                if index + 8 < len(files):
                    read.append(readers.submit(_read, files[index + 8]))
                image, read[index] = read[index].result(), None  # type: ignore[assignment]
                written.append(writers.submit(_write, output, path, defend(image)))
                done()
            for each in written:
                each.result()

    return work


def _padded(image: np.ndarray) -> np.ndarray:
    missing = [(0, 0), (0, 0), *((0, -side % 16) for side in image.shape[2:])]
    return np.pad(image, missing, mode="edge") if any(m != (0, 0) for m in missing) else image


def onnxruntime_script(files: Sequence[Path], output: Path, ansm: BaseANSM) -> Work:
    """A session with its defaults."""
    import onnxruntime

    session = onnxruntime.InferenceSession(plain_onnx(ansm), providers=["CPUExecutionProvider"])

    def defend(image: np.ndarray) -> np.ndarray:
        found = session.run(["perturbation"], {"image": _padded(image)})[0]
        return _added(image, found, ansm.eps_d)

    return _threaded(files, output, defend)


def openvino_script(files: Sequence[Path], output: Path, ansm: BaseANSM) -> Work:
    """A compiled model with its defaults, of one size where all images have it."""
    import openvino

    core = openvino.Core()
    model = core.read_model(plain_onnx(ansm))
    sizes = {cv2.imread(str(path)).shape[:2] for path in files[:3]}
    if len(sizes) == 1:
        model.reshape([1, 3, *_padded(_read(files[0])).shape[2:]])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def defend(image: np.ndarray) -> np.ndarray:
        return _added(image, compiled([_padded(image)])[0], ansm.eps_d)

    return _threaded(files, output, defend)


def _added(image: np.ndarray, perturbation: np.ndarray, eps: float) -> np.ndarray:
    own = torch.from_numpy(perturbation[..., : image.shape[2], : image.shape[3]])
    return clamp_project(torch.from_numpy(image), own, eps).numpy()
