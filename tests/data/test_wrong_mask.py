from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ansm_fast.data import FolderDataset
from ansm_fast.data.wrong_mask import wrong_mask
from ansm_fast.images.write import write_png


def mask(size: tuple[int, int], rows: slice, columns: slice = slice(4, 20)) -> np.ndarray:
    found = np.zeros(size, bool)
    found[rows, columns] = True
    return found


def folder(root: Path, masks: list[np.ndarray]) -> FolderDataset:
    for index, one in enumerate(masks):
        write_png(root / "images" / f"{index}.png", np.zeros((*one.shape, 3), np.uint8))
        write_png(root / "masks" / f"{index}.png", one.astype(np.uint8) * 255)
    return FolderDataset(root / "images", root / "masks")


def test_the_next_forgery_round_the_end(tmp_path) -> None:
    size = (32, 24)
    masks = [mask(size, slice(0, 8)), mask(size, slice(0, 0)), mask(size, slice(20, 30))]
    dataset = folder(tmp_path, masks)
    for index, other in ((0, 2), (1, 2), (2, 0)):  # image 1 is pristine
        assert np.array_equal(wrong_mask(dataset, index), masks[other])


def test_a_forgery_of_the_same_region_is_passed_over(tmp_path) -> None:
    size = (32, 24)
    masks = [mask(size, slice(0, 10)), mask(size, slice(0, 11)), mask(size, slice(6, 16))]
    dataset = folder(tmp_path, masks)
    assert np.array_equal(wrong_mask(dataset, 0), masks[2])
    assert np.array_equal(wrong_mask(dataset, 1), masks[2])


def test_a_mask_of_another_size_is_brought_to_the_images(tmp_path) -> None:
    dataset = folder(tmp_path, [mask((32, 24), slice(0, 8)), mask((64, 48), slice(32, 64))])
    assert np.array_equal(wrong_mask(dataset, 0), mask((32, 24), slice(16, 32), slice(2, 10)))


@pytest.mark.parametrize("rows", [slice(0, 8), slice(12, 20)])
def test_without_another_forgery_the_truth_is_moved(tmp_path, rows) -> None:
    truth = mask((32, 24), rows, slice(8, 16))
    dataset = folder(tmp_path, [truth, mask((32, 24), slice(0, 0))])
    found = wrong_mask(dataset, 0)
    assert found.sum() == truth.sum() and not (found & truth).any()
