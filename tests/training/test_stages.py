"""The parts of an ANSM's training that a configuration switches: attacks, stages, precision."""

from __future__ import annotations

import csv
import json
import math
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ansm_fast.errors import InputError
from ansm_fast.localizers import WrappedLocalizer, load_localizer
from ansm_fast.models import ANSM
from ansm_fast.training.ansm import find_taps, train_ansm
from ansm_fast.training.attack_config import CurriculumConfig
from ansm_fast.training.config import parse_run
from ansm_fast.training.networks import warm_start
from ansm_fast.training.online import spread
from ansm_fast.training.sampling import AttackSampler, curriculum_eps
from ansm_fast.training.stages import AuxiliaryMaskHead, TwoStageLoss

ADAPTIVE = {"name": "pgd", "steps": 3, "eps": [8, 8], "adaptive": True}


def train(values, out):
    run = parse_run(values, "test")
    train_ansm(run, out)
    return [json.loads(line) for line in (out / "metrics.jsonl").open()]


@pytest.mark.parametrize(
    ("changes", "expected", "absent"),
    [
        ({"ffa": {"steps": 4}, "mgr": {"auxiliary_weight": 0}}, {"ffa"}, {"mgr", "auxiliary"}),
        ({"ffa": {"steps": 0}, "mgr": {"auxiliary_weight": 0}}, {"mgr"}, {"ffa", "auxiliary"}),
        ({"ffa": {"steps": 2}, "mgr": {"auxiliary_weight": 0}}, {"ffa", "mgr"}, {"auxiliary"}),
        ({"ffa": {"steps": 0}, "mgr": {"auxiliary_weight": 1}}, {"mgr", "auxiliary"}, {"ffa"}),
        ({"objective": "pixel_mse"}, set(), {"ffa", "mgr", "auxiliary"}),
        ({"objective": "gate", "jpeg_quality": 80}, {"chosen"}, {"ffa", "mgr", "auxiliary"}),
        ({"precision": "bf16"}, {"ffa", "mgr"}, set()),
        ({"unattacked_share": 0.5, "pristine_share": 0.3}, {"ffa", "mgr"}, set()),
    ],
    ids=["ffa", "mgr", "both", "auxiliary", "pixel_mse", "gate", "bf16", "shares"],
)
def test_every_ablation_trains_by_configuration_alone(
    workspace, tmp_path, changes, expected, absent
):
    _, _, values = workspace
    if "precision" in changes:
        changes = changes | {"attack_cache": str(tmp_path / "attacks")}
    rows = train(values | changes, tmp_path / "run")
    seen = set().union(*rows)
    assert expected <= seen and not absent & seen
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)
    assert math.isfinite(rows[-1]["val_clean_f1"])


def test_weights_that_leave_nothing_to_learn_are_refused(workspace):
    _, _, values = workspace
    nothing = {"ffa": {"steps": 4, "weight": 0}, "mgr": {"auxiliary_weight": 0}}
    with pytest.raises(InputError, match="all weights of ffa are 0"):
        parse_run(values | nothing, "test")
    with pytest.raises(InputError, match="needs an entry"):
        parse_run(values | {"online": {"share": 0.5}}, "test")
    with pytest.raises(InputError, match=r"objective gate needs .* jpeg_quality"):
        parse_run(values | {"objective": "gate"}, "test")
    with pytest.raises(InputError, match="jpeg_blur comes before a compression"):
        parse_run(values | {"jpeg_blur": 0.05}, "test")


def test_pixel_mse_decreases(workspace, tmp_path):
    _, _, values = workspace
    values = values | {
        "objective": "pixel_mse", "steps": 30, "optimizer": {"lr": 5e-3, "warmup": 1},
        "batch_size": 8, "validate_every": 30,
    }  # fmt: skip
    losses = [row["loss"] for row in train(values, tmp_path / "run")]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])


def test_bfloat16_is_close_to_float32_and_keeps_losses_wide(workspace):
    _, path, values = workspace
    found = {}
    for precision in ("fp32", "bf16"):
        loss, batch = make_loss(path, values | {"precision": precision})
        found[precision] = loss(3, *batch)
    assert found["bf16"]["loss"].dtype == torch.float32
    assert not torch.equal(found["bf16"]["loss"], found["fp32"]["loss"])
    torch.testing.assert_close(found["bf16"]["loss"], found["fp32"]["loss"], rtol=0.05, atol=0)


