"""Several random starts, and the best iterate of each image by the attack's own loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ansm_fast.attacks import Attack, make_attack, pgd, uniform_start
from ansm_fast.attacks.objectives import make_goal
from ansm_fast.ops import pgd_step_

EPS = 4 / 255


def waves(image: Tensor) -> Tensor:
    """Logits with many local optima, among which every start finds another one."""
    return 3 * torch.sin(150 * image).sum(1, keepdim=True)


def losses(image: Tensor, mask: Tensor, objective: str, wrong: Tensor) -> Tensor:
    return make_goal(objective, mask, wrong).losses(waves(image))  # type: ignore[arg-type]


def iterates(image: Tensor, start: Tensor, alpha: float, steps: int, loss) -> list[Tensor]:
    """Every image of an ascent, the start first."""
    found = [start]
    for _ in range(steps):
        leaf = found[-1].clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(leaf).sum(), leaf)
        found.append(pgd_step_(found[-1].clone(), gradient, image, alpha, EPS))
    return found


@pytest.mark.parametrize("objective", ["untargeted", "hide", "wrong-mask"])
@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("count", [1, 3])
def test_every_image_gets_the_highest_loss_of_all_candidates(batch, objective, keep, count) -> None:
    image, mask, wrong = batch
    starts = [uniform_start(image, EPS, [(turn, i) for i in range(3)]) for turn in range(count)]
    paths = [
        iterates(image, start, 3 / 255, 6, lambda x: losses(x, mask, objective, wrong))
        for start in starts
    ]
    candidates = [one for path in paths for one in (path if keep == "best" else path[-1:])]
    scores = torch.stack([losses(one, mask, objective, wrong) for one in candidates])
    expected = torch.stack(
        [candidates[int(which)][index] for index, which in enumerate(scores.argmax(0))]
    )
    found = pgd(
        waves, image, mask, eps=EPS, alpha=3 / 255, steps=6, objective=objective,
        wrong_mask=wrong, start=starts, keep=keep,
    )  # fmt: skip
    torch.testing.assert_close(losses(found, mask, objective, wrong), scores.amax(0))
    torch.testing.assert_close(found, expected)
    if keep == "best":  # the last step overshot, or there would be nothing to choose
        assert (scores.argmax(0) % 7 != 6).any()


def test_more_starts_and_the_best_iterate_never_do_worse(batch) -> None:
    """Rounding to 8 bits comes after the choice: compared is what was chosen."""
    image, mask, wrong = batch
    plain = Attack("pgd", EPS, steps=5, alpha=3 / 255)
    strong = Attack("pgd", EPS, steps=5, alpha=3 / 255, restarts=3, keep="best")
    seeds = [(0, index) for index in range(3)]
    one, other = (a._attack(waves, image, mask, None, seeds) for a in (plain, strong))
    assert (losses(other, mask, "untargeted", wrong) > losses(one, mask, "untargeted", wrong)).all()


def test_a_sample_has_its_own_starts_whatever_the_batch(batch) -> None:
    image, mask, _ = batch
    attack = Attack("pgd", EPS, steps=2, restarts=3, keep="best", seed=5)
    whole = attack(waves, image, mask)
    alone = attack(waves, image[1:2], mask[1:2], sample_ids=[1])
    assert torch.equal(whole[1:2], alone)
    assert attack(waves, image[:0], mask[:0]).shape == (0, *image.shape[1:])


@pytest.mark.parametrize(
    ("restarts", "keep", "forwards"),
    [(1, "last", 4), (1, "best", 5), (3, "last", 15), (3, "best", 15)],
)
def test_what_choosing_costs(localizer, batch, restarts, keep, forwards) -> None:
    image, mask, _ = batch
    attack = Attack("pgd", EPS, steps=4, restarts=restarts, keep=keep)
    result = attack.run(localizer, image, mask)
    assert (result.forwards, result.backwards) == (3 * forwards, 3 * 4 * restarts)
    assert attack.cost == pytest.approx(4 * restarts + (forwards - 4 * restarts) / 3)


def test_settings_tell_restarts_where_there_are_some() -> None:
    plain = Attack("pgd", EPS).settings()
    assert "restarts" not in plain and "keep" not in plain
    strong = Attack("pgd", EPS, restarts=3, keep="best").settings()
    assert strong == plain | {"restarts": 3, "keep": "best"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"restarts": 0}, "restarts must be >= 1, got 0"),
        ({"keep": "first"}, "keep must be one of last, best, got 'first'"),
        ({"name": "fgsm", "restarts": 2}, "restarts must be 1 .* 'fgsm', got 2 and 'last'"),
        ({"name": "mifgsm", "keep": "best"}, "keep 'last' for the attack 'mifgsm', got 1 and"),
    ],
)
def test_what_cannot_be(arguments, words) -> None:
    with pytest.raises(ValueError, match=words):
        make_attack(**({"name": "pgd", "eps": EPS} | arguments))


def test_no_start_is_none(batch) -> None:
    image, mask, _ = batch
    with pytest.raises(ValueError, match="start must hold an image at least"):
        pgd(waves, image, mask, eps=EPS, alpha=EPS, steps=1, start=[])
