"""Training of localizers: going on from a trained one, every architecture, bfloat16."""

from __future__ import annotations

import copy
import json
from dataclasses import fields
from typing import get_args

import cv2
import numpy as np
import pytest
import torch

from ansm_fast.attacks import Attack
from ansm_fast.data.synthesis import synthesize
from ansm_fast.errors import InputError
from ansm_fast.localizers import (
    ARCHITECTURES,
    BuiltinLocalizer,
    RGBConfig,
    SegformerConfig,
    load_localizer,
    make_localizer,
    save_localizer,
)
from ansm_fast.models.checkpoint import lineage
from ansm_fast.models.jpeg import JPEGResidual
from ansm_fast.training.architecture_config import Architecture
from ansm_fast.training.config import parse_run
from ansm_fast.training.localizer import begin_from, train_localizer, train_network
from ansm_fast.training.resume import check_same_run
from ansm_fast.training.state import write_tensors


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    root = tmp_path_factory.mktemp("localizer")
    (root / "photographs").mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        image = rng.integers(0, 256, (140, 150, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "photographs" / f"{index}.png"), image)
    synthesize(root / "photographs", root / "set", 8, size=64, seed=3)
    return {
        "kind": "localizer",
        "architecture": {"name": "unet", "widths": [8, 8, 8, 8]},
        "data": {"train": str(root / "set"), "validation": str(root / "set")},
        "photographs": "generated",
        "steps": 2,
        "phases": [{"until": 1.0, "crop": 32, "batch_size": 2}],
    }


def trained(values, out):
    run = parse_run(values, "test")
    return train_localizer(run, out)


def test_a_run_goes_on_from_a_trained_localizer(values, tmp_path) -> None:
    first = trained(values, tmp_path / "first")
    second = trained(values | {"initial": str(first)}, tmp_path / "second")
    assert lineage(second, "localizer")["initial"] == lineage(first, "localizer")
    assert load_localizer(second).fingerprint != load_localizer(first).fingerprint
    fresh = make_localizer(widths=(8, 8, 8, 8))
    begin_from(fresh, first)
    for name, value in load_localizer(first).state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)


def test_an_initial_localizer_of_another_shape_is_refused(values, tmp_path) -> None:
    other = tmp_path / "other.safetensors"
    save_localizer(other, make_localizer(widths=(8, 8, 8, 16)))
    with pytest.raises(InputError, match=r"initial: .*other.safetensors is a .*8, 16.*change one"):
        trained(values | {"initial": str(other)}, tmp_path / "run")


def test_attacks_on_the_localizer_as_it_is(values, tmp_path, monkeypatch) -> None:
    """Half of a batch is attacked, within the budget, on a localizer in eval mode."""
    seen = []
    attack = Attack.__call__

    def watched(self, victim, image, *rest):
        def seen_by(x):
            modes.append(localizer.training)
            return victim(x)

        modes = []
        attacked = attack(self, seen_by, image, *rest)
        seen.append((image, attacked, self.eps, modes))
        return attacked

    def made(*args, **kwargs):
        nonlocal localizer
        localizer = make_localizer(*args, **kwargs)
        return localizer

    localizer = None
    monkeypatch.setattr(Attack, "__call__", watched)
    monkeypatch.setattr("ansm_fast.training.architecture_config.make_localizer", made)
    online = {"share": 0.5, "attacks": [{"name": "pgd", "steps": 2, "eps": [4, 4]}]}
    trained(values | {"online": online, "validation_attacks": []}, tmp_path)
    assert len(seen) == 2  # one a step
    for image, attacked, eps, modes in seen:
        assert len(image) == 1 and modes and not any(modes)
        assert 0 < (attacked - image).abs().max() <= eps + 1e-6
    assert localizer.training
    assert '"attack_share"' in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")


def test_unattacked_training_is_not_changed_by_what_attacks_need(values, tmp_path) -> None:
    online = {"share": 0.0, "attacks": [{"name": "pgd"}]}
    first = trained(values, tmp_path / "first")
    second = trained(values | {"online": online}, tmp_path / "second")
    assert load_localizer(first).fingerprint == load_localizer(second).fingerprint


