"""Other libraries' attacks on localizers: in effect like ours, and always within the budget."""

from __future__ import annotations

import pytest
import torch

from ansm_fast.attacks import Attack, attack_loss
from ansm_fast.attacks.adapters import AdvLibAttack, TorchattacksAttack, TwoClassModel

EPS = 4 / 255


@pytest.fixture
def torchattacks(stand_ins):
    return pytest.importorskip("torchattacks")


@pytest.fixture
def adv_lib(stand_ins):
    return pytest.importorskip("adv_lib.attacks.segmentation")


def reached(localizer, attacked, mask, objective="untargeted") -> float:
    with torch.no_grad():
        return float(attack_loss(localizer(attacked), mask, objective))


def test_two_classes_say_what_the_localizer_says(localizer, batch) -> None:
    image, mask, _ = batch
    with torch.no_grad():
        logits = TwoClassModel(localizer, image.device)(image)
        loss = torch.nn.functional.cross_entropy(logits, mask[:, 0].long(), reduction="sum")
    assert float(loss) == pytest.approx(reached(localizer, image, mask), rel=1e-5)


@pytest.mark.parametrize("objective", ["untargeted", "hide"])
def test_pgd_of_torchattacks_does_what_ours_does(localizer, batch, torchattacks, objective) -> None:
    image, mask, _ = batch
    theirs = TorchattacksAttack("PGD", EPS, objective=objective, alpha=EPS / 4, steps=20)
    ours = Attack("pgd", EPS, steps=20, alpha=EPS / 4, objective=objective)
    result = theirs.run(localizer, image, mask)
    assert result.within_budget.all() and result.linf.max() <= EPS + 1e-9
    assert (result.forwards, result.backwards) == (60, 60)
    levels = result.attacked * 255
    assert torch.equal(levels, levels.round())
    before = reached(localizer, image, mask, objective)
    gained = [
        reached(localizer, attacked, mask, objective) - before
        for attacked in (result.attacked, ours(localizer, image, mask))
    ]
    assert gained[0] > 0 and gained[0] == pytest.approx(gained[1], rel=0.05)


@pytest.mark.parametrize("name", ["FGSM", "BIM", "MIFGSM", "PGDL2"])
def test_other_attacks_of_torchattacks(localizer, batch, torchattacks, name) -> None:
    image, mask, _ = batch
    norm = "l2" if name == "PGDL2" else "linf"
    result = TorchattacksAttack(name, EPS, norm=norm).run(localizer, image, mask)
    assert result.within_budget.all()
    assert reached(localizer, result.attacked, mask) > reached(localizer, image, mask)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dag", {"max_iter": 10, "adv_threshold": 0.9}),
        ("asma", {"num_steps": 20, "τ": 0.1, "objective": "hide"}),
        ("pdgd", {"num_steps": 20}),
        ("pdpgd", {"num_steps": 100}),
    ],
)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_segmentation_attacks_of_adv_lib(linear, batch, adv_lib, name, options, norm) -> None:
    image, mask, _ = batch
    attack = AdvLibAttack(name, 16 / 255, norm=norm, **options)
    result = attack.run(linear, image, mask)
    assert result.within_budget.all() and result.forwards > 0
    spent = result.linf if norm == "linf" else result.rms
    assert spent.min() > 0 and spent.max() <= 16 / 255 + 1e-9
    before, after = (
        reached(linear, one, mask, attack.objective) for one in (image, result.attacked)
    )
    assert after > before
    assert attack.settings()["name"] == f"adv_lib.{name}"


def test_seeds_fix_the_result(localizer, batch, torchattacks) -> None:
    image, mask, _ = batch
    attack = TorchattacksAttack("PGD", EPS, steps=2, seed=3)
    before = torch.random.get_rng_state()
    one, two = (attack(localizer, image, mask) for _ in range(2))
    assert torch.equal(one, two) and torch.equal(torch.random.get_rng_state(), before)


def test_what_the_library_has_not_is_explained(localizer, batch, torchattacks) -> None:
    image, mask, _ = batch
    with pytest.raises(ValueError, match="name must be an attack of torchattacks, got 'Nothing'"):
        TorchattacksAttack("Nothing", EPS)(localizer, image, mask)
    with pytest.raises(
        ValueError, match=r"CW of torchattacks failed .*; use an attack that is not"
    ):
        TorchattacksAttack("CW", EPS, norm="l2", steps=1)(localizer, image, mask)
    with pytest.raises(ValueError, match="'hide' needs a targeted mode, which GN"):
        TorchattacksAttack("GN", EPS, objective="hide")(localizer, image, mask)


def test_a_missing_library_is_named(localizer, batch, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchattacks", None)
    image, mask, _ = batch
    with pytest.raises(ImportError, match=r"pip install 'ansm-fast\[attacks\]'"):
        TorchattacksAttack("PGD", EPS)(localizer, image, mask)
