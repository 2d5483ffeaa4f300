from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ansm_fast.attacks import ATTACKS, OBJECTIVES, Attack, attack_loss, make_attack, round_to_levels


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("eps", [0.0, 1 / 255, 4 / 255, 2.6 / 255])
def test_budget_holds_exactly_in_8_bits(localizer, batch, name, eps) -> None:
    image, mask, wrong = batch
    attacked = make_attack(name, eps=eps, steps=3)(localizer, image, mask, wrong)
    levels = attacked * 255
    assert torch.equal(levels, levels.round())
    shift = (levels - image * 255).round().abs().max()
    assert shift <= int(eps * 255 + 1e-3) and attacked.min() >= 0 and attacked.max() <= 1
    if eps * 255 >= 1:
        assert shift > 0


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "noise"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objective_grows(localizer, batch, name, objective) -> None:
    image, mask, wrong = batch
    attack = Attack(name, 4 / 255, steps=8, objective=objective)
    attacked = attack(localizer, image, mask, wrong)
    with torch.no_grad():
        own = (localizer(image) > 0).float()
        before, after = (
            attack_loss(localizer(x), mask, objective, wrong, own) for x in (image, attacked)
        )
    assert after > before


def test_more_steps_are_stronger_than_one(localizer, batch) -> None:
    image, mask, _ = batch
    with torch.no_grad():
        one, many = (
            attack_loss(localizer(attack(localizer, image, mask)), mask, "untargeted")
            for attack in (Attack("fgsm", 4 / 255), Attack("pgd", 4 / 255, steps=20))
        )
    assert many > one


def test_objectives_are_their_formulas(batch) -> None:
    _, mask, wrong = batch
    logits = torch.randn(mask.shape)
    bce = F.binary_cross_entropy_with_logits
    empty = torch.zeros_like(mask)
    for objective, expected in (
        ("untargeted", bce(logits, mask, reduction="sum")),
        ("hide", -bce(logits, empty, reduction="sum")),
        ("wrong-mask", bce(logits, wrong, reduction="sum")),
        ("own-prediction", bce(logits, 1 - mask, reduction="sum")),
    ):
        found = attack_loss(logits, mask, objective, wrong, 1 - mask)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["pgd", "noise"])
def test_seeds_and_sample_ids_fix_the_start(localizer, batch, name) -> None:
    image, mask, _ = batch
    attack = Attack(name, 4 / 255, steps=2, seed=3)
    whole = attack(localizer, image, mask, sample_ids=[4, 5, 6])
    again = attack(localizer, image, mask, sample_ids=[4, 5, 6])
    alone = attack(localizer, image[1:2], mask[1:2], sample_ids=[5])
    assert torch.equal(whole, again)
    assert (whole[1:2] != alone).float().mean() < 0.01
    other = Attack(name, 4 / 255, steps=2, seed=4)(localizer, image, mask, sample_ids=[4, 5, 6])
    assert (whole != other).float().mean() > 0.3


@pytest.mark.parametrize("name", ["pgd", "noise"])
def test_every_sample_starts_elsewhere(localizer, batch, name) -> None:
    image, mask, _ = batch
    twins, same = image[:1].repeat(2, 1, 1, 1), mask[:1].repeat(2, 1, 1, 1)
    one, other = Attack(name, 8 / 255, steps=1, alpha=1 / 255)(localizer, twins, same)
    assert (one != other).float().mean() > 0.5


def test_the_localizer_is_left_alone(localizer, batch) -> None:
    image, mask, _ = batch
    before = {name: value.clone() for name, value in localizer.state_dict().items()}
    copy = image.clone()
    Attack("pgd", 4 / 255, steps=2)(localizer, image, mask)
    assert torch.equal(image, copy)
    assert all(torch.equal(before[k], v) for k, v in localizer.state_dict().items())
    assert all(parameter.grad is None for parameter in localizer.parameters())


def test_rounds_to_the_nearest_level() -> None:
    image = torch.full((1, 1, 1, 4), 100 / 255)
    attacked = image + torch.tensor([0.6, -0.6, 0.4, -0.4]) / 255
    levels = (round_to_levels(attacked, image, 4 / 255) * 255).round().flatten()
    assert levels.tolist() == [101, 99, 100, 100]


def test_rounding_never_leaves_the_budget() -> None:
    image = torch.arange(256).reshape(1, 1, 16, 16) / 255
    attacked = (image + 3.5 / 255).clamp(0, 1)
    shift = (round_to_levels(attacked, image, 3.5 / 255) - image) * 255
    assert shift.abs().max().round() == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "deepfool"}, "name must be one of"),
        ({"eps": -0.1}, "eps must be in"),
        ({"eps": float("nan")}, "eps must be in"),
        ({"steps": 0}, "steps must be >= 1"),
        ({"alpha": 0.0}, "alpha must be > 0"),
        ({"objective": "destroy"}, "objective must be one of"),
    ],
)
def test_bad_settings(arguments, words) -> None:
    with pytest.raises(ValueError, match=words):
        Attack(**({"name": "pgd", "eps": 0.1} | arguments))


def test_wrong_mask_needs_a_mask(localizer, batch) -> None:
    image, mask, _ = batch
    with pytest.raises(ValueError, match="needs wrong_mask"):
        Attack("pgd", 0.1, objective="wrong-mask")(localizer, image, mask)
    with pytest.raises(ValueError, match="mask must have shape"):
        Attack("pgd", 0.1)(localizer, image, mask[:, 0])