def test_attacked_images_arrive_compressed(values, tmp_path, monkeypatch) -> None:
    """What was attacked is what the loss sees after JPEG; the rest of the batch as it is."""
    attacked, seen = [], []
    attack = Attack.__call__

    def watched(self, victim, image, *rest):
        attacked.append(attack(self, victim, image, *rest))
        return attacked[-1]

    def forward(localizer, image):
        if localizer.training:
            seen.append(image)
        return original(localizer, image)

    original = BuiltinLocalizer.forward
    monkeypatch.setattr(BuiltinLocalizer, "forward", forward)
    monkeypatch.setattr(Attack, "__call__", watched)
    online = {"share": 0.5, "attacks": [{"name": "noise", "eps": [4, 4]}]}
    compression = {"quality": [60, 60], "blur": 0.07}
    trained(
        values | {"online": online, "online_compression": compression, "validation_attacks": []},
        tmp_path,
    )
    assert len(attacked) == len(seen) == 2
    for image, batch in zip(attacked, seen, strict=True):
        expected = (image + JPEGResidual(60, 0.07)(image)).clamp(0, 1)
        assert (expected - image).abs().max() > 4 / 255
        torch.testing.assert_close(batch[1:], expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"online": {"share": 0.0}}, r"give online.share > 0"),
        ({"online_compression": {"quality": [90, 80]}}, r"\[least, most\], got \[90, 80\]"),
        ({"online_compression": {"quality": [0, 80]}}, r"online_compression.quality.0"),
        ({"online_compression": {"quality": [70, 80], "blur": 0.5}}, r"online_compression.blur"),
        ({"phases": [{"until": 1.0, "crop": 40, "batch_size": 2}]}, r"multiples of 16"),
    ],
)
def test_a_compression_without_effect_or_sense_is_refused(values, given, message) -> None:
    online = {"share": 0.5, "attacks": [{"name": "pgd"}]}
    good = {"online": online, "online_compression": {"quality": [70, 80]}}
    parse_run(values | good, "test")
    with pytest.raises(InputError, match=message):
        parse_run(values | good | given, "test")


@pytest.mark.parametrize("field", ["online", "validation_attacks"])
def test_no_ansm_to_go_through(values, field) -> None:
    attacks = [{"name": "pgd", "adaptive": True}]
    given = {"share": 0.5, "attacks": attacks} if field == "online" else attacks
    with pytest.raises(InputError, match="adaptive attacks go through an ANSM"):
        parse_run(values | {field: given}, "test")


def test_validation_under_attack(values, tmp_path) -> None:
    attacks = [{"name": "pgd", "eps": 2}, {"name": "pgd", "eps": 8}, {"name": "noise"}]
    trained(values | {"validation_attacks": attacks, "validate_every": 2}, tmp_path)
    figures = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    for name in ("val_f1", "val_pgd_untargeted_f1", "val_pgd_untargeted_8_f1", "val_noise"):
        assert f'"{name}' in figures


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_segformer_trains(values, tmp_path, precision) -> None:
    pytest.importorskip("transformers")
    own = {"name": "segformer", "widths": [8, 8, 16, 16], "depths": [1, 1, 2, 1]}
    path = trained(values | {"architecture": own, "precision": precision}, tmp_path)
    localizer = load_localizer(path)
    assert localizer.config == SegformerConfig((8, 8, 16, 16), (1, 1, 2, 1), 64)
    assert localizer(torch.rand(1, 3, 40, 32)).shape == (1, 1, 40, 32)


def test_any_network_that_gives_a_mask_trains(values, tmp_path) -> None:
    run, begin = parse_run(values, "test"), torch.nn.Conv2d(3, 1, 3, padding=1)
    trained_network, loop = train_network(run, tmp_path, lambda: copy.deepcopy(begin))
    assert type(trained_network) is torch.nn.Conv2d and loop.step == run.steps
    assert not torch.equal(trained_network.weight, begin.weight)
    again, _ = train_network(run, tmp_path, lambda: copy.deepcopy(begin))
    assert torch.equal(again.weight, trained_network.weight)


def test_an_rgb_network_trains(values, tmp_path) -> None:
    own = {"name": "rgb", "widths": [8, 8, 16], "dilated_blocks": 1, "decoder_width": 8}
    localizer = load_localizer(trained(values | {"architecture": own}, tmp_path))
    assert localizer.config == RGBConfig((8, 8, 16), 1, 8)
    assert localizer(torch.rand(1, 3, 40, 33)).shape == (1, 1, 40, 33)


