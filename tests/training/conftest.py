"""A handful of forgeries and a localizer trained on them, for all tests of training."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ansm_fast.data.synthesis import synthesize
from ansm_fast.training.config import parse_run
from ansm_fast.training.localizer import train_localizer


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """Root folder, a trained localizer, and a small ANSM configuration against it."""
    root = tmp_path_factory.mktemp("training")
    photographs = root / "photographs"
    photographs.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (160, 140), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(photographs / f"{index}.png"), image)
    synthesize(photographs, root / "set", 16, size=64, seed=3)
    common = {
        "data": {
            "train": str(root / "set"),
            "validation": str(root / "set"),
            "validation_count": 8,
        },
        "photographs": "generated",
        "steps": 4,
        "validate_every": 2,
        "save_every": 2,
        "log_every": 1,
    }
    localizer = common | {
        "kind": "localizer",
        "widths": [8, 8, 8, 8],
        "phases": [
            {"until": 0.5, "crop": 32, "batch_size": 4},
            {"until": 1.0, "crop": 64, "batch_size": 3},
        ],
        "augmentation": {"jpeg_share": 0.5, "resize_share": 0.5},
    }
    run = parse_run(localizer, "test")
    path = train_localizer(run, root / "localizer")
    ansm = common | {
        "kind": "ansm",
        "localizer": str(path),
        "crop": 48,
        "batch_size": 3,
        "attack_cache": str(root / "attacks"),
        "attack_cache_size": 16,
        "attacks": [
            {"name": "pgd", "steps": 2, "objective": "hide"},
            {"name": "fgsm", "objective": "wrong-mask"},
        ],
        "ffa": {"steps": 2, "weight_in_mgr": 0.1},
    }
    return root, path, ansm
