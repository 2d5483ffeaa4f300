"""The defence as a module."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ansm_fast.localizers import load_localizer
from ansm_fast.models import Defence, DefendedLocalizer, load_ansm


@pytest.fixture(scope="module")
def ansm():
    return load_ansm("tiny")


@pytest.fixture
def image() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(2, 3, 33, 50)


def test_a_step_of_a_pipeline(ansm, image) -> None:
    pipeline = nn.Sequential(nn.Identity(), Defence(ansm))
    with torch.inference_mode():
        assert torch.equal(pipeline(image), ansm.defend(image))
        assert torch.equal(pipeline(image[0]), ansm.defend(image[:1])[0])
        assert torch.equal(Defence("tiny")(image), ansm.defend(image))
    assert pipeline(image.double()).dtype == torch.float64
    with pytest.raises(ValueError, match="divide 8-bit"):
        pipeline(image * 255)


def test_one_graph(ansm, image) -> None:
    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    graphs: list[object] = []
    module = DefendedLocalizer(load_localizer("builtin"), ansm).requires_grad_(False)
    compiled = torch.compile(module, backend=count, fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(image), module(image), atol=1e-5)
    assert len(graphs) == 1
    torch._dynamo.reset()


def test_a_localizer_behind_it(ansm, image) -> None:
    localizer = load_localizer("builtin")
    module = DefendedLocalizer(localizer, ansm)
    with torch.no_grad():
        assert torch.equal(module(image), localizer(ansm.defend(image)))
    assert module.taps == tuple(f"localizer.{name}" for name in localizer.taps) != ()
    assert all(module.get_submodule(name) is not None for name in module.taps)
    leaf = image.clone().requires_grad_()
    module(leaf).sum().backward()
    assert leaf.grad.abs().max() > 0


def test_what_is_none(ansm) -> None:
    with pytest.raises(TypeError, match="ansm must be an ANSM, got Identity"):
        Defence(nn.Identity())
    with pytest.raises(TypeError, match="localizer must be a module, got function"):
        DefendedLocalizer(lambda image: image, ansm)
