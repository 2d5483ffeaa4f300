"""Arguments of attack functions that are wrong: named in one line, before anything is computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ansm_fast.attacks import (
    ATTACKS,
    TorchattacksAttack,
    apply_universal,
    attack_loss,
    cw,
    difgsm,
    fgsm,
    make_attack,
    mifgsm,
    pgd,
    round_to_levels,
    segpgd,
    square,
    tifgsm,
    uniform_start,
    universal_noise,
)

EPS = 4 / 255
STEPS = {"alpha": EPS, "steps": 1}
FUNCTIONS = {
    cw: STEPS | {"norm": "linf"}, difgsm: STEPS, fgsm: {}, mifgsm: STEPS, pgd: STEPS, segpgd: STEPS,
    square: {"steps": 2}, tifgsm: STEPS,
}  # fmt: skip


@pytest.fixture
def batch_of_two():
    return torch.full((2, 3, 8, 6), 0.5), torch.zeros(2, 1, 8, 6)


def never(image):
    raise AssertionError("the localizer was asked")


@pytest.mark.parametrize("attack", FUNCTIONS)
@pytest.mark.parametrize(
    ("eps", "kind", "words"),
    [
        ("4/255", TypeError, "eps must be a number, got str"),
        (None, TypeError, "eps must be a number, got NoneType"),
        ([EPS, EPS], TypeError, "eps must be a number, got list"),
        (np.array([EPS, EPS]), TypeError, "eps must be a number, got ndarray"),
        (torch.full((3,), EPS), ValueError, r"eps must be a number or a tensor of shape \(2,\)"),
        (torch.full((2, 1), EPS), ValueError, r"eps must be a number or .*got \(2, 1\)"),
        (torch.tensor([EPS, float("nan")]), ValueError, r"eps must be >= 0, got \[0.0156.*, nan\]"),
        (torch.tensor([EPS, 2.0]), ValueError, r"eps must be in \[0, 1\], got 2.0"),
    ],
)
def test_budgets_of_functions(batch_of_two, attack, eps, kind, words) -> None:
    with pytest.raises(kind, match=words):
        attack(never, *batch_of_two, eps=eps, **FUNCTIONS[attack])


def test_other_arguments_of_functions(batch_of_two) -> None:
    image, mask = batch_of_two
    logits = torch.zeros_like(mask)

    def start(value):
        return pgd(never, image, mask, eps=EPS, alpha=EPS, steps=1, start=value)

    for call, kind, words in (
        (lambda: pgd(never, image, mask, eps=EPS, alpha=EPS, steps=1.5), TypeError,
         "steps must be a whole number, got 1.5"),
        (lambda: fgsm(never, image, mask, eps=EPS, norm="Linf"), ValueError,
         "norm must be one of 'linf', 'l2', got 'Linf'"),
        (lambda: fgsm(never, image.numpy(), mask, eps=EPS), TypeError,
         r"image must be a tensor, got ndarray; convert it with torch.as_tensor\(image\)"),
        (lambda: fgsm(never, image.to_sparse(), mask, eps=EPS), TypeError, "image must be a dense"),
        (lambda: start(image.numpy()), TypeError, "start must be a tensor, got ndarray"),
        (lambda: start(image.double()), TypeError, "start must have the dtype of image"),
        (lambda: square(never, image, mask, eps=EPS, steps=2, seeds=[1, 2]), TypeError,
         r"seeds must hold a tuple of whole numbers for each image.*got \[1, 2\]"),
        (lambda: square(never, image, mask, eps=EPS, steps=2, seeds=3), TypeError,
         "seeds must be a list"),
        (lambda: tifgsm(never, image, mask, eps=EPS, alpha=EPS, steps=1, kernel_size=3.0),
         ValueError, "kernel's size must be an odd whole number"),
        (lambda: universal_noise(never, image, mask, EPS, size=4.0), ValueError,
         "size must be a whole number >= 1, got 4.0"),
        (lambda: universal_noise(never, image, mask, torch.tensor([EPS, EPS])), TypeError,
         "eps must be a number, got a tensor"),
        (lambda: universal_noise(never, [], [], EPS), ValueError, "images must hold an image"),
        (lambda: apply_universal(image, np.zeros((3, 4, 4))), TypeError, "tile must be a tensor"),
        (lambda: apply_universal(image, torch.full((3, 4, 4), 8.0)), ValueError,
         r"tile must be in \[-1, 1\], got values from 8 to 8; noise of 8 bits is divided by 255"),
        (lambda: apply_universal(image, torch.full((3, 4, 4), float("nan"))), ValueError,
         r"tile must be in \[-1, 1\], got values from nan"),
        (lambda: uniform_start(image, torch.ones(3), [(0,), (1,)]), ValueError,
         r"eps must be a number or a tensor of shape \(2,\)"),
        (lambda: attack_loss(logits, None, "untargeted"), TypeError, "mask must be a tensor"),
        (lambda: attack_loss(logits, mask.numpy(), "untargeted"), TypeError, "got ndarray"),
        (lambda: attack_loss(logits, mask[:1], "hide"), ValueError,
         "mask must have the shape of the logits"),
        (lambda: round_to_levels(image, image, -1.0), ValueError, "eps must be >= 0, got -1"),
        (lambda: round_to_levels(image, image, EPS, "foo"), ValueError, "norm must be one of"),
        (lambda: round_to_levels(image, image[:1], EPS), ValueError, "attacked must have the sh"),
        (lambda: round_to_levels(image.byte(), image.byte(), EPS), TypeError, "image must be fl"),
    ):  # fmt: skip
        with pytest.raises(kind, match=words):
            call()


def test_settings_of_objects(batch_of_two) -> None:
    for settings, kind, words in (
        ({"eps": EPS, "seed": "mine"}, TypeError, "seed must be a whole number, got 'mine'"),
        ({"eps": EPS, "seed": 1.5}, TypeError, "seed must be a whole number"),
        ({"eps": EPS, "alpha": float("inf")}, ValueError, "alpha must be > 0 and finite, got inf"),
        ({"eps": EPS, "iters": 3}, TypeError, "make_attack takes eps and steps, alpha.*got iters"),
        ({}, TypeError, "make_attack takes eps and .*got no eps, such as eps=4/255"),
    ):
        with pytest.raises(kind, match=words):
            make_attack("pgd", **settings)
    with pytest.raises(TypeError, match="eps must be a number, got str"):
        TorchattacksAttack("PGD", "4/255")
    with pytest.raises(ValueError, match="sample_ids must hold a number for each of 2 images"):
        make_attack("pgd", eps=EPS).run(never, *batch_of_two, sample_ids=[1])
    assert make_attack("pgd", eps=EPS, seed=-1).seed == -1


@pytest.mark.parametrize("name", ATTACKS)
def test_images_without_pixels_come_back(batch_of_two, name) -> None:
    image, mask = (one[..., :0] for one in batch_of_two)
    network = nn.Conv2d(3, 1, 1)
    for empty in (0, 2):
        attack = make_attack(name, eps=EPS, steps=2)
        assert attack(network, image[:empty], mask[:empty]).shape == image[:empty].shape
