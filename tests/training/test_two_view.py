"""Training of a two-view ANSM on a few crops: what each stage may change, and what it is told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ansm_fast.errors import InputError
from ansm_fast.localizers import load_localizer
from ansm_fast.models import TwoViewANSM, TwoViewConfig, load_ansm, save_ansm
from ansm_fast.models.checkpoint import lineage
from ansm_fast.ops import bce_dice_loss
from ansm_fast.training.ansm import train_ansm
from ansm_fast.training.attack_cache import AttackCache
from ansm_fast.training.batches import MemorySet
from ansm_fast.training.config import parse_run
from ansm_fast.training.networks import begin_from, make_network, warm_start_two_views
from ansm_fast.training.renewal import Renewal
from ansm_fast.training.stages import FrozenLocalizer
from ansm_fast.training.two_view_batches import TwoViewBatches
from ansm_fast.training.two_view_loss import (
    ATTACKED,
    UNATTACKED,
    UNDECIDED,
    TwoViewLoss,
    attacked_loss,
)
from ansm_fast.training.validation import attack_threshold, rank_auc, restored_score

TWO_VIEW = {
    "architecture": "two_view",
    "variant": "tiny",
    "jpeg_quality": 82,
    "detect": {"steps": 2, "crop": 48, "batch_size": 3},
    "ffa": {"steps": 1},
    "steps": 5,
}


def make_loss(path, values, **changes):
    torch.manual_seed(0)
    run = parse_run(values | TWO_VIEW | changes, "test")
    localizer = load_localizer(path)
    ansm = TwoViewANSM(TwoViewConfig("tiny")).train()
    loss = TwoViewLoss(run, ansm, localizer, localizer.taps)
    image, mask = torch.rand(4, 3, 48, 40), torch.zeros(4, 1, 48, 40)
    mask[:, :, 10:30, 5:20] = 1
    return loss, (image, mask)


def to_write(image, mask):
    none = torch.zeros(len(image), dtype=torch.bool)
    return image, image.roll(1, 3), mask, mask.roll(1, 0), torch.arange(len(image)), none


def states(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def trained(workspace, tmp_path_factory):
    _, _, values = workspace
    folder = tmp_path_factory.mktemp("two_view")
    values = values | {"attack_cache": str(folder / "attacks")} | TWO_VIEW | {"renew_every": 2}
    return values, folder, train_ansm(parse_run(values, "test"), folder / "run")


def test_three_stages_leave_a_checkpoint(trained):
    _, folder, path = trained
    ansm = load_ansm(path)
    assert isinstance(ansm, TwoViewANSM) and 0 <= ansm.attack_threshold <= 1
    image = torch.rand(1, 3, 37, 50)
    assert ansm.defend(image).shape == image.shape
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert "detected" in rows[1] and "ffa" in rows[2] and "mgr" in rows[3]
    assert "ffa" not in rows[1] and "mgr" not in rows[2] and "detected" not in rows[3]
    assert "val_pgd_hide_attacked_auc" in rows[4] and "renewal_share" in rows[4]


def test_a_run_goes_on_where_it_stopped(trained, tmp_path):
    """With the same weights, and with the attacks that were renewed before."""
    values, _, path = trained
    values = values | {"attack_cache": str(tmp_path / "attacks"), "save_every": 1}
    for stop in (1, 3, None):
        run = parse_run(values | {"stop_after": stop}, "test")
        ended = train_ansm(run, tmp_path / "run")
    one, other = load_ansm(path).state_dict(), load_ansm(ended).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_detection_asks_nothing_of_the_writer_and_of_a_held_view(workspace):
    _, path, values = workspace
    loss, (image, mask) = make_loss(
        path, values, detect=TWO_VIEW["detect"] | {"second_view": False}
    )
    before = states(loss.ansm.detector.compressed_body)
    loss(0, image, mask, torch.tensor([1.0, 0.0, 1.0, -1.0]))["loss"].backward()
    assert all(p.grad is None for p in loss.ansm.writer.parameters())
    assert all(p.grad is None for p in loss.ansm.detector.compressed_body.parameters())
    assert all(p.grad is not None for p in loss.ansm.detector.body.parameters())
    after = states(loss.ansm.detector.compressed_body)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_detection_under_attacks_on_the_detector_itself(workspace):
    _, path, values = workspace
    attack = {"name": "pgd", "objective": "hide", "steps": 2, "eps": [4, 4]}
    adversarial = {"share": 0.5, "attacks": [attack]}
    detect = TWO_VIEW["detect"] | {"second_view": False, "adversarial": adversarial}
    loss, (image, mask) = make_loss(path, values, detect=detect)
    answers, before = torch.tensor([0.0, 1.0, 0.0, -1.0]), states(loss.ansm)
    seen, told = loss._attack_itself(0, image, mask, answers)
    changed = (seen - image).abs().amax((1, 2, 3)) * 255
    # Of the two unattacked images the second, by no more than the budget.
    assert changed.tolist() == pytest.approx([0, 0, 4, 0], abs=0.01)
    assert told.tolist() == [0, 1, 1, -1]
    losses = loss(0, image, mask, answers)
    losses["loss"].backward()
    assert all(p.grad is not None for p in loss.ansm.detector.body.parameters())
    assert all(torch.equal(before[name], value) for name, value in states(loss.ansm).items())
    assert loss.ansm.training and loss.spent()["attack"] > 0

    with torch.no_grad():

        def found(image: torch.Tensor) -> float:
            return float(torch.sigmoid(loss._found(image)).mean())

        assert found(seen[2:3]) < found(image[2:3])  # which is what hiding asks for
    wrong = detect | {"adversarial": {"share": 0.5, "attacks": [attack | {"adaptive": True}]}}
    with pytest.raises(InputError, match=r"detect\.adversarial .* leave out `adaptive`"):
        parse_run(values | TWO_VIEW | {"detect": wrong}, "test")


def test_the_first_view_learns_to_find_by_itself(workspace):
    _, path, values = workspace
    gradients = []
    for weight in (0.0, 1.0):
        detect = TWO_VIEW["detect"] | {"first_view_weight": weight}
        loss, (image, mask) = make_loss(path, values, detect=detect)
        losses = loss(0, image, mask, torch.ones(4))
        losses["loss"].backward()
        gradients.append(loss.ansm.detector.classifier.weight.grad)
        own = losses.get("detected_first", torch.tensor(0.0))
        parts = losses["detected"] + 0.5 * losses["attacked"] + weight * own
        assert float(losses["loss"].detach()) == pytest.approx(float(parts.detach()), rel=1e-6)
        assert ("detected_first" in losses) == (weight > 0)
    with torch.no_grad():
        logits = loss._look(image).first_mask.requires_grad_()
    at_size = nn.functional.interpolate(logits, scale_factor=2.0, mode="bilinear")[..., :40]
    wanted = bce_dice_loss(at_size, mask).detach()
    assert float(losses["detected_first"].detach()) == pytest.approx(float(wanted), rel=1e-5)
    assert not torch.allclose(*gradients)


@pytest.mark.parametrize("step", [2, 3])
def test_writing_leaves_the_detector_and_the_localizer(workspace, step):
    _, path, values = workspace
    loss, batch = make_loss(path, values)
    before = states(loss.ansm.detector), states(loss.localizer.module)
    loss(step, *to_write(*batch))["loss"].backward()
    assert all(p.grad is None for p in loss.ansm.detector.parameters())
    assert all(p.grad is not None and p.grad.any() for p in loss.ansm.writer.parameters())
    for old, module in zip(before, (loss.ansm.detector, loss.localizer.module), strict=True):
        assert all(torch.equal(old[name], value) for name, value in module.state_dict().items())


def test_the_writer_learns_to_write(workspace):
    """What the detector found appears in the localizer's mask of the attacked images."""
    _, path, values = workspace
    loss, (image, mask) = make_loss(path, values, mgr={"weight_orig": 0.0})
    image, real = image * 0.02 + 0.5, loss.ansm.features

    def finds_the_truth(seen):
        halved = nn.functional.max_pool2d(mask, 2).repeat(2, 1, 1, 1)
        return replace(real(seen), mask=nn.functional.pad(halved * 12 - 6, (0, 4)))

    loss.ansm.features = finds_the_truth
    contrast = nn.Conv2d(3, 1, 3, padding=1)  # that of the workspace is dead after four steps
    nn.init.normal_(contrast.weight, std=3.0)
    loss.localizer = FrozenLocalizer(contrast.requires_grad_(False), "fp32")
    optimizer = torch.optim.AdamW(loss.ansm.writer.parameters(), 3e-3)
    found = []
    for _ in range(25):
        losses = loss(4, *to_write(image, mask))
        found.append(float(losses["mgr"].detach()))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert np.mean(found[-5:]) < 0.8 * found[0]


