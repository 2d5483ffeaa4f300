from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from ansm_fast.cli.evaluate import command
from ansm_fast.images.write import write_png
from ansm_fast.localizers import BuiltinLocalizer, LocalizerConfig, save_localizer
from ansm_fast.models import ANSM, save_ansm


def write_set(root: Path, count: int = 4, pristine: int = 2, seed: int = 0) -> Path:
    """Small forged images of noise; number ``pristine`` is no forgery."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        mask = np.zeros((40, 48), np.uint8)
        mask[5:20, 10 + index : 30] = 255 * (index != pristine)
        write_png(root / "images" / f"{index}.png", rng.integers(0, 256, (40, 48, 3), np.uint8))
        write_png(root / "masks" / f"{index}.png", mask)
    return root


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three forged images and a pristine one."""
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="session")
def other_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two forged images."""
    return write_set(tmp_path_factory.mktemp("other"), count=2, seed=1)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small localizer, a second one, and an ANSM that uses its whole range, untrained.

    The classifiers have no bias, so that the masks are neither empty nor full.
    """
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    found: dict[str, Path] = {}
    for name in ("localizer", "surrogate"):
        found[name] = folder / f"{name}.safetensors"
        localizer = BuiltinLocalizer(LocalizerConfig((8, 8, 8, 8))).eval()
        with torch.no_grad():
            logits = localizer(torch.rand(4, 3, 40, 48))
            localizer.classifier.weight /= logits.std()
            localizer.classifier.bias -= logits.mean()
            localizer.classifier.bias /= logits.std()
        save_localizer(found[name], localizer)
    ansm = ANSM()
    torch.nn.init.normal_(ansm.head.weight, std=0.5)
    found["ansm"] = folder / "a.safetensors"
    record = {
        "config": {"attacks": [{"name": "pgd", "objective": "untargeted", "weight": 1.0}]},
        "localizer": "0123456789abcdef",
    }
    save_ansm(found["ansm"], ansm, record)
    return found


@pytest.fixture
def run() -> Callable[..., Result]:
    """Runs ``evaluate`` on a set; keywords are options, further arguments go as they are."""

    def run(
        small_set: Path, checkpoints: dict[str, Path], *extra: str | Path, **changed: object
    ) -> Result:
        options = {
            "--images": small_set / "images", "--masks": small_set / "masks", "--steps": 2,
            "--localizer": checkpoints["localizer"], "--weights": checkpoints["ansm"],
            "--attacks": "none,pgd,hide,wrong-mask", "--eps": "4/255",
            "--adaptive-steps": 2, "--adaptive-restarts": 2,
        } | {f"--{key}": value for key, value in changed.items()}  # fmt: skip
        arguments = [str(part) for option in options.items() for part in option]
        return CliRunner().invoke(command, [*arguments, *(str(part) for part in extra)])

    return run
