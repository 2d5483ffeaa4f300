from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ansm_fast.cli.attack import command as attack
from ansm_fast.errors import InputError
from ansm_fast.evaluation.estimate import readable

ROOT = Path(__file__).parents[2]


def test_tables_alone_on_stdout(run, small_set, checkpoints) -> None:
    result = run(small_set, checkpoints, attacks="none,pgd", defences="none,ansm")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("F1 at 0.5, 3 images of ") and "within 4/255" in lines[0]
    assert [line.split()[0] for line in lines if "0." in line][1:] == [
        "no",
        "PGD",
        "all",
        "nothing",
    ]
    assert "about" in result.stderr and "about" not in result.stdout


def test_the_ansm_weights_are_needed_only_for_their_defence(run, small_set, checkpoints) -> None:
    missing = {"weights": "missing.safetensors", "attacks": "none"}
    result = run(small_set, checkpoints, **missing, defences="none,jpeg")
    assert result.exit_code == 0, result.output
    result = run(small_set, checkpoints, **missing, defences="none,ansm")
    assert isinstance(result.exception, InputError)
    assert "no such checkpoint: missing.safetensors; give" in str(result.exception)


def test_the_document_says_what_each_ansm_was_trained_for(
    run, small_set, checkpoints, tmp_path
) -> None:
    result = run(
        small_set, checkpoints, "--json", tmp_path / "e.json", "--csv", tmp_path / "e.csv",
        "--limit", 2, "--weights", "other=bundled",
        weights=f"mine={checkpoints['ansm']}", attacks="none,pgd,hide", steps=1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "e.json").read_text())
    mine = document["ansm"]["ansm:mine"]
    assert mine["trained_for"] == "0123456789abcdef" != document["localizer"]
    assert mine["transferred"] and mine["attacks_in_training"] == [["pgd", "untargeted", "linf"]]
    told = "ansm:mine was trained for another localizer (fingerprint 0123456789abcdef)"
    assert result.stderr.count(told) == 1 and document["notes"][0].startswith(told)
    assert set(document["ansm"]) == {"ansm:mine", "ansm:other"} and len(mine["fingerprint"]) == 16
    rows = document["rows"]
    seen = {(r["defence"], r["attack"]): r["seen"] for r in rows if r["seen"] is not None}
    assert seen == {
        ("ansm:mine", "pgd"): True, ("ansm:mine", "hide"): False,
        ("ansm:other", "pgd"): True, ("ansm:other", "hide"): True,
    }  # fmt: skip
    assert len((tmp_path / "e.csv").read_text().splitlines()) == 1 + len(rows)


def test_defences_without_adaptive_figures_leave_a_dash(
    run, small_set, checkpoints, tmp_path
) -> None:
    files = {"json": "e.json", "markdown": "e.md", "csv": "e.csv"}
    extra = [part for key, name in files.items() for part in (f"--{key}", tmp_path / name)]
    result = run(
        small_set, checkpoints, *extra, "--adaptive-through", "ansm", "--plots",
        tmp_path / "plots", attacks="none,adaptive", defences="none,jpeg,ansm", steps=1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "e.json").read_text())
    assert document["adaptive_through"] == "ansm"
    found = {row["defence"] for row in document["rows"] if row["attack"] == "adaptive"}
    assert found == {"none", "ansm"}
    (line,) = [
        line for line in (tmp_path / "e.md").read_text().splitlines()
        if line.startswith("| adaptive") and line.count("(") == 2 and line.count("|") == 6
    ]  # fmt: skip
    assert line.split("|")[4].strip() == "–"
    assert len((tmp_path / "e.csv").read_text().splitlines()) == 1 + len(document["rows"])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"images": "missing"}, "no such folder"),
        ({"eps": "-4/255"}, "eps must be in [0, 1]"),
        ({"eps": "four"}, "eps must be a number like 4/255"),
        ({"attacks": "pgd,magic"}, "--attacks must be of none, pgd"),
        ({"defences": "ansm,prayer"}, "--defences must be of none, jpeg"),
        ({"weights": "magic=missing"}, "no such checkpoint: missing"),
        ({"surrogate": "missing"}, "no such checkpoint: missing"),
        ({"surrogate-weights": "missing"}, "no such checkpoint: missing"),
        ({"csv": "missing/e.csv"}, "give --csv a file in a writable folder"),
        ({"attacks": ","}, "--attacks is empty"),
        ({"json": "missing/e.json"}, "give --json a file in a writable folder"),
    ],
)
def test_errors(run, small_set, checkpoints, changed, words) -> None:
    result = run(small_set, checkpoints, **changed)
    assert isinstance(result.exception, InputError), result.output
    assert words in str(result.exception) and "\n" not in str(result.exception)


def test_kinds_of_weights_are_not_confused(run, small_set, checkpoints) -> None:
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


def test_time_in_words() -> None:
    assert [readable(s) for s in (0, 62, 300, 9000)] == [
        "about 1 s", "about 62 s", "about 5 min", "about 2.5 h",
    ]  # fmt: skip
