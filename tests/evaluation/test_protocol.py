from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ansm_fast.cli.evaluate import command
from ansm_fast.data import FolderDataset
from ansm_fast.errors import InputError, LocalizerError
from ansm_fast.evaluation import (
    ATTACKS,
    CATALOGUE,
    DEFENCES,
    FLOORS,
    Defence,
    Protocol,
    evaluate,
    markdown,
    scoring,
)
from ansm_fast.localizers import load_localizer


def attacked(cache: Path) -> list[Path]:
    """The folders of attacked sets, without that of the scores."""
    return [folder for folder in cache.iterdir() if folder.name != "scores"]


def test_rows(run, small_set, checkpoints, tmp_path) -> None:
    result = run(
        small_set, checkpoints, "--json", tmp_path / "e.json", "--markdown", tmp_path / "e.md",
        "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "e.json").read_text())
    floors = [row for row in document["rows"] if row["defence"] in FLOORS]
    rows = [row for row in document["rows"] if row["defence"] not in FLOORS]
    assert [row["defence"] for row in floors] == list(FLOORS)
    assert [(row["attack"], row["defence"]) for row in rows] == [
        (attack, defence)
        for attack in ("none", "pgd", "hide", "wrong-mask")
        for defence in DEFENCES
    ]
    for row in rows:
        assert row["set"] == small_set.name and row["n"] == 3 and row["n_pristine"] == 1
        assert row["f1_low"] <= row["f1"] <= row["f1_high"] and row["f1"] <= row["f1_best"] <= 1
        assert row["ssim"] <= 1 and (row["psnr"] is None) == (row["defence"] == "none")
        assert (row["psnr_attacked"] is None) == (row["attack"] == "none")
        assert all(0 <= row[key] <= 1 for key in ("f1", "iou", "auc", "area_pristine"))
        assert row["eps"] == (0 if row["attack"] == "none" else pytest.approx(4 / 255))
    assert {"command", "localizer", "ansm", "seed", "version", "torch"} <= set(document)
    text = markdown(document["rows"], document["command"])
    assert text.strip() in (tmp_path / "e.md").read_text()
    assert len(attacked(tmp_path / "cache")) == 3


def test_a_second_run_attacks_nothing_again(run, small_set, checkpoints, tmp_path) -> None:
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


def test_a_longer_run_takes_over_a_shorter_one(run, small_set, checkpoints, tmp_path) -> None:
    rows = []
    for limit in (2, 4, 2):
        result = run(
            small_set, checkpoints, "--cache", tmp_path / "cache", "--limit", limit,
            "--json", tmp_path / "e.json", attacks="pgd", defences="none",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        rows.append(json.loads((tmp_path / "e.json").read_text())["rows"][0])
    assert len(attacked(tmp_path / "cache")) == 1
    assert [row["n"] + row["n_pristine"] for row in rows] == [2, 4, 2] and rows[0] == rows[2]


def test_a_cache_is_never_taken_for_other_images(run, checkpoints, tmp_path) -> None:
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
def test_other_attacks_are_cached_apart(run, small_set, checkpoints, tmp_path, changed) -> None:
    for options in ({}, changed):
        result = run(
            small_set, checkpoints, "--cache", tmp_path / "cache",
            **({"attacks": "pgd", "defences": "none"} | options),
        )  # fmt: skip
        assert result.exit_code == 0, result.output
    assert len(attacked(tmp_path / "cache")) == 2


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


def test_several_budgets_and_every_attack(run, small_set, checkpoints, tmp_path) -> None:
    result = run(
        small_set, checkpoints, "--json", tmp_path / "e.json", "--limit", 2,
        "--surrogate", checkpoints["surrogate"], "--surrogate-weights", checkpoints["ansm"],
        "--adaptive-steps", 1, "--adaptive-restarts", 1,
        attacks=",".join(ATTACKS), eps="2/255, 0.02", defences="none,ansm", steps=1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "e.json").read_text())
    rows = [row for row in document["rows"] if row["defence"] not in FLOORS]
    # What was made through this very ANSM is no transfer to it.
    assert len(rows) == 2 * (1 + 2 * (len(ATTACKS) - 1)) - 2
    assert ["another localizer" in note for note in document["notes"]] == [True]
    assert document["adaptive"] == {"steps": 1, "restarts": 1, "keep": "best"}
    assert {row["attack"] for row in rows if row["mask_free"]} == {
        name for name, entry in CATALOGUE.items() if entry.mask_free
    }
    seen = {row["attack"] for row in rows if row["seen"]}
    assert seen == {"pgd"} and {row["seen"] for row in rows if row["defence"] == "none"} == {None}


def test_adaptive_rows_are_part_of_the_default_evaluation(small_set, checkpoints, tmp_path) -> None:
    arguments = [
        small_set, "--localizer", checkpoints["localizer"], "--weights", checkpoints["ansm"],
        "--steps", 1, "--limit", 1, "--json", tmp_path / "e.json", "--eps", "4/255",
        "--defences", "ansm", "--adaptive-restarts", 1,
    ]  # fmt: skip
    rows, found = [], []
    for extra in (["--adaptive-steps", "2"], ["--quick"]):
        result = CliRunner().invoke(command, [*map(str, arguments), *extra])
        assert result.exit_code == 0, result.output
        found.append(json.loads((tmp_path / "e.json").read_text()))
        rows.append({row["attack"] for row in found[-1]["rows"]})
    assert rows[0] == set(ATTACKS) - {"transfer", "transfer-hide"}
    assert rows[1] == {
        "none", "pgd", "hide", "wrong-mask",
        "adaptive", "adaptive-hide", "adaptive-wrong-mask", "adaptive-worst",
    }  # fmt: skip
    assert [part["adaptive"]["steps"] for part in found] == [2, 1]
    left_out = [[one for one in part["notes"] if "left out" in one] for part in found]
    assert [len(one) for one in left_out] == [2, 0]  # transfers want a second localizer
    assert "note: transfer left out" in CliRunner().invoke(
        command, [*map(str, arguments), "--attacks", "transfer,none"]
    ).stderr  # fmt: skip


def test_sets_are_reported_apart_and_pooled_only_if_asked(
    small_set, other_set, checkpoints, tmp_path
) -> None:
    arguments = [
        small_set, "--images", other_set / "images", "--masks", other_set / "masks",
        "--name", "one", "--name", "two", "--localizer", checkpoints["localizer"],
        "--attacks", "none,pgd", "--eps", "4/255", "--steps", 1, "--defences", "none",
        "--cache", tmp_path / "cache", "--json", tmp_path / "e.json",
    ]  # fmt: skip
    found = []
    for extra in ([], ["--pool"]):
        result = CliRunner().invoke(command, [*map(str, arguments), *extra])
        assert result.exit_code == 0, result.output
        rows = json.loads((tmp_path / "e.json").read_text())["rows"]
        found.append({(row["set"], row["attack"]): row for row in rows})
    apart, together = found
    assert [name for name, _ in apart] == ["one", "one", "two", "two"]
    assert [row["n"] for row in apart.values()] == [3, 3, 2, 2]
    assert {key: row for key, row in together.items() if key[0] != "pooled"} == apart
    for attack_name in ("none", "pgd"):
        expected = (3 * apart["one", attack_name]["f1"] + 2 * apart["two", attack_name]["f1"]) / 5
        assert together["pooled", attack_name]["f1"] == pytest.approx(expected, abs=1e-4)


def test_an_interrupted_run_goes_on_where_it_stopped(
    run, small_set, checkpoints, tmp_path, monkeypatch
) -> None:
    options = {"attacks": "none,hide,adaptive", "defences": "none,ansm"}
    expected = run(small_set, checkpoints, "--json", tmp_path / "whole.json", **options)
    assert expected.exit_code == 0, expected.output
    calls = {"left": 9}
    real = scoring.score_image

    def score_image(*arguments):
        calls["left"] -= 1
        if calls["left"] < 0:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(scoring, "score_image", score_image)
    again = ["--cache", tmp_path / "cache", "--json", tmp_path / "e.json"]
    assert run(small_set, checkpoints, *again, **options).exit_code != 0
    calls["left"] = 100
    assert run(small_set, checkpoints, *again, **options).exit_code == 0
    # 4 images: 2 defences unattacked, 2 under hide, 1 each under adaptive and its PGD.
    assert 100 - calls["left"] == 4 * 6 - 9
    rows = [json.loads((tmp_path / name).read_text())["rows"] for name in ("whole.json", "e.json")]
    assert rows[0] == rows[1]


def test_a_localizer_that_gives_no_numbers_is_named(small_set, checkpoints, tmp_path) -> None:
    broken = load_localizer(checkpoints["localizer"])
    with torch.no_grad():
        broken.classifier.bias.fill_(float("nan"))
    dataset = FolderDataset(small_set / "images", small_set / "masks")
    with pytest.raises(InputError, match=r"no finite mask for .*0\.png behind no defence"):
        evaluate(dataset, broken, None, Protocol(("none",), (0.1,), defences=("none",)), tmp_path)


def test_probabilities_and_defences_of_another_kind_are_named(small_set, tmp_path) -> None:
    dataset = FolderDataset(small_set / "images", small_set / "masks")
    network = torch.nn.Conv2d(3, 1, 1).train()
    protocol = Protocol(("none",), (0.1,), defences=("none",))
    squeezed = torch.nn.Sequential(network, torch.nn.Sigmoid())
    with pytest.raises(LocalizerError, match="look like probabilities"):
        evaluate(dataset, squeezed, None, protocol, tmp_path)
    for apply, words in (
        (lambda image: image / 255, r"the defence mine must give 8-bit images .*got float64"),
        (lambda image: image[:-1], r"the defence mine must keep the shape \(\d+, \d+, 3\), got"),
    ):
        mine = Defence("mine", apply, f"mine {words}")
        with pytest.raises(InputError, match=words):
            evaluate(dataset, network, None, protocol, tmp_path, own_defences=[mine])
    assert network.training
