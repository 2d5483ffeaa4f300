"""Each family against what its paper says, and against optima that are known."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ansm_fast.attacks import (
    ATTACKS,
    Attack,
    attack_loss,
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
from ansm_fast.attacks.diverse import DiverseLocalizer, gaussian_kernel, smooth
from ansm_fast.attacks.segmentation import segpgd_weights
from ansm_fast.attacks.square import square_side
from ansm_fast.attacks.universal import apply_universal

EPS = 4 / 255


@pytest.fixture
def grey() -> tuple[torch.Tensor, torch.Tensor]:
    """An image far from black and white, so that nothing is clamped, and its mask."""
    generator = torch.Generator().manual_seed(3)
    image = 0.3 + 0.4 * torch.rand(2, 3, 24, 20, generator=generator)
    return image, (torch.rand(2, 1, 24, 20, generator=generator) > 0.6).float()


def signs(linear, mask):
    """The direction that raises the BCE of a linear localizer, whatever the image."""
    return (1 - 2 * mask) * linear.weight.sign().view(1, 3, 1, 1)


@pytest.mark.parametrize("function", [fgsm, pgd, mifgsm, segpgd])
def test_the_optimum_of_a_linear_localizer_is_reached(linear, grey, function) -> None:
    image, mask = grey
    settings = {} if function is fgsm else {"alpha": EPS / 3, "steps": 8}
    attacked = function(linear, image, mask, eps=EPS, **settings)
    torch.testing.assert_close(attacked - image, EPS * signs(linear, mask), atol=2e-7, rtol=0)


def test_the_l2_step_goes_along_the_gradient(linear, grey) -> None:
    image, mask = grey
    leaf = image.clone().requires_grad_(True)
    gradient = torch.autograd.grad(attack_loss(linear(leaf), mask, "untargeted"), leaf)[0]
    expected = 2 * F.normalize(gradient.flatten(1), dim=1).view_as(gradient)
    attacked = fgsm(linear, image, mask, eps=2.0, norm="l2")
    torch.testing.assert_close(attacked - image, expected, atol=1e-6, rtol=1e-5)
    far = pgd(linear, image, mask, eps=2.0, alpha=1.0, steps=10, norm="l2")
    norms = torch.linalg.vector_norm((far - image).flatten(1), dim=1)
    torch.testing.assert_close(norms, torch.full((2,), 2.0), atol=1e-4, rtol=0)


def test_hide_lowers_every_logit_and_cw_passes_the_threshold(linear, grey) -> None:
    image, mask = grey
    hidden = pgd(linear, image, mask, eps=EPS, alpha=EPS / 2, steps=4, objective="hide")
    down = -EPS * linear.weight.sign().view(1, 3, 1, 1).expand_as(image)
    torch.testing.assert_close(hidden - image, down, atol=2e-7, rtol=0)
    with torch.no_grad():
        before = ((linear(image) > 0) == (mask > 0.5)).float().mean()
        attacked = cw(linear, image, mask, eps=8.0, alpha=0.02, steps=30)
        after = ((linear(attacked) > 0) == (mask > 0.5)).float().mean()
    assert after < 0.1 < before


@pytest.mark.parametrize("name", ATTACKS)
def test_a_sample_is_attacked_alike_alone_and_in_a_batch(linear, batch, name) -> None:
    image, mask, _ = batch
    if name == "universal":
        pytest.skip("one noise for the whole batch: that is what it is")
    attack = Attack(name, EPS, steps=4, seed=3)
    whole = attack(linear, image, mask, sample_ids=[4, 5, 6])
    alone = attack(linear, image[1:2], mask[1:2], sample_ids=[5])
    assert torch.equal(whole[1:2], alone)


def test_segpgd_turns_to_what_it_has_fooled() -> None:
    margins = torch.tensor([2.0, 0.1, -0.1, -3.0])
    assert segpgd_weights(margins, 1, 10).tolist() == [1, 1, 0, 0]
    torch.testing.assert_close(
        segpgd_weights(margins, 6, 10), torch.tensor([0.75, 0.75, 0.25, 0.25])
    )


def test_ti_smooths_the_gradient_and_one_tap_does_nothing(localizer, batch) -> None:
    image, mask, _ = batch
    kernel = gaussian_kernel(5)
    assert kernel.sum().item() == pytest.approx(1) and torch.equal(kernel, kernel.flip(0))
    assert gaussian_kernel(1).tolist() == [1]
    point = torch.zeros(1, 2, 9, 9)
    point[0, 1, 4, 4] = 1
    spread = smooth(point, kernel)
    torch.testing.assert_close(spread[0, 1, 2:7, 2:7], torch.outer(kernel, kernel))
    assert not spread[0, 0].any()
    settings = {"eps": EPS, "alpha": EPS / 4, "steps": 3}
    plain = mifgsm(localizer, image, mask, **settings)
    assert torch.equal(tifgsm(localizer, image, mask, kernel_size=1, **settings), plain)
    assert not torch.equal(tifgsm(localizer, image, mask, **settings), plain)
    with pytest.raises(ValueError, match="size must be an odd whole number >= 1, got 4"):
        gaussian_kernel(4)


def test_di_without_a_chance_is_mifgsm(localizer, batch) -> None:
    image, mask, _ = batch
    settings = {"eps": EPS, "alpha": EPS / 4, "steps": 3}
    plain = mifgsm(localizer, image, mask, **settings)
    assert torch.equal(difgsm(localizer, image, mask, probability=0.0, **settings), plain)
    assert not torch.equal(difgsm(localizer, image, mask, probability=1.0, **settings), plain)


def test_diverse_logits_belong_to_their_pixels(linear) -> None:
    """A localizer that answers with the pixel itself still points to where the square is."""
    image = torch.zeros(1, 3, 60, 60)
    image[..., 20:40, 10:30] = 1
    generators = [torch.Generator().manual_seed(1)]
    diverse = DiverseLocalizer(lambda x: x[:, :1] - 0.5, generators, probability=1.0, lowest=0.8)
    for _ in range(10):
        found = diverse(image) > 0
        assert (found == (image[:, :1] > 0.5)).float().mean() > 0.95


def test_square_never_loses_ground_and_counts(localizer, batch) -> None:
    image, mask, _ = batch
    best: list[torch.Tensor] = []
    attacked = square(
        localizer, image, mask, eps=EPS, steps=40, on_query=lambda query, loss: best.append(loss)
    )
    assert len(best) == 40
    history = torch.stack(best)
    assert (history[1:] >= history[:-1]).all() and (history[-1] > history[0]).all()
    with torch.no_grad():
        last = F.binary_cross_entropy_with_logits(localizer(attacked), mask, reduction="none")
    torch.testing.assert_close(last.flatten(1).sum(1), history[-1], rtol=1e-4, atol=1e-2)
    inside = (image > EPS) & (image < 1 - EPS)
    torch.testing.assert_close(
        (attacked - image).abs()[inside], torch.full_like(image[inside], EPS), atol=1e-6, rtol=0
    )


def test_squares_shrink(localizer) -> None:
    sides = [square_side(query, 1000, (100, 100), 0.8) for query in range(1000)]
    assert sides[0] == 89 and sides == sorted(sides, reverse=True) and sides[-1] < 8


def test_universal_noise_is_one_tile_for_all(localizer, batch) -> None:
    image, mask, _ = batch
    tile = universal_noise(localizer, image, mask, EPS, steps=4, size=16)
    assert tile.shape == (3, 16, 16) and (tile * 255).round().abs().max() <= 4
    grey = torch.full((1, 3, 40, 24), 0.5)
    noise = apply_universal(grey, tile) - grey
    torch.testing.assert_close(noise[0, :, :16, :16], tile, atol=1e-6, rtol=0)
    torch.testing.assert_close(noise[0, :, 16:32, :16], tile, atol=1e-6, rtol=0)
    fitted = Attack("universal", EPS, steps=4, tile=tile)
    result = fitted.run(localizer, image, mask)
    assert result.forwards == 0 and result.within_budget.all()
    with torch.no_grad():
        before, after = (
            attack_loss(localizer(x), mask, "untargeted") for x in (image, result.attacked)
        )
    assert after > before


def test_expectation_beats_one_answer_of_a_random_localizer(batch) -> None:
    """Answers carry noise far larger than the signal: averaged, the gradient's sign shows."""
    generator = torch.Generator().manual_seed(0)

    def random_localizer(image):
        scale = torch.randn(image.shape, generator=generator)
        return (image * (0.3 + scale)).sum(1, keepdim=True)

    image, mask = torch.full((1, 3, 32, 32), 0.5), torch.zeros(1, 1, 32, 32)
    right = []
    for eot in (1, 64):
        attacked = fgsm(random_localizer, image, mask, eps=EPS, eot=eot)
        right.append(float((attacked > image).float().mean()))
    assert right[0] < 0.7 and right[1] > 0.95