def make_loss(path, values, online=()):
    torch.manual_seed(0)
    run = parse_run(values, "test")
    localizer, ansm, head = load_localizer(path), ANSM().train(), AuxiliaryMaskHead()
    nn.init.normal_(ansm.head.weight, std=0.1)
    loss = TwoStageLoss(run, ansm, head, localizer, localizer.taps)
    image, mask = torch.rand(4, 3, 48, 40), torch.zeros(4, 1, 48, 40)
    mask[:, :, 10:30, 5:20] = 1
    flags = torch.tensor([index in online for index in range(4)])
    return loss, (image, image, mask, mask.roll(1, 0), torch.arange(4), flags)


def test_adaptive_attack_goes_through_the_ansm_and_leaves_its_statistics(workspace):
    _, path, values = workspace
    online = {"share": 0.5, "attacks": [ADAPTIVE]}
    loss, (image, _, mask, wrong, ids, _) = make_loss(path, values | {"online": online})
    loss.localizer.module.classifier.weight.mul_(50)  # four steps of training have made it timid
    before = {key: value.clone() for key, value in loss.ansm.state_dict().items()}
    attacked = loss.online(3, image, mask, wrong, ids)
    for key, value in loss.ansm.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert loss.ansm.training
    assert all(parameter.grad is None for parameter in loss.ansm.parameters())
    assert 0 < float((attacked - torch.round(image * 255) / 255).abs().max()) <= 8.01 / 255
    assert loss.online.spent()["attack"] > 0

    def harm(x):
        with torch.no_grad():
            defended = loss.ansm.eval().defend(x)
            return float(F.binary_cross_entropy_with_logits(loss.localizer(defended), mask))

    assert harm(attacked) > 1.05 * harm(image)
    # The same step makes the same attack, whatever came between; another step another one.
    loss.ansm.train()
    assert torch.equal(loss.online(3, image, mask, wrong, ids), attacked)
    assert not torch.equal(loss.online(3, image, mask, wrong, ids + 4), attacked)


def test_online_budgets_stay_within_the_curriculum(workspace):
    _, path, values = workspace
    ramp = {
        "online": {"share": 0.5, "attacks": [{"name": "pgd", "eps": [2, 8]}]},
        "curriculum": {"ramp": 1.0, "eps_start": 2.0}, "steps": 100,
    }  # fmt: skip
    online = make_loss(path, values | ramp)[0].online
    budgets = [255 * online.choose(step)[1].eps for step in range(100)]
    bounds = [2 + 6 * step / 100 for step in range(100)]
    assert all(budget <= bound + 1e-9 for budget, bound in zip(budgets, bounds, strict=True))
    assert min(budgets) == pytest.approx(2) and max(budgets) >= 6


def test_only_flagged_images_are_attacked_online(workspace, monkeypatch):
    _, path, values = workspace
    online = {"share": 0.5, "attacks": [ADAPTIVE | {"adaptive": False}]}
    loss, batch = make_loss(path, values | {"online": online}, online=(1, 3))
    seen = []
    whole = loss._defended
    monkeypatch.setattr(loss, "_defended", lambda image: (seen.append(image), whole(image))[1])
    loss(3, *batch)
    moved = (seen[0][:4] != batch[0]).flatten(1).any(1)
    assert moved.tolist() == [False, True, False, True]


def test_online_attacks_train_and_their_time_is_logged(workspace, tmp_path):
    root, _, values = workspace
    changes = {
        "online": {"share": 0.5, "attacks": [ADAPTIVE, ADAPTIVE | {"objective": "hide"}]},
        "validation_attacks": [{"name": "pgd", "steps": 2, "adaptive": True}, {"name": "fgsm"}],
        "curriculum": {"ramp": 0.5, "eps_start": 3},
        "accumulate": 3,
    }
    rows = train(values | changes, tmp_path / "run")
    assert all(0 < row["attack_share"] < 1 for row in rows if "mgr" in row or "ffa" in row)
    assert "val_pgd_untargeted_adaptive_f1" in rows[-1] and "val_fgsm_untargeted_f1" in rows[-1]
    plain = train(values, root / "plain")
    assert not any("attack_share" in row for row in plain)


