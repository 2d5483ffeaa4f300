"""A user's own localizer by name: on the command line, in a cache, in a training config."""

from __future__ import annotations

import sys

import pytest
import torch

from ansm_fast.errors import InputError
from ansm_fast.localizers import Localizer, load_localizer

CODE = """
import torch
from torch import nn
from ansm_fast.localizers import WrappedLocalizer

def make():
    torch.manual_seed({seed})
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    return WrappedLocalizer(network, taps=("0",))

def number():
    return 7
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    (tmp_path / "their_model.py").write_text(CODE.format(seed=1), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "their_model", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return "their_model"


def test_a_function_of_a_module_makes_the_localizer(module, tmp_path) -> None:
    localizer = load_localizer(f"{module}:make")
    assert isinstance(localizer, Localizer) and not localizer.training
    assert localizer(torch.rand(2, 3, 16, 12)).shape == (2, 1, 16, 12)
    assert not any(parameter.requires_grad for parameter in localizer.parameters())
    again = load_localizer(f"{module}:make")
    assert len(localizer.fingerprint) == 16 and again.fingerprint == localizer.fingerprint
    (tmp_path / "their_model.py").write_text(CODE.format(seed=22), encoding="utf-8")
    del sys.modules[module]
    assert load_localizer(f"{module}:make").fingerprint != localizer.fingerprint


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere_to_be_found:make", "cannot import nowhere_to_be_found"),
        ("their_model:other", "their_model has no other"),
        ("their_model:number", r"number\(\) must give a torch module.*got int.*WrappedLocalizer"),
    ],
)
def test_what_is_no_localizer_is_explained(module, name, words) -> None:
    with pytest.raises(InputError, match=words):
        load_localizer(name)


@pytest.mark.parametrize("name", ["weights.safetensors", "C:/weights", "folder/a:b", "a:b:c"])
def test_other_names_are_files(name) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        load_localizer(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("their_model.py", "their_model:make"),
        ("./their_model.py:number", "their_model:number"),
        ("their_model.make", "their_model:make"),
    ],
)
def test_names_of_code_are_told_from_names_of_files(module, name, meant) -> None:
    with pytest.raises(InputError, match=f"is Python code; give module:function, e.g. {meant}$"):
        load_localizer(name)
