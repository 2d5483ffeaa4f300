from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ansm_fast.models import ANSM, save_ansm


def make_ansm() -> ANSM:
    """An untrained ANSM whose perturbations use their whole range."""
    torch.manual_seed(0)
    ansm = ANSM()
    for module in ansm.modules():
        # Running statistics of their own, so that folding them away is not trivial.
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    torch.nn.init.normal_(ansm.head.weight, std=0.5)
    return ansm.eval()


@pytest.fixture(scope="session")
def ansm() -> ANSM:
    return make_ansm()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, ansm: ANSM) -> Path:
    path = tmp_path_factory.mktemp("weights") / "ansm.safetensors"
    save_ansm(path, ansm)
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
