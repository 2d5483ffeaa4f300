"""What an attack says that it spent is what it spent, in 8 bits and in the norm it was given."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from ansm_fast.attacks import ATTACKS, Attack, attack_kind, round_to_levels
from ansm_fast.attacks.budget import whole_levels

PAIRS = [(name, norm) for name in ATTACKS for norm in ("linf", "l2")]
PAIRS.remove(("square", "l2"))


@pytest.mark.parametrize(("name", "norm"), PAIRS)
@pytest.mark.parametrize("eps", [0.0, 1 / 255, 2.6 / 255, 4 / 255])
def test_the_measured_noise_is_within_the_budget(localizer, batch, name, norm, eps) -> None:
    image, mask, _ = batch
    result = Attack(name, eps, steps=3, norm=norm).run(localizer, image, mask)
    levels = result.attacked * 255
    assert torch.equal(levels, levels.round())
    shift = (levels - image * 255).round().double()
    linf = shift.abs().flatten(1).amax(1) / 255
    rms = shift.square().flatten(1).mean(1).sqrt() / 255
    torch.testing.assert_close(result.linf.double(), linf)
    torch.testing.assert_close(result.rms.double(), rms)
    assert (linf if norm == "linf" else rms).max() <= eps + 1e-9
    assert result.within_budget.all() and result.within_budget.shape == (3,)
    assert result.seconds > 0
    if eps >= 4 / 255:
        assert rms.min() > 0


@given(
    seed=st.integers(0, 1000),
    eps=st.floats(0, 9),
    spread=st.floats(0.1, 12),
    norm=st.sampled_from(["linf", "l2"]),
)
# A hair below a whole number of levels, which is what 255 * (2 / 255) may come to.
@example(seed=0, eps=1.9999999999999982, spread=4.0, norm="linf")
@example(seed=0, eps=1.9999999999999982, spread=4.0, norm="l2")
@example(seed=0, eps=1.9998, spread=4.0, norm="linf")
def test_rounding_stays_within_and_wastes_little(seed, eps, spread, norm) -> None:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, 3, 12, 11, generator=generator) * spread
    whole = whole_levels(noise, eps / 255, norm)
    assert torch.equal(whole, whole.round())
    spent = eps / 255 * 255  # what rounding sees of eps, in the same arithmetic
    if norm == "linf":
        levels = math.floor(spent + 1e-4)  # short of a whole one by less than that is whole
        assert torch.equal(whole, noise.round().clamp(-levels, levels))
    else:
        assert whole.double().square().mean((1, 2, 3)).sqrt().max() <= spent + 1e-4
        fits = noise.round().double().square().mean((1, 2, 3)).sqrt() <= spent
        assert torch.equal(whole[fits], noise.round()[fits])


@pytest.mark.parametrize(("name", "norm"), PAIRS)
@pytest.mark.parametrize("levels", [0.5, 2.6, 4.0])
def test_the_budget_is_about_the_image_that_was_given(localizer, batch, name, norm, levels) -> None:
    """An image between two levels, as a resized one is: 4.50 levels were spent of 4."""
    image = torch.rand(3, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    mask = batch[1][..., 5:29, 4:24]
    result = Attack(name, levels / 255, steps=3, norm=norm).run(localizer, image, mask)
    assert torch.equal(result.attacked * 255, (result.attacked * 255).round())
    shift = result.attacked.double() - image.double()
    linf, rms = shift.abs().flatten(1).amax(1), shift.square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(result.linf, linf, atol=1e-6, rtol=0)
    torch.testing.assert_close(result.rms, rms, atol=1e-6, rtol=0)
    assert (linf if norm == "linf" else rms).max() <= levels / 255 + 1e-6
    assert result.within_budget.all()


def test_a_budget_below_rounding_is_said(localizer, batch) -> None:
    image, mask, _ = batch
    attack = Attack("fgsm", 0.3 / 255, steps=1)
    with pytest.warns(UserWarning, match="less than one grey level"):
        assert attack.run(localizer, image, mask).within_budget.all()
    between = image.clone()
    between[1] = (between[1] + 0.4 / 255).clamp(max=1)
    with pytest.warns(UserWarning, match=r"eps 0.3/255 is less than rounding .* 1 of 3 images"):
        result = attack.run(localizer, between, mask)
    assert result.within_budget.tolist() == [True, False, True]
    assert float(result.linf[1]) == pytest.approx(0.4 / 255, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ATTACKS)
def test_other_dtypes_keep_levels_and_budget(localizer, batch, name, dtype) -> None:
    """The rounding of k / 255 to half precision is no distance from level k."""
    image, mask, wrong = (one[:2, :, :24, :20] for one in batch)
    result = Attack(name, 4 / 255, steps=3).run(localizer, image.to(dtype), mask, wrong)
    assert result.attacked.dtype == dtype and result.within_budget.all()
    levels = (result.attacked.double() * 255).round()
    shift = (levels - (image * 255).round()).abs()
    assert 0 < shift.max() <= 4 and float(result.linf.max()) * 255 == pytest.approx(shift.max())


@pytest.mark.parametrize("name", ATTACKS)
def test_no_images_and_views_of_one(localizer, linear, batch, name) -> None:
    image, mask, _ = (one[:, :, :16, :16] for one in batch)
    attack = Attack(name, 4 / 255, steps=2)
    nothing = attack.run(localizer, image[:0], mask[:0])
    assert nothing.attacked.shape == (0, 3, 16, 16) and len(nothing.linf) == 0
    views = image[:1].expand(2, -1, -1, -1), mask[:1].expand(2, -1, -1, -1)
    copies = tuple(one.contiguous() for one in views)
    assert torch.equal(attack(localizer, *views), attack(localizer, *copies))
    strided = image.transpose(2, 3).contiguous().transpose(2, 3)
    for same in (strided, image.contiguous(memory_format=torch.channels_last)):
        # A localizer without long sums, whose order a layout may change.
        assert torch.equal(attack(linear, same, mask), attack(linear, image, mask))


def test_budgets_of_samples_are_their_own() -> None:
    image = torch.full((3, 3, 8, 8), 100 / 255)
    attacked = image + 6 / 255
    eps = torch.tensor([0.0, 2.0, 9.0]) / 255
    shift = (round_to_levels(attacked, image, eps) - image) * 255
    assert shift.flatten(1).amax(1).round().tolist() == [0, 2, 6]


def test_half_levels_are_rounded_and_never_cut_off() -> None:
    image = torch.full((1, 3, 2, 2), 100 / 255)
    attacked = torch.full((1, 3, 2, 2), 103.7 / 255)
    assert (round_to_levels(attacked, image, 8 / 255) * 255).round().unique().item() == 104


@pytest.mark.parametrize(
    ("name", "steps", "forwards", "backwards"),
    [
        ("fgsm", 5, 1, 1),
        ("pgd", 5, 5, 5),
        ("mifgsm", 5, 5, 5),
        ("difgsm", 5, 5, 5),
        ("tifgsm", 5, 5, 5),
        ("segpgd", 5, 5, 5),
        ("cw", 5, 6, 5),
        ("square", 5, 5, 0),
        ("universal", 5, 5, 5),
        ("noise", 5, 0, 0),
    ],
)
def test_forwards_and_backwards_are_counted(
    localizer, batch, name, steps, forwards, backwards
) -> None:
    image, mask, _ = batch
    result = Attack(name, 4 / 255, steps=steps).run(localizer, image, mask)
    assert (result.forwards, result.backwards) == (3 * forwards, 3 * backwards)
    own = Attack(name, 4 / 255, steps=steps, objective="own-prediction").run(localizer, image, mask)
    assert own.forwards == 3 * (forwards + (name != "noise"))
    kind = attack_kind(name)
    assert (kind.forwards(steps), kind.backwards(steps)) == (forwards, backwards)


def test_expectation_over_answers_costs_that_many_queries(localizer, batch) -> None:
    image, mask, _ = batch
    result = Attack("pgd", 4 / 255, steps=2, eot=3).run(localizer, image, mask)
    assert (result.forwards, result.backwards) == (18, 18)


def test_settings_name_all_that_was_chosen() -> None:
    attack = Attack("pgd", 4 / 255, steps=10, norm="l2", objective="hide", seed=7, eot=2)
    assert attack.settings() == {
        "name": "pgd", "eps": 4 / 255, "steps": 10, "alpha": 1 / 255, "objective": "hide",
        "norm": "l2", "seed": 7, "eot": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"norm": "l1"}, "norm must be one of linf, l2, got 'l1'"),
        ({"eot": 0}, "eot must be >= 1, got 0"),
        ({"name": "square", "norm": "l2"}, "norm must be 'linf' for the attack 'square'"),
        ({"tile": torch.zeros(3, 4, 4)}, "tile must be None for the attack 'pgd'"),
    ],
)
def test_settings_that_cannot_be(arguments, words) -> None:
    with pytest.raises(ValueError, match=words):
        Attack(**({"name": "pgd", "eps": 0.1} | arguments))
