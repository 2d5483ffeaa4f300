"""What the registry says of each attack is what it does."""

from __future__ import annotations

import inspect

import pytest
import torch

from ansm_fast.attacks import ATTACKS, Attack, attack_kind, make_attack
from ansm_fast.attacks.registry import KINDS

KEYWORDS = {
    "steps": {"steps"},
    "alpha": {"alpha"},
    "learning_rate": {"alpha"},
    "norm": {"norm"},
    "objective": {"objective", "wrong_mask", "eot"},
    "seeds": {"seeds"},
    "start": {"start"},
    "keep": {"keep"},
}


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "universal"])
def test_the_function_takes_its_options(name) -> None:
    kind = attack_kind(name)
    given = {"eps"}.union(*(KEYWORDS[option] for option in kind.options))
    parameters = inspect.signature(kind.function).parameters
    assert given <= parameters.keys()
    needed = {
        key for key, one in parameters.items()
        if one.kind is one.KEYWORD_ONLY and one.default is one.empty
    }  # fmt: skip
    assert needed <= given


@pytest.mark.parametrize("name", ATTACKS)
def test_only_the_norms_it_knows(name) -> None:
    for norm in ("linf", "l2"):
        if norm in attack_kind(name).norms:
            Attack(name, 4 / 255, norm=norm)
        else:
            with pytest.raises(ValueError, match=f"for the attack '{name}', got '{norm}'"):
                Attack(name, 4 / 255, norm=norm)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_mask_that_is_not_needed_changes_nothing(localizer, batch, name) -> None:
    image, mask, wrong = batch
    other = torch.zeros_like(mask)
    for objective in ("untargeted", "hide", "wrong-mask"):
        tile = {"tile": torch.full((3, 8, 8), 2 / 255)} if name == "universal" else {}
        attack = Attack(name, 4 / 255, steps=8, objective=objective, **tile)
        one, two = (attack(localizer, image, truth, wrong) for truth in (mask, other))
        assert torch.equal(one, two) == attack_kind(name).mask_free(objective)


def test_a_forward_alone_is_a_third_of_a_step() -> None:
    costs = {name: kind.cost(30) for name, kind in KINDS.items()}
    assert costs["fgsm"] == 1 and costs["noise"] == 0 and costs["pgd"] == 30
    assert costs["square"] == pytest.approx(10) and costs["cw"] == pytest.approx(30 + 1 / 3)


def test_names_that_are_no_more_say_what_serves() -> None:
    with pytest.raises(ValueError, match=r"^name 'bim' was removed; use 'pgd'$"):
        make_attack("bim", eps=4 / 255)
    with pytest.raises(ValueError, match="name must be one of fgsm, pgd"):
        make_attack("pgdd", eps=4 / 255)
