"""Sets of images of any sizes: windows of one size, decided by the files and a seed alone."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ansm_fast.errors import InputError
from ansm_fast.training.batches import MemorySet
from ansm_fast.training.run_config import DataConfig
from ansm_fast.training.windows import cut_windows, plan_windows, window_side


def write(folder: Path, sizes: list[tuple[int, int]], forged: bool = True) -> Path:
    """A set of random images; the mask of each is a square in the middle."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, (height, width) in enumerate(sizes):
        mask = np.zeros((height, width), np.uint8)
        if forged:
            mask[height // 3 : height // 2, width // 3 : width // 2] = 255
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number:03d}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"{number:03d}.png"), mask)
    return folder


@pytest.mark.parametrize(
    ("sizes", "largest", "side"),
    [
        ([(300, 400)] * 3, None, None),
        ([(300, 400)] * 3, 400, None),
        ([(300, 400)] * 3, 399, 288),
        ([(300, 400), (400, 300)], None, 288),
        ([(1000, 1000), (900, 2000)], None, 512),
        ([(1000, 1000), (900, 2000)], 256, 256),
        ([(1000, 1000)] * 3 + [(200, 200)], None, 512),
        ([(1000, 1000)] * 2 + [(200, 200)], None, 192),
        ([(20, 20), (21, 21)], None, 32),
        ([(20, 20), (21, 21)], 16, 16),
    ],
)
def test_most_images_hold_a_window(sizes, largest, side) -> None:
    assert window_side(sizes, largest) == side


def test_small_images_are_left_out_and_large_ones_give_several() -> None:
    sizes = [(64, 64), (33, 64), (31, 200), (130, 130), (700, 900)]
    plan = plan_windows(sizes, 64, None, several=True, seed=0)
    assert plan.counts.tolist() == [1, 1, 0, 4, 4]
    assert plan.lines() == [
        "10 windows of 64x64 pixels cut from 4 images, 1 of them mirrored at their borders to that "
        "size",
        "left out: 1 images with a side of less than 32 pixels",
    ]
    assert plan_windows(sizes, 64, None, several=False, seed=0).counts.tolist() == [1, 1, 0, 1, 1]


def test_memory_bounds_the_windows() -> None:
    sizes = [(300, 300)] * 10
    plan = plan_windows(sizes, 64, 12, several=True, seed=0)
    assert plan.counts.tolist() == [1] * 10 and plan.left == 30
    plan = plan_windows(sizes, 64, 4, several=True, seed=0)
    assert sorted(plan.counts) == [0] * 6 + [1] * 4 and plan.left == 36
    assert plan.lines()[1] == "left out: 36 windows more than data.memory holds"


@pytest.mark.parametrize("shape", [(64, 64), (65, 64), (200, 150), (40, 70)])
def test_the_first_window_holds_a_forgery(shape) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    for row, column in ((0, 0), (shape[0] - 1, shape[1] - 1), (shape[0] // 2, 3)):
        mask = np.zeros(shape, bool)
        mask[row, column] = True
        pieces = cut_windows(image, mask, 64, 3, rng)
        assert all(one.shape == (64, 64, 3) and where.shape == (64, 64) for one, where in pieces)
        assert pieces[0][1].any()
        if shape[0] >= 64:  # not mirrored: pixel and mask belong together
            (at,) = np.argwhere(pieces[0][1])
            assert np.array_equal(pieces[0][0][tuple(at)], image[row, column])


def test_a_folder_of_any_sizes_is_read(tmp_path) -> None:
    folder = write(
        tmp_path / "set", [(64, 64), (90, 70), (33, 80), (10, 10), (140, 200), *[(64, 90)] * 3]
    )
    data = MemorySet(folder, window=64)
    assert data.images.shape == (10, 64, 64, 3) and data.masks.shape == (10, 64, 64)
    assert data.names[:7] == ["000", "001", "002", "004", "004~1", "004~2", "004~3"]
    assert data.masks[[0, 1, 2, 3]].any(axis=(1, 2)).all()
    assert any("10 windows of 64x64 pixels cut from 7 images" in line for line in data.lines)
    again = MemorySet(folder, window=64)
    assert np.array_equal(data.images, again.images) and np.array_equal(data.masks, again.masks)
    assert len(MemorySet(folder, 3, window=64)) == 3
    bounded = MemorySet(folder, window=64, memory=3 * 64 * 64 * 4 / 2**30)
    assert len(bounded) == 3


def test_images_of_one_size_stay_whole(tmp_path) -> None:
    folder = write(tmp_path / "set", [(48, 36)] * 5)
    data = MemorySet(folder, window=64)
    assert data.images.shape == (5, 48, 36, 3) and not any("window" in one for one in data.lines)
    assert np.array_equal(data.images[2][:, :, ::-1], cv2.imread(str(folder / "images/002.png")))
    bounded = MemorySet(folder, memory=2 * 48 * 36 * 4 / 2**30)
    assert len(bounded) == 2 and any("3 images more than data.memory" in x for x in bounded.lines)


def test_a_folder_is_split_into_training_and_validation(tmp_path) -> None:
    folder = write(tmp_path / "set", [(32, 32)] * 40)
    config = DataConfig(train=folder, validation_count=100)
    training, validation = MemorySet.training(config), MemorySet.validation(config)
    assert len(training) + len(validation) == 40 and len(validation)
    assert not set(training.names) & set(validation.names)
    # What is told of photographs counts more than the files.
    photographs = [[str(number % 20), str(number % 10)] for number in range(40)]
    (folder / "metadata.jsonl").write_text(
        "".join(
            json.dumps({"name": f"{number:03d}", "photographs": names}) + "\n"
            for number, names in enumerate(photographs)
        )
    )
    training, validation = MemorySet.training(config), MemorySet.validation(config)
    used = [
        {photograph for name in data.names for photograph in photographs[int(name)]}
        for data in (training, validation)
    ]
    assert used[0] and used[1] and not used[0] & used[1]


def test_of_a_validation_folder_some_are_drawn(tmp_path) -> None:
    """The first by name may be of one kind."""
    folder = write(tmp_path / "set", [(32, 32)] * 12)
    named = DataConfig(train=folder, validation=folder, validation_count=4)
    assert MemorySet.validation(named).names == ["000", "001", "002", "003"]
    drawn = MemorySet.validation(named.model_copy(update={"window": 32}))
    again = MemorySet.validation(named.model_copy(update={"window": 32}))
    assert len(drawn) == 4 and drawn.names == again.names != ["000", "001", "002", "003"]


def test_two_images_alike_cannot_be_split(tmp_path) -> None:
    folder = write(tmp_path / "set", [(32, 32)])
    with pytest.raises(InputError, match=r"too little .* or one with train/ and validation/"):
        MemorySet.training(DataConfig(train=folder))
