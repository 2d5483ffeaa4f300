"""Victims that give something else than logits, or no gradient: seen at the first batch."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from ansm_fast.attacks import (
    Attack,
    CountedLocalizer,
    TorchattacksAttack,
    ZeroGradientWarning,
    attack_loss,
    fgsm,
    pgd,
    universal_noise,
)
from ansm_fast.errors import LocalizerError
from ansm_fast.localizers import WrappedLocalizer

EPS = 4 / 255


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1)).eval()


def after(network, function):
    return lambda image: function(network(image))


def two(logits):
    return torch.cat([-logits, logits], 1)


KINDS = {
    "sigmoid": (torch.sigmoid, r"from 0\.\d+ to 0\.\d+, which look like prob.*'probabilities'"),
    "softmax": (lambda z: two(z).softmax(1)[:, 1:], "which look like probabilities"),
    "scaled": (lambda z: (z - z.min()) / (z.max() - z.min()), "from 0 to 1, which look like"),
    "rounded": (lambda z: (10 * z).sigmoid().round(), "nothing but 0 and 1.*before round"),
    "steps": (lambda z: (9 * z).round(), "a gradient of 0 everywhere.*round"),
    "detached": (lambda z: z.detach(), r"have no gradient.*detach\(\)"),
    "cut": (lambda z: z.detach() * nn.Parameter(torch.ones(1)), "do not depend on the image"),
    "marked": (lambda z: z > 0, "floating logits, got torch.bool"),
    "nan": (lambda z: z * torch.nan, "finite logits, got NaN"),
    "saturated": (lambda z: (999 * z).sigmoid().logit(), "finite logits, got values from -inf"),
    "two": (two, r"shape \(2, 1, 24, 20\), got \(2, 2, 24, 20\).*'two_class'"),
    "no channel": (lambda z: z[:, 0], r"got \(2, 24, 20\); add the channel"),
    "small": (lambda z: z[..., ::2, ::2], r"got \(2, 1, 12, 10\); resize"),
    "dict": (lambda z: {"mask": z}, "got dict; pass postprocess="),
    "elsewhere": (lambda z: z.to("meta"), "on the image's device cpu, got meta"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", [Attack("pgd", EPS, steps=2), Attack("cw", EPS, norm="l2")])
def test_each_kind_is_said_in_one_line(network, batch_of_two, kind, attack) -> None:
    function, words = KINDS[kind]
    with pytest.raises(LocalizerError, match=words) as found:
        attack.run(after(network, function), *batch_of_two)
    assert "\n" not in str(found.value)


@pytest.fixture
def batch_of_two():
    image = torch.randint(0, 256, (2, 3, 24, 20), generator=torch.Generator().manual_seed(1)) / 255
    mask = torch.zeros(2, 1, 24, 20)
    mask[:, :, 5:15, 4:12] = 1
    return image, mask


@pytest.mark.parametrize("kind", ["sigmoid", "steps", "detached", "nan", "saturated", "two"])
def test_other_libraries_attacks_say_it_too(network, batch_of_two, stand_ins, kind) -> None:
    pytest.importorskip("torchattacks")
    function, words = KINDS[kind]
    with pytest.raises(LocalizerError, match=words):
        TorchattacksAttack("PGD", EPS, steps=2).run(after(network, function), *batch_of_two)


def test_square_needs_no_gradient_but_finite_scores(network, batch_of_two) -> None:
    attack = Attack("square", EPS, steps=4)
    assert attack.run(after(network, lambda z: (9 * z).round()), *batch_of_two).linf.max() > 0
    answers = iter([1.0] + [torch.inf] * 9)
    with pytest.raises(LocalizerError, match="became NaN or infinite for 2 of 2"):
        attack.run(after(network, lambda z: z * next(answers)), *batch_of_two)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_gradient_that_becomes_nan_is_an_error(network, batch_of_two, norm) -> None:
    """Saturation comes with the attack: the first step was fine."""
    scale = iter([1.0, 1.0, torch.nan])
    attack = Attack("mifgsm", EPS, steps=3, norm=norm)
    with pytest.raises(LocalizerError, match=r"not finite for 2 of 2 .*'probabilities'"):
        attack.run(after(network, lambda z: z * next(scale)), *batch_of_two)


def test_one_image_without_a_gradient_stops_no_batch(network, batch_of_two) -> None:
    image, mask = batch_of_two
    image[1] = 1
    victim = lambda x: torch.where(x.flatten(1).mean(1)[:, None, None, None] == 1, 3.0, network(x))  # noqa: E731
    with pytest.warns(ZeroGradientWarning, match="gradient of 1 of 2 images was 0 at every step"):
        result = Attack("mifgsm", EPS, steps=2).run(victim, image, mask)
    assert result.stuck.tolist() == [False, True]
    assert result.linf[0] > 0 == result.linf[1]
    assert torch.equal(result.attacked[1], image[1])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_without_a_gradient_are_no_fault_of_a_localizer_that_has_one(
    network, batch_of_two, norm
) -> None:
    """A white image behind a clamp, alone in its batch."""
    image = torch.ones_like(batch_of_two[0])
    attack = Attack("mifgsm", EPS, steps=2, norm=norm)
    with pytest.warns(ZeroGradientWarning, match="2 of 2"):
        result = attack.run(lambda x: network((x + 0.1).clamp(0, 1)), image, batch_of_two[1])
    assert result.stuck.all() and torch.equal(result.attacked, image)


def test_a_victim_that_gave_gradients_before_may_give_none(network, batch_of_two) -> None:
    """The last batch of a set may be one image without a gradient."""
    image, mask = batch_of_two
    dead = [False]
    counted = CountedLocalizer(
        lambda x: network(x).detach() + 0 * x.sum() if dead[0] else network(x)
    )
    attack = Attack("mifgsm", EPS, steps=2)
    assert not attack.run(counted, image, mask).stuck.any() and counted.gives_gradients
    dead[0] = True
    with pytest.warns(ZeroGradientWarning):
        assert attack.run(counted, image, mask).stuck.all()
    with pytest.raises(LocalizerError, match="gradient of 0 everywhere"):
        attack.run(counted.localizer, image, mask)


def test_a_loss_that_is_flat_is_no_fault(network, batch_of_two) -> None:
    """An attacker who is there already has nothing to climb: not the localizer's doing."""
    image, _ = batch_of_two
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = Attack("mifgsm", EPS, steps=2, objective="hide").run(
            after(network, lambda z: z - 1000), image, torch.zeros(2, 1, 24, 20)
        )
    assert not result.stuck.any()


