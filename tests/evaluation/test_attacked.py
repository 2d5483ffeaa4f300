"""Was this image attacked? Figures against their definitions, and where they are shown."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from ansm_fast.data import FolderDataset
from ansm_fast.evaluation import (
    HARMLESS,
    Cell,
    Defence,
    Measurement,
    Protocol,
    Systems,
    attacked_rows,
    measure,
    pool,
)
from ansm_fast.evaluation.attacked import threshold_at, weighted_auc
from ansm_fast.evaluation.harmless import VERSIONS, harmless_scores
from ansm_fast.evaluation.provenance import Training
from ansm_fast.evaluation.tables import attacked_tables
from ansm_fast.evaluation.tables.attacked import attacked_markdown
from ansm_fast.models import ANSM, ANSMConfig, save_ansm


def auc_of_pairs(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Share of the pairs in the right order; equal ones are half."""
    pairs = positives[:, None] - negatives[None]
    return float((pairs > 0).mean() + (pairs == 0).mean() / 2)


@pytest.mark.parametrize("levels", [2, 7, 10_000])
def test_auc_against_the_pairs_it_is_made_of(levels) -> None:
    rng = np.random.default_rng(levels)
    positives = np.round(rng.random(31) ** 0.5 * levels) / levels
    negatives = np.round(rng.random(17) * levels) / levels
    counts = rng.integers(0, 4, (5, 48)).astype(float)
    counts[0] = 1
    found = weighted_auc(positives, negatives, counts[:, :31], counts[:, 31:])
    for weights, auc in zip(counts.astype(int), found, strict=True):
        drawn = np.repeat(positives, weights[:31]), np.repeat(negatives, weights[31:])
        assert auc == pytest.approx(auc_of_pairs(*drawn), abs=1e-12)
    assert np.isnan(weighted_auc([1.0], [0.0], [[0.0]], [[1.0]])[0])


@pytest.mark.parametrize("count", [1, 40, 99, 100, 250])
def test_one_percent_of_the_unattacked_and_no_more(count) -> None:
    scores = np.random.default_rng(count).permutation(np.repeat(np.arange(count), 2)[:count] / 500)
    limit = threshold_at(scores)
    allowed = count // 100
    assert (scores >= limit).sum() <= allowed
    lower = np.unique(scores[scores < limit]).max()  # any lower score would call too many
    assert (scores >= lower).sum() > allowed
    assert threshold_at([0.3, 0.1], rate=1.0) == 0.1


def detector(name: str = "ansm", threshold: float = 0.5) -> Defence:
    def detects(image):
        return image, float(image.mean()) / 255

    return Defence(name, lambda image: image, name, detects=detects, attack_threshold=threshold)


def measurement(name: str = "set") -> Measurement:
    """Four images, the second attack stronger than the first."""
    clean = [0.1, 0.2, 0.3, 0.4]
    records = [
        {version: score + 0.1 * index for index, version in enumerate(VERSIONS)} for score in clean
    ]
    cells = [
        Cell("none", 0.0, "ansm", [{"f1": 1.0, "attack_score": s} for s in clean], [Path("a")] * 4)
    ]
    for attack, eps, scores in (
        ("pgd", 2 / 255, [0.05, 0.25, 0.45, 0.5]),
        ("pgd", 4 / 255, [0.9, 0.9, 0.9, 0.9]),
    ):
        found = [{"f1": 0.5, "attack_score": score} for score in scores]
        cells.append(Cell(attack, eps, "ansm", found, [Path("a")] * 4))
        cells.append(Cell(attack, eps, "none", [{"f1": 0.1}] * 4, [Path("a")] * 4))
    measured = Measurement(name, cells, [{"f1": 1.0}] * 4)
    measured.harmless["ansm"] = records
    return measured


def test_rows_by_hand() -> None:
    plain = Defence("none", lambda image: image, "none")
    rows = attacked_rows(measurement(), [plain, detector(threshold=0.47)])
    found = {(row["image"], row["eps"]): row for row in rows}
    assert [row["kind"] for row in rows] == ["unattacked", *["harmless"] * 8, *["attack"] * 2]
    assert {row["defence"] for row in rows} == {"ansm"} and {row["n"] for row in rows} == {4}
    clean = found["none", 0.0]
    assert (clean["score"], clean["auc"], clean["called_1_percent"]) == (0.25, 0.5, 0.0)
    weak, strong = found["pgd", 2 / 255], found["pgd", 4 / 255]
    assert weak["auc"] == 10 / 16 and weak["auc_low"] < weak["auc"] < weak["auc_high"]
    # Two images lie above 0.4, the highest of the unattacked ones, and one above 0.47.
    assert (weak["called_1_percent"], weak["called"]) == (0.5, 0.25)
    assert strong["auc"] == strong["auc_low"] == strong["called"] == 1.0
    # The harmless changes reach up to 1.2.
    negatives = np.array([s + 0.1 * k for s in (0.1, 0.2, 0.3, 0.4) for k in range(9)])
    expected = auc_of_pairs(np.full(4, 0.9), negatives)
    assert strong["auc_harmless"] == pytest.approx(expected, abs=1e-4) and expected < 1
    last = found[list(HARMLESS)[-1], 0.0]
    assert (last["auc"], last["called_1_percent"]) == (1.0, 1.0)


