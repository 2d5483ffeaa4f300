"""Training configurations: the committed ones are valid, bad ones get one clear line."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from ansm_fast.cli.main import cli
from ansm_fast.errors import InputError
from ansm_fast.training.config import load_run, parse_run

CONFIGS = Path(str(resources.files("ansm_fast.training"))) / "configs"
RECIPES = Path(__file__).parents[2] / "recipes"
COMMITTED = sorted(CONFIGS.iterdir()) + sorted(RECIPES.glob("*/*.yaml"))


PRESETS = ["quick", "standard", "thorough"]


def test_the_package_holds_the_presets_and_the_first_edition():
    assert sorted(path.stem for path in CONFIGS.iterdir()) == ["ansm", "localizer", *PRESETS]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_committed_configs_are_valid(path):
    run = load_run(path)
    if path.stem in PRESETS:  # for data of one's own
        assert run.kind == "ansm" and run.photographs == "not told"
        return
    assert run.kind == ("ansm" if "ansm" in path.name else "localizer")
    assert "CC0" in run.photographs or run.photographs.startswith("as in recipes/")


@pytest.mark.parametrize("name", ["builtin", "rgb", "robust", "segformer", "smooth", "two_view"])
def test_a_recipe_is_numbered_and_its_steps_build_on_each_other(name):
    steps = sorted((RECIPES / name).glob("*.yaml"))
    numbers = [int(path.name.partition("_")[0]) for path in steps]
    first = 3 if name == "builtin" else 1  # its first two are the package's
    assert numbers == list(range(first, first + len(steps)))
    table = (RECIPES / "README.md").read_text(encoding="utf-8")
    assert f"[`{name}`]({name})" in table
    rows = (RECIPES.parent / "results" / "training" / f"{name}.jsonl").read_text().splitlines()
    runs = list(dict.fromkeys(json.loads(row)["run"] for row in rows))
    assert len(runs) >= len(steps)


FIRST_EDITION = (
    CONFIGS / "ansm.yaml",
    RECIPES / "builtin/3_ansm_refine.yaml",
    RECIPES / "builtin/4_ansm_settle.yaml",
)
SECOND_EDITION = (RECIPES / "robust/5_ansm_robust.yaml", RECIPES / "adversarial/ansm.yaml")
THIRD_EDITION = (RECIPES / "robust/6_ansm_wide.yaml", RECIPES / "robust/8_ansm_long.yaml")
OTHER_VICTIMS = (RECIPES / "segformer/2_ansm.yaml",)
OTHER_ATTACKS = (RECIPES / "smooth/1_ansm.yaml",)
TWO_VIEW = tuple(sorted((RECIPES / "two_view").glob("*.yaml")))


def the_same(paths, fields) -> None:
    first, *others = (load_run(path) for path in paths)
    for other in others:
        for field in fields:
            assert getattr(other, field) == getattr(first, field), field


@pytest.mark.parametrize("names", [FIRST_EDITION, SECOND_EDITION])
def test_trainings_for_one_localizer_share_its_attack_cache(names):
    the_same(
        names,
        (
            "localizer",
            "attack_cache",
            "attack_cache_size",
            "attack_cache_seed",
            "attacks",
            "data",
            "precision",
        ),
    )


def test_parts_of_a_training_share_the_network():
    fields = ("variant", "eps_d", "detail", "jpeg_quality", "jpeg_blur")
    the_same(FIRST_EDITION, fields)
    the_same(TWO_VIEW, (*fields, "architecture", "attacked_map"))


def test_another_victims_ansm_is_trained_in_the_same_way():
    here, there = (
        ("localizer", "attack_cache", "initial", "data"),
        type(load_run(CONFIGS / "ansm.yaml")),
    )
    fields = [name for name in there.model_fields if name not in here]
    the_same((SECOND_EDITION[0], *OTHER_VICTIMS), fields)


def test_an_ansm_goes_on_for_a_localizer_that_goes_on():
    names = (SECOND_EDITION[0], *THIRD_EDITION)
    the_same(names, ("variant", "eps_d", "jpeg_quality", "jpeg_blur", "online", "objective"))
    kinds = [
        [attack.model_dump(exclude={"eps"}) for attack in load_run(path).attacks] for path in names
    ]
    assert kinds.count(kinds[0]) == len(kinds)


def test_every_training_of_an_ansm_belongs_to_an_edition():
    editions = (FIRST_EDITION, SECOND_EDITION, THIRD_EDITION, TWO_VIEW)
    known = {*OTHER_VICTIMS, *OTHER_ATTACKS}.union(*editions)
    assert {path for path in COMMITTED if "ansm" in path.name} == known


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


def test_the_attack_cache_under_its_former_name() -> None:
    values = yaml.safe_load((CONFIGS / "ansm.yaml").read_text())
    earlier = {key.replace("attack_cache", "pool"): value for key, value in values.items()}
    assert earlier != values and parse_run(earlier, "x") == parse_run(values, "x")
    with pytest.raises(InputError, match="pool is called attack_cache now, and both are given"):
        parse_run(values | {"pool": "elsewhere"}, "x")
