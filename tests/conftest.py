"""No test depends on luck: the same commit gets the same verdict on every machine.

Property tests (hypothesis) draw the same examples at every run. To look for new ones::

    HYPOTHESIS_PROFILE=explore pytest tests/ops tests/attacks
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: threads of one would wait for those of another. Torch reads it once.
    os.environ["OMP_NUM_THREADS"] = "1"
# Inductor otherwise starts a process for each core, to compile what takes less than they do.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis.internal.conjecture import providers

from ansm_fast.models import ANSM, save_ansm

# For `tools` and `benchmarks`; last, so that an installed ansm_fast is what is tested.
sys.path.append(str(Path(__file__).resolve().parents[1]))

settings.register_profile("repeatable", deadline=None, max_examples=40, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
if settings.get_current_profile_name() == "repeatable":
    # Hypothesis also draws numbers that it reads in the source of the modules that happen to be
    # loaded, an installed package's not: examples would depend on how ansm_fast was installed.
    providers.is_local_module_file = lambda path: False  # type: ignore[assignment]


class TorchRandom:
    """Lets hypothesis seed torch before every example: what failed once fails again."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


TORCH_RANDOM = TorchRandom()
hypothesis.register_random(TORCH_RANDOM)  # which keeps a weak reference only


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """As many as there are cores for `pytest -n auto`, as far as memory is sure to suffice."""
    return min(8, os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Numbers drawn in a test don't depend on the tests before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (the one that libraries use)
    torch.manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def ansm() -> ANSM:
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
def weights(tmp_path_factory: pytest.TempPathFactory, ansm: ANSM) -> Path:
    path = tmp_path_factory.mktemp("weights") / "ansm.safetensors"
    save_ansm(path, ansm)
    return path
