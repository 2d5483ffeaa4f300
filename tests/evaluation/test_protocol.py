from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from ansm_fast.cli.attack import command as attack
from ansm_fast.cli.evaluate import command
from ansm_fast.errors import InputError
from ansm_fast.evaluation import ATTACKS, Protocol, markdown, write_markdown

ROOT = Path(__file__).parents[2]


def run(small_set: Path, checkpoints: dict[str, Path], *extra: str | Path, **changed) -> Result:
    options = {
        "--images": small_set / "images", "--masks": small_set / "masks", "--steps": 2,
        "--localizer": checkpoints["localizer"], "--weights": checkpoints["ansm"],
        "--attacks": "none,pgd,hide,wrong-mask", "--eps": "4/255",
    } | {f"--{key}": value for key, value in changed.items()}  # fmt: skip
    arguments = [str(part) for option in options.items() for part in option]
    return CliRunner().invoke(command, [*arguments, *(str(part) for part in extra)])


def test_rows(small_set, checkpoints, tmp_path) -> None:
    result = run(
        small_set, checkpoints, "--json", tmp_path / "e.json", "--markdown", tmp_path / "e.md",
        "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "e.json").read_text())
    rows = document["rows"]
    assert [(row["attack"], row["defence"]) for row in rows] == [
        (attack, defence)
        for attack in ("none", "pgd", "hide", "wrong-mask")
        for defence in ("none", "jpeg", "median", "ansm")
    ]
    for row in rows:
        assert row["n"] == 3 and row["n_pristine"] == 1
        assert all(0 <= row[key] <= 1 for key in ("f1", "iou", "auc", "area_pristine"))
        assert row["eps"] == (0 if row["attack"] == "none" else pytest.approx(4 / 255))
    assert {"command", "localizer", "ansm", "seed", "version", "torch"} <= set(document)
    assert markdown(rows, document["command"]) == (tmp_path / "e.md").read_text()
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_second_run_attacks_nothing_again(small_set, checkpoints, tmp_path) -> None:
    for name in ("a.json", "b.json"):
        result = run(
            small_set, checkpoints, "--cache", tmp_path / "cache", "--json", tmp_path / name,
            attacks="pgd",
        )  # fmt: skip
        assert result.exit_code == 0
        stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.png")}
        if name == "a.json":
            first = stamps
    assert stamps == first
    a, b = (json.loads((tmp_path / name).read_text())["rows"] for name in ("a.json", "b.json"))
    assert a == b


def test_a_longer_run_takes_over_a_shorter_one(small_set, checkpoints, tmp_path) -> None:
    rows = []
    for limit in (2, 4, 2):
        result = run(
            small_set, checkpoints, "--cache", tmp_path / "cache", "--limit", limit,
            "--json", tmp_path / "e.json", attacks="pgd", defences="none",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        rows.append(json.loads((tmp_path / "e.json").read_text())["rows"][0])
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert [row["n"] + row["n_pristine"] for row in rows] == [2, 4, 2] and rows[0] == rows[2]


def test_a_cache_is_never_taken_for_other_images(checkpoints, tmp_path) -> None:
    """Uncompressed, so that names and sizes are the same."""
    rng = np.random.default_rng(0)
    for name in ("one", "other"):
        for part in ("images", "masks"):
            (tmp_path / name / part).mkdir(parents=True)
        image, mask = rng.integers(0, 256, (32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
        mask[4:12, 4:12] = 255
        cv2.imwrite(str(tmp_path / name / "images" / "a.bmp"), image)
        cv2.imwrite(str(tmp_path / name / "masks" / "a.bmp"), mask)
    options = {"attacks": "pgd", "defences": "none", "cache": tmp_path / "cache"}
    assert run(tmp_path / "one", checkpoints, **options).exit_code == 0
    result = run(tmp_path / "other", checkpoints, **options)
    assert isinstance(result.exception, InputError)
    assert "another image named a" in str(result.exception)


@pytest.mark.parametrize(
    "changed", [{"eps": "2/255"}, {"eps": "0.015686275"}, {"steps": 3}, {"seed": 1}]
)
def test_other_attacks_are_cached_apart(small_set, checkpoints, tmp_path, changed) -> None:
    for options in ({}, changed):
        result = run(
            small_set, checkpoints, "--cache", tmp_path / "cache",
            **({"attacks": "pgd", "defences": "none"} | options),
        )  # fmt: skip
        assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_names_stand_for_attacks_and_objectives() -> None:
    expected = {
        "pgd": ("pgd", "untargeted"), "fgsm": ("fgsm", "untargeted"),
        "mifgsm": ("mifgsm", "untargeted"), "hide": ("pgd", "hide"),
        "wrong-mask": ("pgd", "wrong-mask"),
    }  # fmt: skip
    protocol = Protocol(tuple(expected), (4 / 255,), steps=7, seed=3)
    runs = {name: attack for name, attack in protocol.runs() if attack is not None}
    assert {name: (run.name, run.objective) for name, run in runs.items()} == expected
    assert all((run.eps, run.steps, run.seed) == (4 / 255, 7, 3) for run in runs.values())
    assert [attack for _, attack in Protocol(("none",), (4 / 255, 8 / 255)).runs()] == [None]


def test_tables_alone_on_stdout(small_set, checkpoints, tmp_path) -> None:
    result = run(
        small_set, checkpoints, "--markdown", tmp_path / "e.md", attacks="none", defences="none"
    )
    assert result.stdout == (tmp_path / "e.md").read_text() + "\n"


def test_the_ansm_weights_are_needed_only_for_their_defence(small_set, checkpoints) -> None:
    missing = {"weights": "missing.safetensors", "attacks": "none"}
    result = run(small_set, checkpoints, **missing, defences="none,jpeg")
    assert result.exit_code == 0, result.output
    result = run(small_set, checkpoints, **missing, defences="none,ansm")
    assert isinstance(result.exception, InputError)
    assert "no such checkpoint: missing.safetensors; give" in str(result.exception)


def test_several_budgets_and_every_attack(small_set, checkpoints, tmp_path) -> None:
    result = run(
        small_set, checkpoints, "--json", tmp_path / "e.json", "--limit", 2,
        attacks=",".join(ATTACKS), eps="2/255, 0.02", defences="none",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "e.json").read_text())["rows"]
    assert len(rows) == 1 + 2 * (len(ATTACKS) - 1)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"images": "missing"}, "no such folder"),
        ({"eps": "-4/255"}, "eps must be in [0, 1]"),
        ({"eps": "four"}, "eps must be a number like 4/255"),
        ({"attacks": "pgd,magic"}, "--attacks must be of none, pgd"),
        ({"defences": "ansm,prayer"}, "--defences must be of none, jpeg"),
        ({"attacks": ","}, "--attacks is empty"),
        ({"json": "missing/e.json"}, "give --json a file in a writable folder"),
    ],
)
def test_errors(small_set, checkpoints, changed, words) -> None:
    result = run(small_set, checkpoints, **changed)
    assert isinstance(result.exception, InputError), result.output
    assert words in str(result.exception) and "\n" not in str(result.exception)


