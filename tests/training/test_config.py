"""Training configurations: the bundled ones are valid, bad ones get one clear line."""

from __future__ import annotations

from importlib import resources

import pytest
import yaml
from click.testing import CliRunner

from ansm_fast.cli.main import cli
from ansm_fast.errors import InputError
from ansm_fast.training.config import load_run, parse_run

CONFIGS = resources.files("ansm_fast.training") / "configs"


BUNDLED = sorted(path.name for path in CONFIGS.iterdir())


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_configs_are_valid(name):
    run = load_run(str(CONFIGS / name))
    assert run.kind == ("ansm" if name.startswith("ansm") else "localizer")
    assert "CC0" in run.photographs


FIRST_EDITION = ("ansm.yaml", "ansm_refine.yaml", "ansm_settle.yaml")
SECOND_EDITION = ("ansm_robust.yaml", "ansm_adversarial.yaml")
THIRD_EDITION = ("ansm_wide.yaml", "ansm_long.yaml")
OTHER_VICTIMS = ("ansm_segformer.yaml",)


def the_same(names, fields) -> None:
    first, *others = (load_run(str(CONFIGS / name)) for name in names)
    for other in others:
        for field in fields:
            assert getattr(other, field) == getattr(first, field), field


@pytest.mark.parametrize("names", [FIRST_EDITION, SECOND_EDITION])
def test_trainings_for_one_localizer_share_its_attacked_pool(names):
    the_same(names, ("localizer", "pool", "pool_size", "pool_seed", "attacks", "data", "precision"))


def test_parts_of_a_training_share_the_network():
    the_same(FIRST_EDITION, ("variant", "eps_d", "detail", "jpeg_quality", "jpeg_blur"))


def test_another_victims_ansm_is_trained_in_the_same_way():
    here, there = (
        ("localizer", "pool", "initial", "data"),
        type(load_run(str(CONFIGS / "ansm.yaml"))),
    )
    fields = [name for name in there.model_fields if name not in here]
    the_same(("ansm_robust.yaml", *OTHER_VICTIMS), fields)


def test_an_ansm_goes_on_for_a_localizer_that_goes_on():
    names = (SECOND_EDITION[0], *THIRD_EDITION)
    the_same(names, ("variant", "eps_d", "jpeg_quality", "jpeg_blur", "online", "objective"))
    kinds = [
        [attack.model_dump(exclude={"eps"}) for attack in load_run(str(CONFIGS / name)).attacks]
        for name in names
    ]
    assert kinds.count(kinds[0]) == len(kinds)


def test_every_training_of_an_ansm_belongs_to_an_edition():
    known = {*FIRST_EDITION, *SECOND_EDITION, *THIRD_EDITION, *OTHER_VICTIMS}
    assert {name for name in BUNDLED if name.startswith("ansm")} == known


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ({"eps": [8, 2]}, r"\[least, most\].*got \[8.0, 2.0\]"),
        ({"eps": [2, 256]}, "at most 255"),
        ({"weight": 0}, "weight > 0"),
        ({"name": "square", "norm": "l2"}, "square knows the norm linf alone"),
        ({"name": "pdg"}, "attack must be one of"),
        ({"objective": "blur"}, "objective must be one of"),
    ],
)
def test_attacks_that_cannot_be_made_are_refused(attack, message):
    values = yaml.safe_load((CONFIGS / "ansm.yaml").read_text())
    with pytest.raises(InputError, match=message):
        parse_run(values | {"attacks": [{"name": "pgd"} | attack]}, "mine.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("steps", 0, "steps"), ("colour", 1, "colour"), ("eps_d", -8, "eps_d")],
)
def test_bad_fields_are_named(key, value, message):
    values = yaml.safe_load((CONFIGS / "ansm.yaml").read_text())
    with pytest.raises(InputError, match=message) as error:
        parse_run(values | {key: value}, "mine.yaml")
    assert "\n" not in str(error.value)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(InputError, match="no such config"):
        load_run(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(InputError, match="not valid YAML"):
        load_run(broken)


def test_command_line_refuses_a_config_of_the_other_kind(tmp_path):
    result = CliRunner().invoke(
        cli, ["train", "ansm", "--config", str(CONFIGS / "localizer.yaml"), "-o", str(tmp_path)]
    )
    assert isinstance(result.exception, InputError)
    assert "not a config of kind 'ansm'" in str(result.exception)
