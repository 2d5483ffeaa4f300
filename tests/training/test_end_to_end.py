"""Synthesize, train a localizer, train an ANSM for it: the whole chain on a few crops."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ansm_fast.errors import InputError
from ansm_fast.localizers import load_localizer
from ansm_fast.models import ANSM, ANSMConfig, load_ansm, save_ansm
from ansm_fast.models.checkpoint import load_checkpoint
from ansm_fast.training.ansm import train_ansm
from ansm_fast.training.attack_cache import AttackCache, load_attack_cache
from ansm_fast.training.batches import MemorySet, epoch_indices
from ansm_fast.training.cached_crops import cached_crops
from ansm_fast.training.config import parse_run
from ansm_fast.training.networks import begin_from, warm_start
from ansm_fast.training.single_view_batches import ANSMBatches
from ansm_fast.training.stages import AuxiliaryMaskHead
from ansm_fast.training.transplant import transplant


def test_chain_trains_saves_and_loads(workspace):
    root, path, values = workspace
    localizer = load_localizer(path)
    assert localizer.fingerprint
    run = parse_run(values, "test")
    result = train_ansm(run, root / "ansm")
    ansm = load_ansm(result)
    image = torch.rand(1, 3, 37, 50)
    assert ansm.defend(image).shape == image.shape
    assert float(ansm(image).detach().abs().max()) > 0
    rows = [json.loads(line) for line in (root / "ansm" / "metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert "ffa" in rows[0] and "mgr" not in rows[1] and "mgr" in rows[2]
    assert "val_pgd_hide_f1" in rows[1] and "val_pgd_hide_f1" not in rows[2]


def test_a_foreign_file_in_the_cache_is_named(workspace, tmp_path):
    _, _, values = workspace
    run = parse_run(values | {"attack_cache": str(tmp_path / "attacks")}, "test")
    train_ansm(run, tmp_path / "run")
    part = tmp_path / "attacks" / "00001.safetensors"
    save_file({"attacked": torch.zeros(1)}, part)
    with pytest.raises(InputError, match=r"00001.safetensors cannot be read .* made again"):
        load_attack_cache(tmp_path / "attacks", 16)


@pytest.mark.parametrize("what", ["attack_cache_seed", "train"])
def test_a_cache_of_other_settings_is_refused(workspace, tmp_path, what):
    root, _, values = workspace
    run = parse_run(values, "test")
    train_ansm(run, root / "ansm")
    (tmp_path / "set").symlink_to(root / "set")
    changes = {
        "attack_cache_seed": {"attack_cache_seed": 5},
        "train": {"data": values["data"] | {"train": str(tmp_path / "set")}},
    }
    other = parse_run(values | changes[what], "test")
    with pytest.raises(InputError, match="other settings"):
        train_ansm(other, tmp_path / "other")


def test_a_cache_of_an_earlier_version_serves(workspace, tmp_path):
    """There its card was called pool.json, and so were the fields in it."""
    root, _, values = workspace
    run = parse_run(values, "test")
    train_ansm(run, root / "ansm")
    shutil.copytree(root / "attacks", tmp_path / "attacks")
    card = tmp_path / "attacks" / "attack_cache.json"
    (tmp_path / "attacks" / "pool.json").write_text(
        card.read_text().replace("attack_cache", "pool")
    )
    card.unlink()
    parts = [path.stat().st_mtime_ns for path in sorted((tmp_path / "attacks").glob("*.saf*"))]
    other = parse_run(values | {"attack_cache": str(tmp_path / "attacks")}, "test")
    train_ansm(other, tmp_path / "run")
    kept = [path.stat().st_mtime_ns for path in sorted((tmp_path / "attacks").glob("*.saf*"))]
    assert kept == parts
    with pytest.raises(InputError, match="other settings"):
        train_ansm(other.model_copy(update={"attack_cache_seed": 1}), tmp_path / "more")


def test_a_cache_serves_a_run_that_is_validated_otherwise(workspace, tmp_path):
    root, _, values = workspace
    run = parse_run(values, "test")
    train_ansm(run, root / "ansm")
    other = parse_run(values | {"data": values["data"] | {"validation_count": 4}}, "test")
    assert train_ansm(other, tmp_path).exists()


def test_warm_start_copies_the_localizers_body():
    from ansm_fast.localizers import BuiltinLocalizer
    from ansm_fast.models import ANSM

    localizer, ansm, head = BuiltinLocalizer(), ANSM(), AuxiliaryMaskHead()
    warm_start(ansm, head, localizer)
    for name, value in ansm.body.state_dict().items():
        assert torch.equal(value, localizer.body.state_dict()[name]), name
    assert torch.equal(head.classifier.weight, localizer.classifier.weight)


def test_epochs_cover_every_index_once():
    taken = np.concatenate([epoch_indices(0, start, 4, 10) for start in range(0, 20, 4)])
    assert sorted(taken[:10]) == list(range(10))
    assert sorted(taken[10:20]) == list(range(10))
    assert not np.array_equal(taken[:10], taken[10:20])


def test_detection_stage_then_a_run_that_goes_on_from_it(workspace):
    root, _, values = workspace
    staged = values | {
        "steps": 5, "transplant_share": 0.5,
        "detect": {"steps": 2, "crop": 32, "batch_size": 4}, "ffa": {"steps": 1},
    }  # fmt: skip
    run = parse_run(staged, "test")
    first = train_ansm(run, root / "staged")
    rows = [json.loads(line) for line in (root / "staged" / "metrics.jsonl").open()]
    assert "mgr" not in rows[0] and "auxiliary" in rows[0] and "mgr" in rows[-1]
    assert "val_pgd_hide_auxiliary_f1" in rows[1]

    more = parse_run(values | {"initial": str(first), "optimizer": {"lr": 1e-9}}, "test")
    second = train_ansm(more, root / "more")
    _, _, metadata = load_checkpoint(second, "ansm")
    initial = json.loads(metadata["provenance"])["initial"]
    assert initial["config"]["detect"]["steps"] == 2
    assert initial["fingerprint"] == load_ansm(first).fingerprint
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(
        load_ansm(second)(image), load_ansm(first)(image), rtol=1e-3, atol=1e-4
    )
    other = parse_run(values | {"initial": str(first), "eps_d": 4.0}, "test")
    with pytest.raises(InputError, match="change one"):
        train_ansm(other, root / "other")


@pytest.mark.parametrize("settings", [{}, {"jpeg_quality": 82, "detail": 8}])
def test_an_ansm_goes_on_from_another_of_its_configuration_alone(tmp_path, settings):
    trained, path = ANSM(ANSMConfig("tiny", **settings)).eval(), tmp_path / "ansm.safetensors"
    torch.nn.init.normal_(trained.head.weight, std=0.3)  # a fresh head perturbs nothing
    save_ansm(path, trained)
    begun = ANSM(ANSMConfig("tiny", **settings)).eval()
    begin_from(begun, path)
    image = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(begun(image), trained(image))
    other = ANSM(ANSMConfig("tiny", **settings | {"detail": 4}))
    with pytest.raises(InputError, match=r"initial: .*detail .*the config says .*change one"):
        begin_from(other, path)


def test_transplant_moves_noise_between_images():
    rng = np.random.default_rng(0)
    original, host = rng.integers(50, 200, (2, 8, 8, 3)).astype(np.uint8)
    attacked = original + np.arange(0, 5, dtype=np.uint8).repeat(13)[:64].reshape(8, 8, 1)
    moved = transplant(rng, attacked, original, host)
    shift = moved.astype(int) - host
    assert 2 <= np.abs(shift).max() <= 6 and not np.array_equal(moved, host)


def test_transplanted_noise_is_seen_in_front_of_images_that_the_cache_lacks(workspace):
    _, _, values = workspace
    settings = {"mirror": False, "crop": 64, "transplant_share": 1.0}
    run = parse_run(values | settings, "test")
    training_set = MemorySet(run.data.train)
    indices = np.array([0, 1])
    cache = AttackCache(
        training_set.images[indices] ^ 1, indices, np.full(2, 4.0), np.full(2, "pgd_untargeted")
    )
    known = {image.tobytes(): index for index, image in enumerate(training_set.images)}
    hosts = set()
    for step in range(20):
        attacked, original, mask, moved = cached_crops(run, training_set, cache, indices, step, 64)
        assert moved.all()
        for number, image in enumerate(original):
            host = known[image.tobytes()]
            hosts.add(host)
            assert np.array_equal(mask[number], training_set.masks[host])
            assert training_set.forged[host] == training_set.forged[number]
            assert 0 < np.abs(attacked[number].astype(int) - image).max() <= 2
    assert len(hosts) > 2 and np.array_equal(cache.indices, [0, 1])


def test_noise_stays_where_it_was_made_for(workspace):
    _, _, values = workspace
    settings = {"mirror": False, "crop": 64, "transplant_share": 0.0}
    run = parse_run(values | settings, "test")
    training_set = MemorySet(run.data.train)
    indices = np.arange(8)
    cache = AttackCache(
        training_set.images[indices] ^ 1, indices, np.full(8, 4.0), np.full(8, "pgd_untargeted")
    )
    as_they_are = {image.tobytes() for image in cache.attacked}
    for mirror in (False, True):
        batches = ANSMBatches(run.model_copy(update={"mirror": mirror}), training_set, cache)
        seen = torch.cat([batches(step)[0] for step in range(8)])
        images = (seen * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        kept = [image.tobytes() in as_they_are for image in images]
        assert all(kept) != mirror and any(kept)
