"""Variants differ in what they name and in nothing else; intervals are Student's."""

from __future__ import annotations

from pathlib import Path

import ablation
import pytest
import yaml

from ansm_fast.errors import InputError
from ansm_fast.localizers import make_localizer
from ansm_fast.models import ANSM, save_ansm
from ansm_fast.training.config import load_run, parse_run

EXPERIMENTS = Path(ablation.__file__).parent
CONFIGS = EXPERIMENTS.parent / "ansm_fast" / "training" / "configs"


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


def test_the_attacks_are_those_of_a_training() -> None:
    short, bundled = load_run(EXPERIMENTS / "ablation.yaml"), load_run(CONFIGS / "ansm_robust.yaml")
    for key in ("pool_seed", "attacks", "precision"):
        assert getattr(short, key) == getattr(bundled, key), key
    assert short.data.train == bundled.data.train


def test_a_finished_run_of_other_steps_is_not_taken_for_this_one(tmp_path) -> None:
    values = yaml.safe_load((EXPERIMENTS / "ablation.yaml").read_text(encoding="utf-8"))
    made_with = parse_run(values, "ablation.yaml").model_dump(mode="json")
    save_ansm(tmp_path / "ansm.safetensors", ANSM(), {"config": made_with})
    assert ablation.run_one(values, tmp_path) == tmp_path / "ansm.safetensors"
    with pytest.raises(InputError, match=r"trained with another configuration.*--runs"):
        ablation.run_one(values | {"steps": 450}, tmp_path)


def test_interval_of_student() -> None:
    found = ablation.over_seeds([0.5, 0.6, 0.7])
    half = 4.3027 * 0.1 / 3**0.5
    assert found["mean"] == 0.6
    assert (found["low"], found["high"]) == pytest.approx((0.6 - half, 0.6 + half), abs=1e-3)
    assert ablation.over_seeds([0.5])["low"] == 0.5
