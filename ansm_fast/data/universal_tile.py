"""The one tile of noise of a set attacked with "universal", kept beside its images.

A tile fitted to each batch would follow the masks of its few images. And a run that goes on where
another one stopped must use the same tile: fitted again, with other threads, it may differ.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ansm_fast.attacks import Attack
from ansm_fast.attacks.checks import LocalizerFunction
from ansm_fast.data.folder import FolderDataset
from ansm_fast.data.wrong_mask import wrong_mask
from ansm_fast.errors import InputError
from ansm_fast.images.atomic import write_bytes
from ansm_fast.images.tensors import mask_to_tensor, to_tensor

TILE_FILE = "universal.safetensors"
FIT_IMAGES = 32
# Of photographs no more than their middle: all images of the fit are held at once.
FIT_SIZE = 1024


def _middle(image: Tensor) -> Tensor:
    top, left = (max(0, (side - FIT_SIZE) // 2) for side in image.shape[2:])
    return image[..., top : top + FIT_SIZE, left : left + FIT_SIZE]


def fit_universal(
    attack: Attack,
    localizer: LocalizerFunction,
    dataset: FolderDataset,
    device: torch.device | str = "cpu",
) -> Attack:
    """The attack with a tile fitted to the first ``FIT_IMAGES`` images, at most the ``FIT_SIZE``
    pixels in the middle of each; on ``device``, where the localizer is."""
    indices = range(min(FIT_IMAGES, len(dataset)))
    images, masks = [], []
    for index in indices:
        sample = dataset[index]
        images.append(_middle(to_tensor(sample["image"][None])).to(device))
        masks.append(_middle(mask_to_tensor(sample["mask"][None])).to(device))
    wrong = None
    if attack.objective == "wrong-mask":
        wrong = [
            _middle(mask_to_tensor(wrong_mask(dataset, index)[None])).to(device)
            for index in indices
        ]
    return replace(attack, tile=attack.fit(localizer, images, masks, wrong))


def _read(path: Path) -> Tensor:
    try:
        return safetensors.torch.load_file(path)["tile"]
    except (safetensors.SafetensorError, KeyError) as error:
        raise InputError(
            f"{path} is damaged; give another output folder or remove {path.parent}"
        ) from error


def with_tile(
    attack: Attack,
    localizer: LocalizerFunction,
    dataset: FolderDataset,
    out: Path,
    device: torch.device | str = "cpu",
) -> Attack:
    """Return the attack with the tile of the set in ``out``: kept there, given with it, or fitted
    now.

    Raises:
        InputError: the tile kept there is damaged or another one than the attack's own.
        OSError: ``out`` cannot be written to.
    """
    path = out / TILE_FILE
    if path.exists():
        kept = _read(path)
        if attack.tile is not None and not torch.equal(kept, attack.tile.cpu()):
            raise InputError(
                f"{out} holds a set made with another tile of noise; give another output folder"
            )
        return replace(attack, tile=kept)
    if attack.tile is None:
        attack = fit_universal(attack, localizer, dataset, device)
    assert attack.tile is not None
    tile = attack.tile.detach().cpu().contiguous()
    write_bytes(path, safetensors.torch.save({"tile": tile}))
    return attack