def test_logits_in_the_unit_interval_are_believed_where_the_graph_shows_them(batch_of_two) -> None:
    plain = nn.Conv2d(3, 1, 1)
    nn.init.constant_(plain.weight, 0.1)
    nn.init.constant_(plain.bias, 0.3)
    assert Attack("fgsm", EPS).run(plain, *batch_of_two).linf.max() > 0
    squeezed = nn.Sequential(plain, nn.Sigmoid())
    with pytest.raises(LocalizerError, match="look like probabilities"):
        Attack("fgsm", EPS).run(squeezed, *batch_of_two)
    said = WrappedLocalizer(squeezed, logits_from="logits")
    assert Attack("fgsm", EPS).run(lambda x: said(x), *batch_of_two).linf.max() > 0
    assert (
        Attack("fgsm", EPS)
        .run(WrappedLocalizer(squeezed, logits_from="probabilities"), *batch_of_two)
        .linf.max()
        > 0
    )


def test_universal_noise_looks_at_all_its_batches(network, batch_of_two) -> None:
    image, mask = batch_of_two
    masks = [mask[:1]] * 2
    victim = lambda x: network(x) if x.mean() < 0.9 else network(x).detach() + 0 * x.sum()  # noqa: E731
    images = [torch.ones_like(image[:1]), image[:1]]
    with pytest.warns(ZeroGradientWarning, match="1 of 2"):
        assert universal_noise(victim, images, masks, EPS, steps=2, size=8).abs().max() > 0
    with pytest.raises(LocalizerError, match="gradient of 0 everywhere"):
        universal_noise(after(network, lambda z: (9 * z).round()), images, masks, EPS, steps=2)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (lambda x: x * 255, r"in \[0, 1\], got values from 0 to 255; divide 8-bit values by 255"),
        (lambda x: x * 4 - 2, r"got values from -2 to 2; .*leave a normalization to"),
        (lambda x: x.where(x > 0.5, torch.nan), r"in \[0, 1\], got NaN"),
        (lambda x: (x * 255).byte(), r"floating \(B, C, H, W\), got torch.uint8.*/ 255"),
        (lambda x: x[0], r"got torch.float32 \(3, 24, 20\); add a batch dimension"),
        (lambda x: x.permute(0, 2, 3, 1), r"got \(2, 24, 20, 3\); put channels first"),
    ],
)
def test_images_out_of_range_or_shape(network, batch_of_two, stand_ins, image, words) -> None:
    given, mask = batch_of_two
    given[0, :, 0, 0], given[0, :, 0, 1] = 0, 1
    for attack in (
        *(Attack(name, EPS, steps=1).run for name in ("pgd", "noise", "universal", "square")),
        lambda *a: pgd(*a, eps=EPS, alpha=EPS, steps=1),
        lambda *a: universal_noise(*a, EPS, steps=1),
        TorchattacksAttack("PGD", EPS).run,
    ):
        with pytest.raises(ValueError, match=words):
            attack(network, image(given), mask)
    with pytest.raises(TypeError, match=r"image must be a tensor.*got list; attack images of diff"):
        Attack("pgd", EPS).run(network, list(given), mask)


