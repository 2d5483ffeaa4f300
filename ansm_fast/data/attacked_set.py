"""Attacked versions of a folder of forgeries: images/, masks/, metadata.jsonl and attack.json.

Writing is resumable: an image that is there is complete, and is not made again. Images are PNG, so
that what was within the budget when it was rounded to 8 bits stays so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ansm_fast.attacks import Attack
from ansm_fast.attacks.gradient import LocalizerFunction
from ansm_fast.data.folder import FolderDataset
from ansm_fast.data.images import Image, mask_to_tensor, to_tensor
from ansm_fast.errors import InputError


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write RGB (H, W, 3) or grey (H, W) as PNG, under a temporary name that is then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    if not done:
        raise OSError(f"PNG encoder failed on an image of shape {pixels.shape}")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(encoded.tobytes())
    os.replace(temporary, path)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def wrong_mask(dataset: FolderDataset, index: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask that the objective "wrong-mask" asks for: the next other image's that isn't empty.

    A mask of another size is brought to ``shape``; without any other forgery, the image's own mask
    turned upside down serves.
    """
    for step in range(1, len(dataset)):
        mask = dataset.mask((index + step) % len(dataset))
        if mask.any():
            if mask.shape != shape:
                resized = cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=0)
                mask = resized.astype(bool)
            return mask
    return dataset.mask(index)[::-1].copy()


def _batches(
    dataset: FolderDataset, indices: list[int], batch_size: int
) -> Iterator[tuple[list[int], Image, NDArray[np.bool_]]]:
    """Runs of at most ``batch_size`` neighbours of one size."""
    waiting: list[int] = []
    images: list[Image] = []
    masks: list[NDArray[np.bool_]] = []
    for index in indices:
        sample = dataset[index]
        if waiting and (len(waiting) == batch_size or images[0].shape != sample["image"].shape):
            yield waiting, np.stack(images), np.stack(masks)
            waiting, images, masks = [], [], []
        waiting.append(index)
        images.append(sample["image"])
        masks.append(sample["mask"])
    if waiting:
        yield waiting, np.stack(images), np.stack(masks)


def write_attacked_set(
    dataset: FolderDataset,
    localizer: LocalizerFunction,
    attack: Attack,
    out: str | Path,
    *,
    localizer_fingerprint: str,
    limit: int | None = None,
    batch_size: int = 8,
    on_progress: Callable[[int], None] | None = None,
) -> FolderDataset:
    """Attack every image of ``dataset`` and return the attacked set.

    Args:
        localizer: image to logits, differentiable.
        out: folder of the set; one that holds a part of the same set is completed.
        localizer_fingerprint: of the attacked localizer, for the record.
        limit: only the first so many images.
        batch_size: images of one size attacked together; does not change the result.
        on_progress: called with the number of images done, now or before.

    Raises:
        InputError: ``out`` holds another set, or cannot be written.
    """
    out = Path(out)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    card = {"attack": attack.settings(), "localizer": localizer_fingerprint, "images": count}
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
        card_file = out / "attack.json"
        if card_file.exists():
            if json.loads(card_file.read_text(encoding="utf-8")) != card:
                raise InputError(
                    f"{out} holds a set attacked with other settings (see {card_file}); "
                    "give another output folder or remove this one"
                )
        elif any((out / "images").iterdir()):
            raise InputError(f"{out} holds other images; give another output folder")
        else:
            _write_text(card_file, json.dumps(card, indent=2) + "\n")
        targets = [out / "images" / f"{name}.png" for name in dataset.names[:count]]
        missing = [index for index, target in enumerate(targets) if not target.exists()]
        if on_progress is not None and len(missing) < count:
            on_progress(count - len(missing))
        for indices, images, masks in _batches(dataset, missing, batch_size):
            wrong = None
            if attack.objective == "wrong-mask":
                wrong = np.stack([wrong_mask(dataset, i, masks.shape[1:]) for i in indices])
            attacked = attack(
                localizer,
                to_tensor(images),
                mask_to_tensor(masks),
                None if wrong is None else mask_to_tensor(wrong),
                indices,
            )
            pixels = (attacked * 255).round().byte().permute(0, 2, 3, 1).numpy()
            for index, image, mask in zip(indices, pixels, masks, strict=True):
                name = dataset.names[index]
                write_png(out / "masks" / f"{name}.png", mask.astype(np.uint8) * 255)
                write_png(targets[index], np.ascontiguousarray(image))
            if on_progress is not None:
                on_progress(len(indices))
        lines = [
            json.dumps({"image": name, "source": str(dataset.pairs[index][0])} | attack.settings())
            for index, name in enumerate(dataset.names[:count])
        ]
        _write_text(out / "metadata.jsonl", "\n".join(lines) + "\n")
    except OSError as error:
        raise InputError(
            f"cannot write to {out} ({error.strerror or error}); give another output folder"
        ) from error
    return FolderDataset(out / "images", out / "masks")
