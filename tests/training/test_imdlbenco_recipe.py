"""The recipe for a network of the package imdlbenco, without that package: what surrounds it."""

from __future__ import annotations

import pytest
import torch

from ansm_fast.errors import UserCodeError
from ansm_fast.localizers import load_localizer


def test_weights_that_are_not_there_are_named(monkeypatch) -> None:
    monkeypatch.setenv("PSCC_NET", "nowhere/pscc_net.safetensors")
    with pytest.raises(UserCodeError, match=r"nowhere/pscc_net\.safetensors"):
        load_localizer("recipes.imdlbenco.pscc_net:make")


def test_filters_begin_as_differences_of_one_colour() -> None:
    from recipes.imdlbenco.pscc_net import _differences

    filters = _differences()
    assert filters.shape == (27, 3, 3, 3)
    assert (filters.abs().sum((2, 3)) > 0).sum(1).eq(1).all()
    blind = filters.sum((1, 2, 3)).eq(0)
    assert int(blind.sum()) == 24  # all but each colour's mean
    assert torch.linalg.matrix_rank(filters.flatten(1)) == 27
