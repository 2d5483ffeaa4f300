"""Attacked versions of a folder of forgeries: images/, masks/, metadata.jsonl and attack.json.

``attack.json`` holds what the whole set was made with, ``metadata.jsonl`` one line an image with
the digest of what it was made from and the noise that was measured. A line is written when its
image is complete: a run that was killed goes on from there, and no image is ever taken for the
attacked version of another one. Images are PNG, so that what was within the budget when it was
rounded to 8 bits stays so.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ansm_fast.attacks import Attack, CountedLocalizer, ZeroGradientWarning
from ansm_fast.attacks.base import ConfiguredAttack
from ansm_fast.attacks.budget import AttackResult
from ansm_fast.attacks.checks import LocalizerFunction
from ansm_fast.data.checksums import CHECKSUMS
from ansm_fast.data.data_card import CARD
from ansm_fast.data.folder import FolderDataset
from ansm_fast.data.set_records import (
    PARTS,
    Record,
    check_kept,
    lines,
    mark,
    read_records,
    source_digest,
    written,
)
from ansm_fast.data.universal_tile import TILE_FILE, with_tile
from ansm_fast.data.wrong_mask import wrong_mask
from ansm_fast.errors import InputError, LocalizerError
from ansm_fast.images.atomic import check_unused, write_text
from ansm_fast.images.photograph import Image
from ansm_fast.images.tensors import mask_to_tensor, to_tensor
from ansm_fast.images.write import write_png
from ansm_fast.json_lines import Appender

# All that is written to the folder of a set, which belongs to nothing else.
_FILES = (*PARTS, "metadata.jsonl", CARD, CHECKSUMS, TILE_FILE)


@dataclass
class Work:
    """What a call of ``write_attacked_set`` did itself: images made, and what they cost, a fitted
    universal noise included; ``stuck``: how many had a gradient of 0 at every step."""

    images: int = 0
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    stuck: int = 0

    def add(self, result: AttackResult) -> None:
        self.images += len(result.attacked)
        self.forwards += result.forwards
        self.backwards += result.backwards
        self.seconds += result.seconds
        self.stuck += int(result.stuck.sum())


def _open(out: Path, card: Record) -> dict[str, Record]:
    """Make the folder, or see that the set in it has the same settings; records of what is done."""
    card_file = out / "attack.json"
    if not card_file.exists():
        check_unused(out, _FILES)
    (out / "images").mkdir(parents=True, exist_ok=True)
    if not card_file.exists():
        write_text(card_file, json.dumps(card, indent=2) + "\n")
        return {}
    try:
        found = json.loads(card_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{card_file} is damaged; give another output folder or remove {out}"
        ) from error
    if found != card:
        raise InputError(
            f"{out} holds a set attacked with other settings (see {card_file}); "
            "give another output folder or remove this one"
        )
    return read_records(out / "metadata.jsonl")


def _missing(
    dataset: FolderDataset, out: Path, digests: list[str], records: dict[str, Record]
) -> list[int]:
    """Indices of the images that are still to be made."""
    found: list[int] = []
    for index, digest in enumerate(digests):
        name = dataset.names[index]
        if name in records:
            check_kept(out, records[name])
        if not all(path.exists() for path in written(out, name).values()):
            records.pop(name, None)
        if name not in records:
            found.append(index)
        elif records[name]["sha256"] != digest:
            raise InputError(
                f"{out} holds the attacked version of another image named {name}; "
                "give another output folder or remove this one"
            )
    return found


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


def _attack(
    dataset: FolderDataset,
    localizer: LocalizerFunction,
    attack: ConfiguredAttack,
    indices: list[int],
    images: Image,
    masks: NDArray[np.bool_],
    device: torch.device | str,
) -> AttackResult:
    wrong = None
    if attack.settings()["objective"] == "wrong-mask":
        wrong = mask_to_tensor(np.stack([wrong_mask(dataset, index) for index in indices]))
        wrong = wrong.to(device)
    image, mask = to_tensor(images).to(device), mask_to_tensor(masks).to(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZeroGradientWarning)  # counted instead
            return attack.run(localizer, image, mask, wrong, indices)
    except LocalizerError as error:
        names = dict.fromkeys((dataset.names[indices[0]], dataset.names[indices[-1]]))
        raise LocalizerError(f"{error} (images {' to '.join(names)})") from error


def _pixels(result: AttackResult) -> Image:
    levels = (result.attacked * 255).round().byte().permute(0, 2, 3, 1)
    return np.ascontiguousarray(levels.cpu().numpy())


def write_attacked_set(
    dataset: FolderDataset,
    localizer: LocalizerFunction,
    attack: ConfiguredAttack,
    out: str | Path,
    *,
    localizer_fingerprint: str,
    limit: int | None = None,
    batch_size: int = 8,
    device: torch.device | str = "cpu",
    on_progress: Callable[[int], None] | None = None,
    work: Work | None = None,
) -> FolderDataset:
    """Attack the images of ``dataset`` and return the attacked set.

    Args:
        localizer: image to logits, differentiable: the victim, another localizer (transfer), or
            the victim behind a defence (adaptive). In eval mode meanwhile, and then as it was
            found.
        attack: an ``Attack`` or an adapter. "universal" has one tile for the whole set, kept in
            it: its own, or one that is fitted to the first images of the dataset; see
            ``fit_universal``.
        out: folder of the set; one that holds a part of the same set is completed.
        localizer_fingerprint: of the attacked localizer, for the record.
        limit: only the first so many images. A folder that holds more of them keeps them.
        batch_size: images of one size attacked together. It, the number of threads and the device
            change the order of sums; where a gradient is near zero its sign may flip, and a long
            attack then takes another path, as strong. The same bits need the same of all three.
        device: where the localizer is; the attacks are made there.
        on_progress: called with the number of images done, now or before.
        work: counts what this call did.

    Raises:
        InputError: ``out`` holds another set or a file of it that was changed since, or cannot be
            written; what is complete stays, and
            the same call goes on from it. LocalizerError (an InputError): the localizer gives no
            logits or no gradient, see ``attacks.gradient``. A gradient that is 0 on some images
            is counted, and noted in their records.
    """
    out, report = Path(out), on_progress or (lambda done: None)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    digests = [source_digest(dataset, index) for index in range(count)]
    metadata = out / "metadata.jsonl"
    try:
        records = _open(out, {"attack": attack.settings(), "localizer": localizer_fingerprint})
        missing = _missing(dataset, out, digests, records)
        write_text(metadata, lines(records))
        if len(missing) < count:
            report(count - len(missing))
        # One for the whole set: what the first batch has shown of the localizer holds for the rest.
        counted = CountedLocalizer(localizer)
        if missing and isinstance(attack, Attack) and attack.name == "universal":
            started = time.perf_counter()
            attack = with_tile(attack, counted, dataset, out, device)
            if work is not None:
                work.forwards += counted.forwards
                work.backwards += counted.backwards
                work.seconds += time.perf_counter() - started
        with Appender(metadata) as file:
            for indices, images, masks in _batches(dataset, missing, batch_size):
                result = _attack(dataset, counted, attack, indices, images, masks, device)
                if work is not None:
                    work.add(result)
                for row, (index, image) in enumerate(zip(indices, _pixels(result), strict=True)):
                    name = dataset.names[index]
                    write_png(out / "masks" / f"{name}.png", masks[row].astype(np.uint8) * 255)
                    write_png(out / "images" / f"{name}.png", image)
                    records[name] = {
                        **_record(dataset, index, attack, digests[index]),
                        "victim": localizer_fingerprint,
                        "linf": round(float(result.linf[row]), 6),
                        "rms": round(float(result.rms[row]), 6),
                        "within_budget": bool(result.within_budget[row]),
                        **{field: mark(path) for field, path in written(out, name).items()},
                    }
                    if result.stuck[row]:
                        records[name]["gradient"] = "0 at every step"
                    file.add(records[name])
                report(len(indices))
        order = {name: position for position, name in enumerate(dataset.names)}
        ordered = sorted(records.values(), key=lambda record: order.get(record["name"], len(order)))
        write_text(metadata, lines({record["name"]: record for record in ordered}))
    except OSError as error:
        raise InputError(
            f"cannot write to {error.filename or out} ({error.strerror or error}); what is "
            "complete is intact: mend it and give the same command, or give another output folder"
        ) from error
    return FolderDataset(out / "images", out / "masks")


def _record(dataset: FolderDataset, index: int, attack: ConfiguredAttack, digest: str) -> Record:
    settings = attack.settings()
    return {
        "name": dataset.names[index],
        "attack": settings.pop("name"),
        **settings,
        "source": dataset.names[index] + dataset.pairs[index][0].suffix,
        "sha256": digest,
    }
