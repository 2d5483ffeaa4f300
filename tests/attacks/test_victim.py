"""A victim is in eval mode while it is attacked or scored, and then exactly as it was found."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn

from ansm_fast.attacks import (
    ATTACKS,
    Attack,
    TorchattacksAttack,
    as_found,
    cw,
    difgsm,
    fgsm,
    mifgsm,
    pgd,
    segpgd,
    square,
    tifgsm,
    universal_noise,
)
from ansm_fast.attacks.victim import find_modules
from ansm_fast.evaluation.scoring import probability

EPS = 4 / 255
STEPS = {"eps": EPS, "alpha": EPS / 2, "steps": 2}
FUNCTIONS = {
    "fgsm": functools.partial(fgsm, eps=EPS),
    "square": functools.partial(square, eps=EPS, steps=3),
    "universal": functools.partial(universal_noise, eps=EPS, steps=2, size=8),
} | {
    function.__name__: functools.partial(function, **STEPS)
    for function in (pgd, mifgsm, difgsm, tifgsm, segpgd, cw)
}


class Network(nn.Module):
    """Everything that a forward may change: statistics, a counter, masks of dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Conv2d(4, 1, 1)
        self.register_buffer("calls", torch.zeros(()))
        self.modes: set[bool] = set()

    def forward(self, image):
        self.modes |= {part.training for part in self.modules()}
        self.calls += 1
        return self.out(self.drop(torch.relu(self.norm(self.conv(image)))))


@pytest.fixture
def network() -> Network:
    """In train mode but for one part, with gradients of its own, partly frozen."""
    network = Network().train()
    network.drop.eval()
    network.conv.bias.requires_grad_(False)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    return network


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.randint(0, 256, (2, 3, 16, 12), generator=torch.Generator().manual_seed(0)) / 255
    mask = torch.zeros(2, 1, 16, 12)
    mask[:, :, 4:9, 3:8] = 1
    return image, mask


def state_of(network: nn.Module) -> dict[str, object]:
    found: dict[str, object] = {
        f"mode {name}": part.training for name, part in network.named_modules()
    }
    for name, parameter in network.named_parameters():
        grad = None if parameter.grad is None else parameter.grad.tolist()
        found[f"parameter {name}"] = (parameter.requires_grad, grad, parameter.tolist())
    return found | {f"buffer {name}": b.tolist() for name, b in network.named_buffers()}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_leave_the_victim_as_they_found_it(network, pair, name) -> None:
    before = state_of(network)
    Attack(name, EPS, steps=2, objective="own-prediction").run(network, *pair)
    assert state_of(network) == before and network.modes <= {False}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_so_do_the_pure_functions(network, pair, name) -> None:
    before = state_of(network)
    FUNCTIONS[name](network, *pair)
    assert state_of(network) == before and network.modes == {False}


def test_so_do_other_libraries_attacks(network, pair, stand_ins) -> None:
    pytest.importorskip("torchattacks")
    before = state_of(network)
    TorchattacksAttack("PGD", EPS, steps=2).run(network, *pair)
    assert state_of(network) == before and network.modes == {False}


def test_so_does_judging(network, pair) -> None:
    before = state_of(network)
    probability(network, np.zeros((8, 8, 3), np.uint8))
    assert state_of(network) == before and network.modes == {False}


def test_so_does_an_attack_that_fails(network, pair) -> None:
    def failing(image):
        network(image)
        raise RuntimeError("half way")

    before = state_of(network)
    with pytest.raises(RuntimeError, match="half way"):
        Attack("pgd", EPS).run(failing, *pair)
    assert state_of(network) == before and network.modes == {False}


def test_the_mode_of_the_victim_does_not_show_in_the_result(network, pair) -> None:
    attack = Attack("pgd", EPS, steps=3)
    trained = attack(network, *pair)
    assert torch.equal(trained, attack(network.eval(), *pair))
    assert torch.equal(trained, attack(network.requires_grad_(False), *pair))


class Holder:
    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def localize(self, image):
        return self.network(image)


def test_modules_are_found_behind_functions(network, monkeypatch) -> None:
    def inner(image):
        return network(image)

    monkeypatch.setitem(globals(), "a_global", network)
    both = [network, network]
    for victim in (
        network,
        network.forward,
        inner,
        lambda image: inner(image),
        lambda image: a_global(image),  # noqa: F821
        lambda image: sum(one(image) for one in both),
        functools.partial(lambda model, image: model(image), network),
        Holder(network).localize,
        lambda image, model=network: model(image),
    ):
        assert find_modules(victim) == [network]
    assert find_modules(lambda image: image) == []


def test_a_victim_behind_an_ansm_is_seen_too(network, pair) -> None:
    defence = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    before = state_of(network), state_of(defence)
    Attack("pgd", EPS, steps=1).run(lambda x: network(defence(x).clamp(0, 1)), *pair)
    assert (state_of(network), state_of(defence)) == before and network.modes == {False}


def test_data_parallel_and_compiled_victims(network, pair) -> None:
    before = state_of(network)
    expected = Attack("pgd", EPS, steps=2)(network, *pair)
    for victim in (nn.DataParallel(network), torch.compile(network, backend="eager")):
        assert torch.equal(Attack("pgd", EPS, steps=2)(victim, *pair), expected)
        assert state_of(network) == before


def test_scripted_exported_and_lazy_victims(network, pair) -> None:
    expected = Attack("fgsm", EPS, steps=1)(network, *pair)
    plain = nn.Sequential(network.conv, network.norm, nn.ReLU(), network.drop, network.out).train()
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ConvTranspose2d(4, 1, 3))
    script = torch.jit.script(plain)
    before = state_of(script)
    for victim in (script, torch.jit.freeze(torch.jit.script(plain.eval()))):
        assert torch.equal(Attack("fgsm", EPS, steps=1)(victim, *pair), expected)
    exported = torch.export.export(plain.eval(), (pair[0],)).module()
    assert torch.equal(Attack("fgsm", EPS, steps=1)(exported, *pair), expected)
    assert state_of(script) == before and script.training
    assert Attack("fgsm", EPS, steps=1).run(lazy, *pair).linf.max() > 0
    assert lazy.training and lazy[1].training and lazy[0].weight.requires_grad


def test_replaced_buffers_are_put_back() -> None:
    module = nn.Module()
    module.register_buffer("state", torch.zeros(2))
    first = module.state
    with as_found(module):
        module.state = torch.ones(2)
        first += 1
    assert module.state is first and first.tolist() == [0, 0]


def test_inference_mode_around_an_attack_does_not_stop_it(network, pair) -> None:
    expected = Attack("pgd", EPS, steps=2)(network, *pair)
    with torch.inference_mode():
        assert torch.equal(Attack("pgd", EPS, steps=2)(network, *pair), expected)