def test_kinds_of_weights_are_not_confused(small_set, checkpoints) -> None:
    for changed in (
        {"weights": checkpoints["localizer"]}, {"localizer": checkpoints["ansm"]},
    ):  # fmt: skip
        result = run(small_set, checkpoints, **changed)
        assert isinstance(result.exception, InputError) and "checkpoint, but" in str(
            result.exception
        )


def test_attack_takes_a_folder(small_set, checkpoints, tmp_path) -> None:
    localizer = str(checkpoints["localizer"])
    for name, given in (
        ("one", [small_set]),
        ("two", ["--images", small_set / "images", "--masks", small_set / "masks"]),
    ):
        arguments = [*given, "-o", tmp_path / name, "--steps", 1, "--localizer", localizer]
        result = CliRunner().invoke(attack, [str(part) for part in arguments])
        assert result.exit_code == 0, result.output
    for path in (tmp_path / "one" / "images").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "images" / path.name).read_bytes()


def test_attack_command(small_set, checkpoints, tmp_path) -> None:
    arguments = [
        "--images", small_set / "images", "--masks", small_set / "masks", "--steps", 2,
        "-o", tmp_path / "out", "--localizer", checkpoints["localizer"],
    ]  # fmt: skip
    for _ in range(2):
        result = CliRunner().invoke(attack, [str(part) for part in arguments])
        assert result.exit_code == 0 and "4 attacked images" in result.output
    assert len(list((tmp_path / "out" / "images").glob("*.png"))) == 4
    for extra, words in (
        (["--eps", "-1"], "eps must be in"),
        (["--eps", "2/255"], "other settings"),
        (["-o", str(small_set / "images")], "holds the originals"),
    ):
        result = CliRunner().invoke(attack, [*(str(part) for part in arguments), *extra])
        assert isinstance(result.exception, InputError) and words in str(result.exception)


def test_markdown_goes_between_its_marks(tmp_path) -> None:
    path = tmp_path / "R.md"
    path.write_text("before\n<!-- table:evaluation -->\nold\n<!-- /table:evaluation -->\nafter\n")
    write_markdown(path, "new\n")
    assert path.read_text() == (
        "before\n<!-- table:evaluation -->\nnew\n<!-- /table:evaluation -->\nafter\n"
    )
    (tmp_path / "other.md").write_text("no marks")
    with pytest.raises(InputError, match="without the marks"):
        write_markdown(tmp_path / "other.md", "new")
    assert (tmp_path / "other.md").read_text() == "no marks"


def between(name: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition(f"<!-- table:{name} -->\n")[2].partition(f"<!-- /table:{name} -->")[0]


def test_readme_shows_the_committed_evaluation() -> None:
    document = json.loads(
        (ROOT / "ansm_fast" / "weights" / "evaluation.json").read_text(encoding="utf-8")
    )
    assert between("evaluation") == markdown(document["rows"], document["command"])