def test_undecided_images_do_not_count():
    logits = torch.tensor([2.0, -1.0, 5.0]).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    found = attacked_loss(logits, torch.tensor([ATTACKED, UNATTACKED, UNDECIDED]))
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))) / 2
    assert float(found) == pytest.approx(expected, rel=1e-6)
    assert attacked_loss(logits, torch.full((3,), UNDECIDED)) == 0


def cache_of(values, training_set, names):
    count = len(names)
    indices = np.arange(count) % len(training_set)
    attacked = 255 - training_set.images[indices]
    return AttackCache(attacked, indices, np.full(count, 4.0), np.array(names))


def test_a_batch_says_what_was_attacked(workspace):
    _, _, values = workspace
    detect = {"steps": 2, "crop": 64, "batch_size": 8}
    for share, names, answer in (
        (0.0, ["pgd_hide"] * 8, ATTACKED),
        (0.0, ["noise_untargeted"] * 8, UNDECIDED),
        (1.0, ["pgd_hide"] * 8, UNATTACKED),
    ):
        changes = {"detect": detect | {"original_share": share}, "mirror": False}
        run = parse_run(values | TWO_VIEW | changes, "test")
        training_set = MemorySet.training(run.data)
        cache = cache_of(values, training_set, names)
        batches = TwoViewBatches(run, training_set, cache, lambda step: None)
        seen, mask, answers = batches(0)
        assert answers.tolist() == [answer] * 8
        images = {training_set.images[i].tobytes(): i for i in range(len(training_set))}
        pixels = (seen * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for own, truth in zip(pixels, mask, strict=True):
            index = images[(own if share else 255 - own).tobytes()]
            assert np.array_equal(truth[0].numpy() > 0, training_set.masks[index])


def test_moved_noise_is_neither_kind_and_unattacked_images_are_any(workspace):
    _, _, values = workspace
    detect = {"steps": 40, "crop": 64, "batch_size": 8, "harmless": {"noise_share": 0.0}}
    for share, answer in ((0.0, UNDECIDED), (1.0, UNATTACKED)):
        changes = {"steps": 50, "detect": detect | {"original_share": share}}
        run = parse_run(
            values | TWO_VIEW | changes | {"mirror": False, "transplant_share": 1.0}, "test"
        )
        training_set = MemorySet.training(run.data)
        cache = cache_of(values, training_set, ["pgd_hide"] * 2)
        batches = TwoViewBatches(run, training_set, cache, lambda step: None)
        shown = set()
        for step in range(20):
            seen, _, answers = batches(step)
            assert set(answers.tolist()) == {answer}
            shown |= {image.tobytes() for image in (seen * 255).round().byte().numpy()}
        if answer == UNATTACKED:
            assert len(shown) > len(cache)


def test_detection_alone_sees_the_noise_of_other_localizers(workspace):
    _, _, values = workspace
    detect = {"steps": 2, "crop": 64, "batch_size": 8, "original_share": 0.0}
    changes = {"detect": detect, "mirror": False, "crop": 64, "batch_size": 4}
    run = parse_run(values | TWO_VIEW | changes, "test")
    training_set = MemorySet.training(run.data)
    own = cache_of(values, training_set, ["pgd_hide"] * 4)
    own.attacked[:], other = 0, cache_of(values, training_set, ["pgd_hide"] * 4)
    other.attacked[:] = 255

    def renew(step: int) -> None:
        own.attacked[:] = 128

    batches = TwoViewBatches(run, training_set, own, renew, [other])
    seen, _, answers = batches(0)
    # Every entry of both once an epoch, and of its own what was renewed.
    levels = (seen * 255).round().mean((1, 2, 3)).tolist()
    assert sorted(levels) == [128.0] * 4 + [255.0] * 4
    assert answers.tolist() == [ATTACKED] * 8
    attacked = batches(2)[0]
    assert (attacked * 255).round().unique().tolist() == [128.0]


def test_a_run_makes_the_attacks_of_other_localizers_and_names_them(workspace, tmp_path):
    _, _, values = workspace
    other = {"localizer": "builtin", "attack_cache": str(tmp_path / "o"), "attack_cache_size": 8}
    values = values | TWO_VIEW | {"attack_cache": str(tmp_path / "own"), "steps": 4}
    values["detect"] = TWO_VIEW["detect"] | {"other_localizers": [other]}
    path = train_ansm(parse_run(values, "test"), tmp_path / "run")
    card = json.loads((tmp_path / "o" / "attack_cache.json").read_text())
    assert card["victim"] == load_localizer("builtin").fingerprint
    assert lineage(path, "ansm")["other_localizers"] == [card["victim"]]
    (tmp_path / "o" / "attack_cache.json").write_text(json.dumps(card | {"victim": "?"}))
    with pytest.raises(InputError, match="attacks made with other settings"):
        train_ansm(parse_run(values, "test"), tmp_path / "another")


def test_harmless_changes_are_no_attack(workspace):
    _, _, values = workspace
    detect = {"steps": 2, "crop": 48, "batch_size": 8, "original_share": 1.0}
    detect["harmless"] = {"noise_share": 1.0, "noise_sigma": 3.0, "jpeg_share": 1.0}
    run = parse_run(values | TWO_VIEW | {"detect": detect}, "test")
    training_set = MemorySet.training(run.data)
    cache = cache_of(values, training_set, ["pgd_hide"] * 8)
    batches = TwoViewBatches(run, training_set, cache, lambda step: None)
    assert batches(0)[2].tolist() == [UNATTACKED] * 8
    assert all(torch.equal(one, other) for one, other in zip(batches(1), batches(1), strict=True))


def test_renewed_attacks_come_with_images_of_their_own(workspace, tmp_path):
    _, path, values = workspace
    run = parse_run(values | TWO_VIEW | {"renew_every": 2}, "test")
    training_set = MemorySet.training(run.data)
    localizer = load_localizer(path)

    def at(step, folder):
        cache = cache_of(values, training_set, ["old_hide"] * 16)
        renewal = Renewal(run, cache, training_set, localizer, folder, "cpu")
        renewal(step)
        return cache

    early = at(3, tmp_path / "one")
    assert list(early.names[:8]).count("old") == 0 and set(early.names[8:]) == {"old"}
    noise = early.attacked[:8].astype(int) - training_set.images[early.indices[:8]]
    assert 0 < np.abs(noise).max() <= 8  # the attack's budget, of the very image
    late = at(10, tmp_path / "one")
    assert "old" not in late.names and not np.array_equal(early.attacked[:8], late.attacked[:8])
    again = at(10, tmp_path / "two")
    assert np.array_equal(late.attacked, again.attacked)
    assert np.array_equal(late.indices, again.indices)


def test_a_shift_of_the_map_makes_doubtful_regions_unattacked(workspace, tmp_path):
    _, path, values = workspace
    torch.manual_seed(0)
    save_ansm(
        tmp_path / "a.safetensors",
        TwoViewANSM(TwoViewConfig("tiny", jpeg_blur=0.0)),
        {"localizer": "x"},
    )
    image, maps = torch.rand(1, 3, 64, 64), []
    for shift in (0.0, 1.5):
        changes = {"initial": str(tmp_path / "a.safetensors"), "attacked_shift": shift}
        run = parse_run(values | TWO_VIEW | changes, "test")
        ansm = make_network(run, load_localizer(path))[0].eval()
        maps.append(ansm.features(image).attacked.detach())
    torch.testing.assert_close(maps[1], maps[0] - 1.5)
    with pytest.raises(InputError, match="attacked_shift is for the map of a trained ANSM"):
        parse_run(values | TWO_VIEW | {"attacked_shift": 1.0}, "test")


def test_of_another_localizers_ansm_the_detector_alone_is_taken(tmp_path):
    torch.manual_seed(0)
    other = TwoViewANSM(TwoViewConfig("tiny"))
    save_ansm(tmp_path / "a.safetensors", other, {"localizer": "theirs"})
    for localizer, same in (("theirs", True), ("mine", False)):
        ansm = TwoViewANSM(TwoViewConfig("tiny", eps_d=8 / 255))
        begin_from(ansm, tmp_path / "a.safetensors", localizer)
        found = ansm.state_dict()
        for name, value in other.state_dict().items():
            if name.startswith("detector."):
                assert torch.equal(found[name], value), name
        head = "writer.head.weight"
        assert torch.equal(found[head], other.state_dict()[head]) == same
    plain = TwoViewANSM(TwoViewConfig("tiny", jpeg_quality=0))
    with pytest.raises(InputError, match=r"initial: .*jpeg_quality 82.*jpeg_quality 0"):
        begin_from(plain, tmp_path / "a.safetensors")


@pytest.mark.parametrize(("variant", "localizer"), [("base", "robust"), ("tiny", "builtin")])
def test_both_bodies_begin_as_the_bundled_localizer_of_their_widths(variant, localizer):
    ansm, robust = TwoViewANSM(TwoViewConfig(variant)), load_localizer(localizer)
    warm_start_two_views(ansm)
    for body in (ansm.detector.body, ansm.detector.compressed_body):
        found = body.state_dict()
        for name, value in robust.body.state_dict().items():
            assert torch.equal(found[name], value), name
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        second = ansm.eval().detector.compressed(image)[0]
        body = ansm.detector.compressed_body(ansm.detector.compressed_front_end(second))
        own = nn.functional.interpolate(
            ansm.detector.compressed_classifier(body), scale_factor=2.0, mode="bilinear"
        )
        torch.testing.assert_close(own, robust(second), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "single_view", "variant": "base"}, "variant must be tiny"),
        ({"architecture": "single_view", "renew_every": 2}, "renew_every is for"),
        ({"objective": "pixel_mse"}, "objective must be two_stage"),
        ({"detail": 8}, "detail is for architecture single_view"),
        ({"renew_every": 2, "workers": 1}, "give workers 0"),
        (
            {"unattacked_share": 0.2},
            "unattacked_share is for architecture single_view; leave it at",
        ),
        ({"mgr": {"auxiliary_weight": 2}}, "mgr.auxiliary_weight is for architecture single_view"),
        ({"architecture": "single_view", "attacked_map": False}, "attacked_map is for"),
        ({"architecture": "single_view", "mgr": {"strength_weight": 0}}, "mgr.strength_weight is"),
    ],
)
def test_fields_that_do_not_fit_the_architecture_are_named(workspace, changes, message):
    _, _, values = workspace
    with pytest.raises(InputError, match=message):
        parse_run(values | TWO_VIEW | changes, "test")