def test_flags_are_spread_evenly():
    assert spread(0.5, 6).tolist() == [False, True] * 3
    assert spread(0.0, 4).sum() == 0 and spread(1.0, 4).sum() == 4
    assert spread(0.3, 10).sum() == 3


def test_curriculum_bounds_the_noise_until_its_ramp_ends():
    config = CurriculumConfig(ramp=0.5, eps_start=2)
    assert curriculum_eps(config, 0, 100, 8) == 2
    assert curriculum_eps(config, 25, 100, 8) == 5
    assert curriculum_eps(config, 50, 100, 8) == math.inf
    assert curriculum_eps(CurriculumConfig(), 0, 100, 8) == math.inf

    eps = np.repeat([1.0, 3.0, 5.0, 8.0], 5)
    sampler = AttackSampler(0, eps, np.ones(20, bool), None, config, 100)
    assert eps[sampler(0, 5)].max() == 1
    assert max(eps[sampler(step, 10)].max() for step in range(25, 33)) == 5
    after = np.concatenate([sampler(step, 10) for step in (50, 51)])
    assert sorted(after) == list(range(20))
    assert np.array_equal(sampler(30, 10), sampler(30, 10))
    least = AttackSampler(0, eps + 5, np.ones(20, bool), None, config, 100)
    assert (eps + 5)[least(0, 8)].max() == 6


def test_pristine_share_is_exact_over_many_batches():
    forged = np.arange(30) >= 10
    sampler = AttackSampler(0, np.ones(30), forged, 0.3, CurriculumConfig(), 100)
    batches = [sampler(step, 6) for step in range(50)]
    assert all(1 <= (~forged[batch]).sum() <= 2 for batch in batches)
    assert sum(int((~forged[batch]).sum()) for batch in batches) == 90
    first_epoch = np.concatenate(batches)
    assert set(first_epoch.tolist()) == set(range(30))
    everything = AttackSampler(0, np.ones(30), np.ones(30, bool), 0.3, CurriculumConfig(), 100)
    assert sorted(np.concatenate([everything(step, 6) for step in range(5)])) == list(range(30))


def test_victim_of_another_kind():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 1, 1))
    victim = WrappedLocalizer(network)
    ansm, head = ANSM(), AuxiliaryMaskHead()
    before = {key: value.clone() for key, value in ansm.state_dict().items()}
    warm_start(ansm, head, victim)
    assert all(torch.equal(value, before[key]) for key, value in ansm.state_dict().items())

    values = {
        "kind": "ansm", "steps": 2, "data": {"train": "a", "validation": "b"}, "attack_cache": "p",
        "photographs": "none", "attacks": [{"name": "pgd"}],
    }  # fmt: skip
    assert find_taps(parse_run(values, "test"), victim) == ()
    aligned = parse_run(values | {"ffa": {"steps": 1}}, "test")
    assert find_taps(aligned, victim) == ("module.0",)  # chosen: the only features
    with pytest.raises(InputError, match="names no submodules to align, and none of them gives"):
        find_taps(aligned, WrappedLocalizer(nn.Conv2d(3, 1, 1)))
    with pytest.raises(InputError, match=r"no submodules module\.9"):
        find_taps(parse_run(values | {"ffa": {"taps": ["module.9"]}}, "test"), victim)
    named = parse_run(values | {"ffa": {"steps": 1, "taps": ["module.0"]}}, "test")
    assert find_taps(named, victim) == ("module.0",)


def test_metrics_as_csv_and_tensorboard(workspace, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, _, values = workspace
    rows = train(values | {"logs": ["csv", "tensorboard"]}, tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in table] == [row["loss"] for row in rows]
    assert table[0]["val_clean_f1"] == "" and float(table[1]["val_clean_f1"]) >= 0
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    scalars = events.Scalars("train/loss")
    assert [scalar.step for scalar in scalars] == [1, 2, 3, 4]
    assert [scalar.value for scalar in scalars] == pytest.approx([row["loss"] for row in rows])
    assert [scalar.step for scalar in events.Scalars("validation/clean_f1")] == [2, 4]


def test_missing_tensorboard_is_explained(workspace, tmp_path, monkeypatch):
    _, _, values = workspace
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'ansm-fast\[train\]'"):
        train(values | {"logs": ["tensorboard"]}, tmp_path)
