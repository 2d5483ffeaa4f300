"""Variants differ in what they name and in nothing else; intervals are Student's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ablation
import pytest
import torch
import yaml

from ansm_fast.errors import InputError
from ansm_fast.localizers import make_localizer
from ansm_fast.models import ANSM, save_ansm
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.config import load_run, parse_run

EXPERIMENTS = Path(ablation.__file__).parent
RECIPES = EXPERIMENTS.parent / "recipes"


@pytest.mark.parametrize("vary", ["objectives", "taps"])
def test_every_variant_is_a_valid_run_that_differs_in_its_objective_alone(vary) -> None:
    values = yaml.safe_load((EXPERIMENTS / "ablation.yaml").read_text(encoding="utf-8"))
    common = parse_run(values, "ablation.yaml")
    localizer = make_localizer()
    known = dict(localizer.named_modules())
    found = ablation.variants(vary, values["steps"], localizer)
    assert len(found) >= 4
    for changes in found.values():
        run = parse_run(ablation.merged(values, changes), "variant")
        differing = {
            key for key in type(run).model_fields if getattr(run, key) != getattr(common, key)
        }
        assert differing <= {"ffa", "objective"}
        assert all(tap in known for tap in run.ffa.taps or ())


def test_variants_that_detect_alike_share_a_detector(tmp_path, monkeypatch) -> None:
    values = yaml.safe_load((EXPERIMENTS / "parts.yaml").read_text(encoding="utf-8"))
    asked: dict[str, ANSMRun] = {}

    def trained(values, folder):
        run = parse_run(values, folder.name)
        assert isinstance(run, ANSMRun)
        asked[folder.name] = run
        return folder / "ansm.safetensors"

    monkeypatch.setattr(ablation, "run_one", trained)
    found = ablation.variants("parts", values["steps"], make_localizer(), values["detect"]["steps"])
    assert [name for name, _ in ablation.run_all(values, found, tmp_path, 1)] == list(found)
    detectors = {name: run for name, run in asked.items() if name.endswith("-detector")}
    assert len(detectors) == 3 and len(asked) == 3 + len(found)
    assert {run.steps for run in detectors.values()} == {values["detect"]["steps"]}
    assert {(run.renew_every > 0, run.jpeg_quality > 0) for run in detectors.values()} == {
        (True, True),
        (False, True),
        (True, False),
    }
    for name, run in asked.items():
        assert run.seed == 1
        if name not in detectors:
            assert run.steps == values["steps"] - values["detect"]["steps"]
            assert run.detect.steps == 0 and run.initial is not None
            assert asked[run.initial.parent.name].jpeg_quality == run.jpeg_quality
    assert asked["FFA_only-1"].ffa.steps == asked["FFA_only-1"].steps
    assert asked["MgR_only-1"].ffa.steps == 0
    assert not asked["no_map_of_what_was_attacked-1"].attacked_map


def test_the_attacks_are_those_of_a_training() -> None:
    short = load_run(EXPERIMENTS / "ablation.yaml")
    training = load_run(RECIPES / "robust/5_ansm_robust.yaml")
    for key in ("attack_cache_seed", "attacks", "precision"):
        assert getattr(short, key) == getattr(training, key), key
    assert short.data.train == training.data.train


def test_a_finished_run_of_other_steps_is_not_taken_for_this_one(tmp_path) -> None:
    values = yaml.safe_load((EXPERIMENTS / "ablation.yaml").read_text(encoding="utf-8"))
    made_with = parse_run(values, "ablation.yaml").model_dump(mode="json")
    save_ansm(tmp_path / "ansm.safetensors", ANSM(), {"config": made_with})
    assert ablation.run_one(values, tmp_path) == tmp_path / "ansm.safetensors"
    with pytest.raises(InputError, match=r"trained with another configuration.*--runs"):
        ablation.run_one(values | {"steps": 450}, tmp_path)


def test_adaptive_attacks_have_images_of_their_own(images, tmp_path, monkeypatch) -> None:
    asked = []

    def evaluated(dataset, localizer, ansm, protocol, cache):
        asked.append((protocol.attacks, protocol.limit))
        # One image is forged, and none of one is pristine.
        cell = {"f1": 0.5, "area_pristine": 0.1 if protocol.limit > 1 else None}
        return [
            {"attack": attack, "defence": defence} | cell
            for attack in protocol.attacks
            for defence in protocol.defences
        ]

    trained = tmp_path / "ansm.safetensors"
    save_ansm(trained, ANSM())
    monkeypatch.setattr(ablation, "run_one", lambda values, folder: trained)
    monkeypatch.setattr(ablation, "load_localizer", lambda source: make_localizer())
    monkeypatch.setattr(ablation, "evaluate", evaluated)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # other tests' too
    output = tmp_path / "found.json"
    command = ["ablation.py", str(EXPERIMENTS / "ablation.yaml"), str(images), "-o", str(output)]
    limits = ["--seeds", "1", "--limit", "2", "--adaptive-limit", "1"]
    monkeypatch.setattr(sys, "argv", command + limits)
    ablation.main()
    assert set(asked) == {(ablation.ATTACKS, 2), (ablation.ADAPTIVE, 1)}
    document = json.loads(output.read_text(encoding="utf-8"))
    assert (document["images"], document["images_adaptive"]) == (2, 1)
    assert document["attacks"][-1] == "adaptive"
    for row in document["variants"].values():
        assert set(row) == set(document["attacks"])
        assert row["adaptive"]["f1"]["seeds"] == [0.5] and "area_pristine" not in row["adaptive"]
        assert row["pgd"]["area_pristine"]["mean"] == 0.1
    written = output.with_suffix(".md").read_text(encoding="utf-8")
    assert "| 0.500 [0.100] | 0.500 |" in written


def test_interval_of_student() -> None:
    found = ablation.over_seeds([0.5, 0.6, 0.7])
    half = 4.3027 * 0.1 / 3**0.5
    assert found["mean"] == 0.6
    assert (found["low"], found["high"]) == pytest.approx((0.6 - half, 0.6 + half), abs=1e-3)
    assert ablation.over_seeds([0.5])["low"] == 0.5