def test_the_rank_auc_counts_pairs():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 6, 30), rng.integers(0, 6, 20)
    pairs = [(a > b) + 0.5 * (a == b) for a in one for b in other]
    assert rank_auc(list(one), list(other)) == pytest.approx(np.mean(pairs))
    assert rank_auc([1.0], [0.0]) == 1.0 and rank_auc([0.0], [1.0]) == 0.0


def test_the_score_of_a_defence():
    figures = {
        "clean_f1": 0.8, "clean_false_alarm": 0.02, "clean_detected_f1": 0.1,
        "pgd_hide_f1": 0.4, "pgd_untargeted_f1": 0.6, "pgd_hide_false_alarm": 0.05,
    }  # fmt: skip
    assert restored_score(figures) == pytest.approx((0.8 + (0.5 + 0.4) / 2) / 2 - 0.05)
    worse = figures | {"pgd_hide_f1": 0.0}
    assert restored_score(worse) < restored_score(figures)
    assert restored_score({"clean_f1": 0.5}) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("unattacked", "attacked", "expected"),
    [
        ([0.0, 0.1], [0.9, 0.7], 0.4),  # between them
        ([0.1, 0.1], [], 0.1),
        ([0.0, 0.6], [0.2, 0.9], 0.6),  # they overlap: what unattacked images stay below
    ],
)
def test_the_attack_threshold_lies_between(unattacked, attacked, expected) -> None:
    assert attack_threshold(unattacked, attacked) == pytest.approx(expected, abs=0.01)
