from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from ansm_fast.data import FolderDataset, mask_to_tensor, read_mask, read_rgb, to_tensor
from ansm_fast.errors import InputError
from ansm_fast.images.write import write_png


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images of two sizes in two folders, one of them JPEG, and a mask too many."""
    rng = np.random.default_rng(0)
    for name, size in (("b", (20, 30)), ("sub/a", (20, 30)), ("sub/c", (16, 8))):
        image, mask = rng.integers(0, 256, (*size, 3), np.uint8), np.zeros(size, np.uint8)
        mask[2:5, 3:6] = 255
        write_png(tmp_path / "images" / f"{name}.png", image)
        write_png(tmp_path / "masks" / f"{name}.png", mask)
    image = cv2.imread(str(tmp_path / "images" / "b.png"))
    cv2.imwrite(str(tmp_path / "images" / "b.jpg"), image)
    (tmp_path / "images" / "b.png").unlink()
    write_png(tmp_path / "masks" / "extra.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path


def dataset(root: Path) -> FolderDataset:
    return FolderDataset(root / "images", root / "masks")


def test_matches_by_name_whatever_the_format(root) -> None:
    found = dataset(root)
    assert found.names == ["b", "sub/a", "sub/c"] and len(found) == 3
    assert [pair[1].relative_to(root).as_posix() for pair in found.pairs] == [
        "masks/b.png", "masks/sub/a.png", "masks/sub/c.png",
    ]  # fmt: skip


def test_samples(root) -> None:
    sample = dataset(root)[2]
    assert sample["name"] == "sub/c"
    assert sample["image"].shape == (16, 8, 3) and sample["image"].dtype == np.uint8
    expected = np.zeros((16, 8), bool)
    expected[2:5, 3:6] = True
    assert sample["mask"].dtype == bool and np.array_equal(sample["mask"], expected)
    assert np.array_equal(dataset(root).mask(2), expected)


def test_channels_are_red_green_blue(tmp_path) -> None:
    for part, pixel in (("images", (0, 0, 255)), ("masks", (128, 128, 128))):  # OpenCV: BGR
        (tmp_path / part).mkdir()
        cv2.imwrite(str(tmp_path / part / "a.png"), np.full((2, 2, 3), pixel, np.uint8))
    sample = dataset(tmp_path)[0]
    assert sample["image"][0, 0].tolist() == [255, 0, 0] and sample["mask"].all()


def test_tensors(root) -> None:
    sample = dataset(root)[1]
    image, mask = to_tensor(sample["image"][None]), mask_to_tensor(sample["mask"][None])
    assert image.shape == (1, 3, 20, 30) and mask.shape == (1, 1, 20, 30)
    assert np.array_equal((image[0] * 255).round().numpy().transpose(1, 2, 0), sample["image"])
    assert mask.unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "masks" / "b.png").unlink(), "1 of 3 images in .* have no mask"),
        (lambda root: write_png(root / "masks" / "b.png", np.zeros((9, 7), np.uint8)),
         "b.png is 7x9 but its image is 30x20"),
        (lambda root: (root / "images" / "b.jpg").write_bytes(b"no image"), "cannot decode image"),
        (lambda root: (root / "masks" / "b.png").write_bytes(b""), "cannot decode mask"),
        (lambda root: write_png(root / "images" / "b.png", np.zeros((20, 30, 3), np.uint8)),
         "share a name; rename one"),
        (lambda root: [path.unlink() for path in root.glob("images/**/*.??g")], "no image in"),
    ],
)  # fmt: skip
def test_folders_that_do_not_match(root, spoil, words) -> None:
    dataset(root).check(3)
    spoil(root)
    with pytest.raises(InputError, match=words) as caught:
        dataset(root).check(3)
    assert "\n" not in str(caught.value)


def test_check_looks_no_further_than_asked(root) -> None:
    (root / "images" / "sub" / "c.png").write_bytes(b"no image")
    dataset(root).check(2)
    with pytest.raises(InputError, match="cannot decode"):
        dataset(root).check(3)


def test_more_pixels_than_can_be_decoded_end_in_one_line(tmp_path) -> None:
    """A header of a few bytes may claim any size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path = tmp_path / "huge.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    for read, kind in ((read_rgb, "image"), (read_mask, "mask")):
        with pytest.raises(InputError, match=f"cannot decode {kind} .*huge.png"):
            read(path)
