"""Adaptive attacks go through the defence that is scored, and ordinary ones don't."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ansm_fast.data import FolderDataset
from ansm_fast.evaluation import Defence, Protocol, Systems, evaluate, make_defence, measure
from ansm_fast.evaluation.defences import weights_identity
from ansm_fast.evaluation.estimate import estimate
from ansm_fast.images.photograph import Image
from ansm_fast.images.pixels import read_rgb
from ansm_fast.images.write import write_png

EPS = 8 / 255


class RowParity(nn.Module):
    """Forged where odd rows are brighter than even ones, by pairs of rows."""

    taps: tuple[str, ...] = ()
    fingerprint = "row-parity"

    def forward(self, image: Tensor) -> Tensor:
        pairs = image.mean(1, keepdim=True).unflatten(2, (-1, 2))
        contrast = (pairs[:, :, :, 1] - pairs[:, :, :, 0]).unsqueeze(3)
        return (100 * contrast).expand(-1, -1, -1, 2, -1).flatten(2, 3)


def swap_rows(image: Image) -> Image:
    """The two rows of each pair change place, and the sign of the gradient turns around."""
    return np.ascontiguousarray(image.reshape(-1, 2, *image.shape[1:])[:, ::-1]).reshape(
        image.shape
    )


def swap_tensor(image: Tensor) -> Tensor:
    return image.unflatten(2, (-1, 2)).flip(3).flatten(2, 3)


@pytest.fixture(scope="module")
def striped(tmp_path_factory: pytest.TempPathFactory) -> FolderDataset:
    """The forged square holds even rows brighter than odd ones: seen behind ``swap_rows`` alone."""
    root = tmp_path_factory.mktemp("striped")
    for index in range(3):
        mask = np.zeros((16, 24), np.uint8)
        mask[4:12, 4 + index : 16] = 255
        image = np.full((16, 24, 3), 120, np.uint8)
        image[::2][mask[::2] > 0] = 125
        image[1::2][mask[1::2] == 0] = 124
        write_png(root / "images" / f"{index}.png", image)
        write_png(root / "masks" / f"{index}.png", mask)
    return FolderDataset(root / "images", root / "masks")


def rows_of(
    dataset: FolderDataset, cache: Path, attacks: tuple[str, ...], *own: Defence, restarts: int = 1
):
    protocol = Protocol(
        attacks, (EPS,), 10, ("none",), adaptive_steps=10, adaptive_restarts=restarts
    )
    rows = evaluate(dataset, RowParity(), None, protocol, cache, own_defences=own)
    return {(row["attack"], row["defence"]): row for row in rows}


def test_where_pgd_fails_adaptive_succeeds(striped, tmp_path) -> None:
    swap = Defence("swap", swap_rows, "swap", swap_tensor)
    found = rows_of(striped, tmp_path, ("none", "pgd", "adaptive", "adaptive-hide"), swap)
    assert found["none", "swap"]["f1"] == 1.0
    # Made on the localizer alone, the attack pushes the wrong way: it helps.
    assert found["pgd", "swap"]["f1"] == 1.0
    assert found["adaptive", "swap"]["f1"] == 0.0
    assert found["adaptive-hide", "swap"]["f1"] == 0.0
    # Without a defence the adaptive attacker has nothing to go through.
    assert found["adaptive", "none"]["f1"] == found["pgd", "none"]["f1"]
    assert found["adaptive", "swap"]["adaptive"] and not found["pgd", "swap"]["adaptive"]


def test_the_gradient_of_the_identity_is_taken_where_there_is_none(striped, tmp_path) -> None:
    """Rounding to 16 levels has gradient 0 everywhere; BPDA attacks through it."""
    rounded = Defence("round", lambda image: (image // 4) * 4, "round 4")
    found = rows_of(striped, tmp_path, ("adaptive",), rounded)
    cell = found["adaptive", "round"]
    assert cell["f1"] == 0.0 and cell["psnr_attacked"] < 45


def test_the_worst_of_three_is_taken_image_by_image(striped, tmp_path) -> None:
    swap = Defence("swap", swap_rows, "swap", swap_tensor)
    systems = Systems(RowParity(), [make_defence("none"), swap])
    protocol = Protocol(("adaptive-worst",), (EPS / 2, EPS), adaptive_steps=2, adaptive_restarts=2)
    names = ["adaptive", "adaptive-hide", "adaptive-wrong-mask"]
    assert protocol.names() == [*names, "adaptive-worst"]
    assert [name for name, _ in protocol.runs()] == [name for name in names for _ in range(2)]
    cells = measure(striped, systems, protocol, tmp_path).cells
    found = {(cell.attack, cell.eps, cell.defence): cell for cell in cells}
    assert len(found) == 4 * 2 * 2
    for eps in (EPS / 2, EPS):
        for defence in ("none", "swap"):
            parts = [found[name, eps, defence] for name in names]
            worst = found["adaptive-worst", eps, defence]
            for index, record in enumerate(worst.records):
                each = [part.records[index]["f1"] for part in parts]
                assert record["f1"] == min(each)
                chosen = parts[each.index(min(each))]
                assert record is chosen.records[index]
                assert worst.images[index] == chosen.images[index]


def test_adaptive_attacks_are_the_strong_ones(striped, tmp_path) -> None:
    """100 steps, 3 restarts, the best iterate; the undefended localizer gets the plain attack."""
    protocol = Protocol(("adaptive", "adaptive-transfer", "pgd"), (EPS,))
    found = dict(protocol.runs())
    told = {name: (one.steps, one.restarts, one.keep) for name, one in found.items() if one}
    assert told == {
        "adaptive": (100, 3, "best"), "adaptive-transfer": (20, 1, "last"), "pgd": (20, 1, "last"),
    }  # fmt: skip
    systems = Systems(RowParity(), [make_defence("none"), make_defence("gaussian")])
    plain, through = systems.targets("adaptive")
    assert protocol.attack_on(plain, EPS) == found["pgd"]
    assert protocol.attack_on(through, EPS) == found["adaptive"]


def test_weak_and_strong_adaptive_attacks_are_cached_apart(striped, tmp_path) -> None:
    swap = Defence("swap", swap_rows, "swap", swap_tensor)
    for restarts in (1, 2, 1):
        rows_of(striped, tmp_path, ("adaptive",), swap, restarts=restarts)
    assert len(list(tmp_path.glob("adaptive-*"))) == 2


def test_the_estimate_counts_steps_restarts_and_passes(striped, tmp_path, monkeypatch) -> None:
    """With a second for every step and every pass, of three images of one size."""
    monkeypatch.setattr("ansm_fast.evaluation.estimate._seconds", lambda work: 1.0)
    protocol = Protocol(
        ("none", "pgd", "adaptive"), (EPS,), steps=5, adaptive_steps=10, adaptive_restarts=2
    )
    for detects, passes in ((None, 0), (lambda image: (image, 0.5), 9)):
        swap = Defence("swap", swap_rows, "swap", swap_tensor, detects=detects)
        systems = Systems(RowParity(), [make_defence("none"), swap])
        scores = 1 + 2 + 2 + 2  # the baseline, then both columns of each of the three
        steps = 5 + 2 * (10 + 1 / 3)  # the undefended column is PGD again
        found = estimate(striped, systems, protocol, tmp_path)
        assert found == pytest.approx(3 * (scores + steps + passes))


def test_each_defence_has_adaptive_images_of_its_own(striped, tmp_path) -> None:
    systems = Systems(RowParity(), [make_defence(one) for one in ("none", "median", "gaussian")])
    protocol = Protocol(("pgd", "adaptive"), (EPS,), steps=3, adaptive_steps=3)
    cells = {(c.attack, c.defence): c for c in measure(striped, systems, protocol, tmp_path).cells}
    folders = {key: cell.images[0].parent for key, cell in cells.items()}
    assert len({folders["pgd", one] for one in ("none", "median", "gaussian")}) == 1
    assert folders["adaptive", "none"] == folders["pgd", "none"]
    assert len({folders["adaptive", one] for one in ("none", "median", "gaussian")}) == 3
    card = json.loads((folders["adaptive", "median"].parent / "attack.json").read_text())
    assert card["localizer"] == "row-parity through median 3"


def test_adaptive_attacks_may_go_through_ansms_alone(striped, tmp_path) -> None:
    """The undefended column stays, as what the others are compared with."""
    columns = [make_defence(one) for one in ("none", "jpeg", "tv", "gaussian")]
    columns += [Defence(name, swap_rows, name, swap_tensor) for name in ("ansm", "ansm:base")]
    every = Systems(RowParity(), columns)
    cheap = Systems(RowParity(), columns, adaptive_through="ansm")
    for name in ("adaptive", "adaptive-hide"):
        assert [t.defences[0].name for t in every.targets(name)] == [one.name for one in columns]
        assert [t.defences[0].name for t in cheap.targets(name)] == ["none", "ansm", "ansm:base"]
    protocol = Protocol(("none", "adaptive"), (EPS,), steps=10, adaptive_steps=10)
    cells = {(c.attack, c.defence): c for c in measure(striped, cheap, protocol, tmp_path).cells}
    assert {name for attack, name in cells if attack == "none"} == {one.name for one in columns}
    assert cells["none", "ansm"].records[0]["f1"] == 1.0
    assert cells["adaptive", "ansm"].records[0]["f1"] == 0.0


def test_a_stand_in_is_not_judged_on_itself(striped, tmp_path) -> None:
    columns = [make_defence(one) for one in ("none", "median", "gaussian")]
    protocol = Protocol(("adaptive-transfer",), (EPS,), steps=2)
    for stand_in, scored in ((None, ["none", "median"]), (columns[1], ["none", "gaussian"])):
        systems = Systems(RowParity(), columns, stand_in=stand_in)
        cells = measure(striped, systems, protocol, tmp_path).cells
        assert [cell.defence for cell in cells] == scored


def test_transfer_is_made_on_the_surrogate_or_left_out(striped, tmp_path) -> None:
    class Inverse(RowParity):
        fingerprint = "inverse"

        def forward(self, image: Tensor) -> Tensor:
            return -super().forward(image)

    protocol = Protocol(("transfer",), (EPS,), steps=3)
    notes: list[str] = []
    systems = Systems(RowParity(), [make_defence("none")])
    assert not measure(striped, systems, protocol, tmp_path, on_note=notes.append).cells
    assert notes and "--surrogate" in notes[0]
    systems = Systems(RowParity(), [make_defence("none")], surrogate=Inverse())
    (cell,) = measure(striped, systems, protocol, tmp_path).cells
    card = json.loads((cell.images[0].parents[1] / "attack.json").read_text())
    assert card["localizer"] == "inverse"


def test_universal_noise_is_one_for_all_images(striped, tmp_path) -> None:
    systems = Systems(RowParity(), [make_defence("none")])
    protocol = Protocol(("universal",), (EPS,), steps=3, batch_size=1)
    (cell,) = measure(striped, systems, protocol, tmp_path).cells
    noise = [
        read_rgb(path).astype(int) - striped[index]["image"]
        for index, path in enumerate(cell.images)
    ]
    assert np.abs(noise[0]).max() == 8
    assert all(np.array_equal(one, noise[0]) for one in noise)


def test_a_random_defence_is_attacked_in_expectation(striped, tmp_path) -> None:
    calls: list[int] = []

    def jitter(image: Tensor) -> Tensor:
        calls.append(len(image))
        return image + 0.01 * torch.randn_like(image)

    random = Defence("random", lambda image: image, "random", jitter, randomized=True)
    plain = Defence("plain", lambda image: image, "plain", jitter)
    counts = []
    for defence in (plain, random):
        calls.clear()
        rows_of(striped, tmp_path, ("adaptive",), defence)
        counts.append(len(calls))
    assert counts[0] > 0 and counts[1] == 8 * counts[0]


def test_weights_tell_localizers_apart() -> None:
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    assert weights_identity(one) == weights_identity(one) != weights_identity(other)