def test_every_architecture_is_configured_by_all_fields_of_its_network(values) -> None:
    members = get_args(get_args(Architecture)[0])
    assert [get_args(one.model_fields["name"].annotation)[0] for one in members] == [*ARCHITECTURES]
    for member, (_, config) in zip(members, ARCHITECTURES.values(), strict=True):
        defaults = {key: one.default for key, one in member.model_fields.items() if key != "name"}
        assert defaults == {one.name: one.default for one in fields(config)}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, {"name": "unet", "widths": [24, 40, 72, 112]}),
        ({"widths": [8, 8, 8, 16]}, {"name": "unet", "widths": [8, 8, 8, 16]}),
        (
            {"architecture": "segformer", "widths": [8, 8, 8, 16]},
            {"name": "segformer", "widths": [8, 8, 8, 16], "depths": [1, 2, 2, 2],
             "decoder_width": 64},
        ),
        ({"architecture": {"widths": [8, 8, 8, 8]}}, {"name": "unet", "widths": [8, 8, 8, 8]}),
    ],
)  # fmt: skip
def test_architectures_of_earlier_configurations(values, tmp_path, given, meant) -> None:
    rest = {key: value for key, value in values.items() if key != "architecture"}
    run = parse_run(rest | given, "test")
    assert run.settings()["architecture"] == meant
    # An earlier version began the run, and this one goes on.
    before = {key: value for key, value in run.settings().items() if key != "architecture"}
    state = {"settings": json.dumps(before | {"architecture": "unet"} | given)}
    write_tensors(tmp_path / "state.safetensors", {}, state, "")
    check_same_run(tmp_path, run.settings())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "cnn"}, "architecture: name must be one of unet, segformer, rgb"),
        ({"name": "segformer", "widths": [8, 9, 8, 8]}, r"architecture: widths must be divisible"),
        ({"name": "unet", "depths": [1, 1, 1, 1]}, "architecture.depths: no such field"),
        ({"name": "segformer", "depth": 2}, "did you mean architecture.depths"),
        ({"name": "unet", "widths": [8, 8, 8]}, "architecture.widths"),
        ({"name": "rgb", "widths": [8, 8, 2000]}, "architecture: widths must be 3 whole numbers"),
        (3, "architecture: "),
    ],
)
def test_an_architecture_that_cannot_be_made_is_one_line(values, given, said) -> None:
    with pytest.raises(InputError, match=said) as caught:
        parse_run(values | {"architecture": given}, "test")
    assert "\n" not in str(caught.value)


def test_a_wider_localizer_begins_as_the_narrower_one(values, tmp_path) -> None:
    narrow = make_localizer(widths=(8, 8, 16, 8)).eval()
    for module in narrow.modules():  # statistics that are not those of a fresh network
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(generator=torch.Generator().manual_seed(1))
    path = tmp_path / "narrow.safetensors"
    save_localizer(path, narrow)
    wide = make_localizer(widths=(8, 12, 24, 16)).eval()
    begin_from(wide, path)
    image = torch.rand(2, 3, 48, 64)
    expected = narrow(image)
    torch.testing.assert_close(wide(image), expected, rtol=1e-4, atol=1e-5)
    wide(image).square().sum().backward()
    for name, parameter in wide.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    with pytest.raises(InputError, match=r"initial: .*change one"):
        begin_from(make_localizer(widths=(8, 8, 12, 8)), path)


def test_batches_made_ahead_change_nothing(values, tmp_path) -> None:
    values = values | {"steps": 5, "save_every": 2, "augmentation": {"noise_share": 0.5}}
    here = load_localizer(trained(values, tmp_path / "here"))
    ahead = load_localizer(trained(values | {"workers": 2}, tmp_path / "ahead"))
    assert ahead.fingerprint == here.fingerprint


def test_half_weights_halve_the_checkpoint_and_lose_nothing_on_the_way(values, tmp_path) -> None:
    whole = trained(values, tmp_path / "whole")
    half = trained(values | {"half_weights": True}, tmp_path / "half")
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    one, other = load_localizer(half).state_dict(), load_localizer(whole).state_dict()
    for name, value in other.items():
        wanted = value.half().to(value.dtype) if value.dim() > 1 else value
        assert one[name].dtype == value.dtype and torch.equal(one[name], wanted)
    again = tmp_path / "again.safetensors"
    assert save_localizer(again, load_localizer(half)) == load_localizer(half).fingerprint
