from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ansm_fast.data.atomic import write_png
from ansm_fast.localizers import BuiltinLocalizer, LocalizerConfig, save_localizer
from ansm_fast.models import ANSM, save_ansm


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three forged images and a pristine one."""
    root, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for index in range(4):
        mask = np.zeros((40, 48), np.uint8)
        mask[5:20, 10 + index : 30] = 255 * (index != 2)
        write_png(root / "images" / f"{index}.png", rng.integers(0, 256, (40, 48, 3), np.uint8))
        write_png(root / "masks" / f"{index}.png", mask)
    return root


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small localizer and an ANSM that uses its whole range, untrained."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    save_localizer(folder / "l.safetensors", BuiltinLocalizer(LocalizerConfig((8, 8, 8, 8))))
    ansm = ANSM()
    torch.nn.init.normal_(ansm.head.weight, std=0.5)
    save_ansm(folder / "a.safetensors", ansm)
    return {"localizer": folder / "l.safetensors", "ansm": folder / "a.safetensors"}