def test_a_few_ulps_outside_are_clamped(network, batch_of_two) -> None:
    image, mask = batch_of_two
    image[0, 0, 0, 0] = 1
    off = image * (1 + 2e-7)
    assert off.max() > 1
    attack = Attack("pgd", EPS, steps=2)
    assert torch.equal(attack(network, off, mask), attack(network, image, mask))


@pytest.mark.parametrize("name", ["pgd", "segpgd", "cw", "square"])
def test_masks_of_every_kind_mean_the_same(network, batch_of_two, name) -> None:
    image, mask = batch_of_two
    attack = Attack(name, EPS, steps=3)
    wrong = Attack(name, EPS, steps=3, objective="wrong-mask")
    expected, other = attack(network, image, mask), wrong(network, image, 1 - mask, mask)
    for same in (mask.bool(), mask.byte() * 255, mask.long(), mask.byte(), mask.double()):
        assert torch.equal(attack(network, image, same), expected)
        assert torch.equal(wrong(network, image, 1 - mask, same), other)
    with pytest.raises(
        ValueError, match=r"mask must be in \[0, 1\], got values from 0 to 255; div"
    ):
        attack(network, image, mask * 255)
    with pytest.raises(ValueError, match=r"wrong_mask must be in \[0, 1\], got values from 0 to 2"):
        wrong(network, image, mask, mask * 2)


def test_budgets_in_grey_levels_are_named(network, batch_of_two) -> None:
    with pytest.raises(ValueError, match=r"eps must be in \[0, 1\], got 4; four grey levels"):
        fgsm(network, *batch_of_two, eps=4)


@pytest.mark.parametrize("objective", ["untargeted", "wrong-mask", "own-prediction"])
def test_the_loss_takes_the_same_masks(batch_of_two, objective) -> None:
    _, mask = batch_of_two
    logits = torch.randn(mask.shape)
    expected = attack_loss(logits, mask, objective, mask, mask)
    for same in (mask.bool(), mask.byte() * 255, mask.long()):
        assert torch.equal(attack_loss(logits, same, objective, same, same), expected)
    with pytest.raises(ValueError, match=r"mask must be in \[0, 1\], got values from 0 to 255"):
        attack_loss(logits, mask * 255, objective, mask * 255, mask * 255)


def test_images_that_are_leaves_of_a_graph_stay_leaves(network, batch_of_two) -> None:
    image, mask = batch_of_two
    leaf = image.clone().requires_grad_(True)
    for name in ("pgd", "mifgsm", "cw"):
        attack = Attack(name, EPS, steps=2)
        found = attack(network, leaf, mask)
        assert torch.equal(found, attack(network, image, mask)) and not found.requires_grad
    assert leaf.grad is None and torch.equal(leaf, image)


def test_what_is_no_localizer_and_no_start_is_named(network, batch_of_two) -> None:
    attack = Attack("pgd", EPS, steps=1)
    for victim, words in ((None, "got NoneType"), (nn.Conv2d, "got the class Conv2d; give an in")):
        with pytest.raises(TypeError, match=words):
            attack(victim, *batch_of_two)
    image, mask = batch_of_two
    for start, words in ((image[:1], "the image's shape"), (image * 255, "from 0 to 255; begin")):
        with pytest.raises(ValueError, match=f"start must .*{words}"):
            pgd(network, image, mask, eps=EPS, alpha=EPS, steps=1, start=start)
    for settings, words in (
        ({"eps": "4/255"}, "eps must be a number such as 4/255, got str"),
        ({"eps": EPS, "alpha": "1"}, "alpha must be a number"),
        ({"eps": EPS, "steps": 2.5}, r"steps must be a whole number, got 2\.5"),
    ):
        with pytest.raises(TypeError, match=words):
            Attack("pgd", **settings)


def test_a_budget_below_one_level_is_said(network, batch_of_two) -> None:
    with pytest.warns(UserWarning, match=r"eps 0.3/255 is less than one grey level"):
        Attack("pgd", 0.3 / 255, steps=1)(network, *batch_of_two)