def test_sets_are_pooled_image_by_image() -> None:
    together = pool([measurement("a"), measurement("b")])
    one, both = (attacked_rows(m, [detector()]) for m in (measurement(), together))
    assert [row["n"] for row in both] == [8] * len(one)
    assert [row["auc"] for row in both] == [row["auc"] for row in one]


def test_harmless_changes_are_small_and_repeatable() -> None:
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(60, 200, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    for name, (_, change) in HARMLESS.items():
        one, other = (change(np.random.default_rng(3), image) for _ in range(2))
        assert one.dtype == np.uint8 and np.array_equal(one, other)
        if name.startswith("resized"):
            scale = float(name.partition("-")[2])
            assert one.shape == (round(48 * scale), round(64 * scale), 3)
        else:
            assert one.shape == image.shape and 0 < np.abs(one.astype(int) - image).mean() < 8
        assert change(np.random.default_rng(3), image[:1, :1]).size >= 3
    for sigma in (1, 2, 3):
        noisy = HARMLESS[f"noise-{sigma}"][1](np.random.default_rng(3), image)
        assert np.std(noisy.astype(float) - image) == pytest.approx(sigma, rel=0.1)
    found = harmless_scores(detector(), image, 3)
    assert tuple(found) == VERSIONS and found["none"] == float(image.mean()) / 255


def test_tables() -> None:
    rows = attacked_rows(measurement(), [detector()], {"ansm": Training(frozenset())})
    assert [row["seen"] for row in rows] == [*[None] * 9, False, False]
    heading, table = attacked_markdown(rows)
    assert heading.startswith("Was the image attacked? Attack score of ANSM over 4 images")
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()]
    assert {len(line) for line in lines} == {7}
    assert lines[2][:5] == ["no attack", "–", "0.250", "–", "–"]
    assert [line[0] for line in lines[3:11]] == [title for title, _ in HARMLESS.values()]
    assert lines[-1] == [
        "PGD†", "4/255", "0.900", "1.000 (1.00–1.00)", lines[-1][4], "100.0 %", "100.0 %",
    ]  # fmt: skip
    console = Console(width=100, record=True, file=io.StringIO())
    (shown,) = attacked_tables(rows)
    console.print(shown)
    text = console.export_text()
    assert "camera noise, σ 3" in text and "† no such attack" in text
    assert max(map(len, text.splitlines())) <= 100


def test_an_evaluation_with_a_gate_has_them(run, small_set, checkpoints, tmp_path) -> None:
    torch.manual_seed(0)
    gate = ANSM(ANSMConfig(jpeg_quality=80))
    torch.nn.init.normal_(gate.head.weight, std=0.5)
    save_ansm(tmp_path / "gate.safetensors", gate, {"attack_threshold": 0.25})
    options = {"weights": f"gate={tmp_path / 'gate.safetensors'}", "attacks": "pgd,adaptive-worst"}
    files = ["--json", tmp_path / "e.json", "--markdown", tmp_path / "e.md"]
    files += ["--cache", tmp_path / "cache", "--weights", f"free={checkpoints['ansm']}"]
    result = run(small_set, checkpoints, *files, defences="none,ansm", **options)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "e.json").read_text())
    rows = document["attacked"]
    assert {row["defence"] for row in rows} == {"ansm:gate"}  # the free one cannot tell
    assert [row["image"] for row in rows if row["kind"] == "attack"] == [
        "pgd", "adaptive", "adaptive-hide", "adaptive-wrong-mask", "adaptive-worst",
    ]  # fmt: skip
    assert {row["threshold"] for row in rows} == {0.25} and {row["n"] for row in rows} == {4}
    scores = {(row["attack"], row["defence"]): row["attack_score"] for row in document["rows"]}
    (pgd,) = (row for row in rows if row["image"] == "pgd")
    assert scores["pgd", "ansm:gate"] == pgd["score"] and scores["pgd", "ansm:free"] is None
    assert "Was the image attacked? Attack score of ANSM gate" in result.stdout
    assert "Was the image attacked?" in (tmp_path / "e.md").read_text()
    again = run(small_set, checkpoints, *files, defences="none,ansm", **options)
    assert again.exit_code == 0 and json.loads((tmp_path / "e.json").read_text()) == document


def test_harmless_changes_may_be_left_out(small_set, tmp_path) -> None:
    dataset = FolderDataset(small_set / "images", small_set / "masks")
    found = []
    for harmless in (True, False):
        systems = Systems(torch.nn.Conv2d(3, 1, 1), [detector()])
        protocol = Protocol(("none",), (0.0,), harmless=harmless)
        measured = measure(dataset, systems, protocol, tmp_path)
        assert all("attack_score" in record for record in measured.cells[0].records)
        found.append(len(attacked_rows(measured, systems.defences)))
    assert found == [9, 0]
