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


@pytest.mark.parametrize(
    "parts",
    [
        ("ansm.yaml", "ansm_refine.yaml", "ansm_settle.yaml"),
        ("ansm_robust.yaml", "ansm_robust_settle.yaml", "ansm_adversarial.yaml"),
    ],
)
def test_parts_of_a_training_share_network_and_pool_of_the_first(parts):
    network = ("variant", "eps_d", "detail", "jpeg_quality", "localizer")
    pool = ("pool", "pool_size", "pool_seed", "attacks", "data", "precision")
    first, *others = (load_run(str(CONFIGS / name)) for name in parts)
    for other in others:
        for field in network + pool:
            assert getattr(other, field) == getattr(first, field), field


def test_every_training_of_an_ansm_is_part_of_one():
    known = {"ansm.yaml", "ansm_refine.yaml", "ansm_settle.yaml"}
    known |= {"ansm_robust.yaml", "ansm_robust_settle.yaml", "ansm_adversarial.yaml"}
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
