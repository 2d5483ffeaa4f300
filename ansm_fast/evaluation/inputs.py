"""What a user hands to an evaluation: image sets, defences, several ANSMs by name."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ansm_fast.errors import InputError
from ansm_fast.evaluation.defences import DEFENCES, Defence, make_defences
from ansm_fast.evaluation.provenance import Training, read_training
from ansm_fast.models import ansm_path, load_ansm

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def image_sets(
    folders: Sequence[Path],
    images: Sequence[Path],
    masks: Sequence[Path],
    names: Sequence[str],
) -> list[tuple[str, Path, Path]]:
    """Name, images and masks of each set: folders that hold images/ and masks/, then pairs.

    A set is called as its folder if it gets no name.

    Raises:
        InputError: nothing given, images without masks, a wrong number of names, or two sets of
            one name.
    """
    way_out = "give either DIR, which holds images/ and masks/, or both --images and --masks"
    if len(images) != len(masks):
        option = "--masks" if len(images) > len(masks) else "--images"
        raise InputError(f"Missing option '{option}'; {way_out}, the same number of times")
    if not folders and not images:
        raise InputError(f"no image set; {way_out}")
    found = [
        (Path(os.path.realpath(folder)).name, folder / "images", folder / "masks")
        for folder in folders
    ]
    for one, other in zip(images, masks, strict=True):
        place = Path(os.path.realpath(one))
        found.append((place.parent.name if place.name == "images" else place.name, one, other))
    if names:
        if len(names) != len(found):
            raise InputError(
                f"--name must be given once for each of the {len(found)} image sets, "
                f"got {len(names)}"
            )
        found = [(name, *one[1:]) for name, one in zip(names, found, strict=True)]
    called = [one[0] for one in found]
    twice = next((name for name in called if called.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two image sets are called {twice!r}; give each its own --name")
    return found


def named_weights(given: Sequence[str], localizer: str | None = None) -> dict[str, Path]:
    """ANSM files by name: "FILE" or "NAME=FILE"; without any, the one trained for ``localizer``.

    FILE may be the name of a bundled one too, see ``ansm_path``. The name "" stands for a single
    ANSM without a name.

    Raises:
        InputError: several files without names, or one name twice.
    """
    if not given:
        return {"": ansm_path(None, localizer)}
    found: dict[str, Path] = {}
    for one in given:
        name, sign, file = one.partition("=")
        if not sign or not _NAME.fullmatch(name) or Path(one).exists():
            name, file = "", one
        if name in found or (not name and len(given) > 1):
            raise InputError(
                f"--weights {one}: several ANSMs need a name each; "
                "give --weights NAME=FILE with different names"
            )
        found[name] = ansm_path(file or None, localizer)
    return found


def defence_names(given: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Names of the defences, all that can run by default, and a note if one was left out."""
    if given is not None:
        return list(given), []
    if importlib.util.find_spec("skimage") is not None:
        return list(DEFENCES), []
    note = "tv left out: it needs scikit-image; pip install 'ansm-fast[evaluate]'"
    return [name for name in DEFENCES if name != "tv"], [note]


def defence_columns(
    names: Sequence[str], weights: Sequence[str], localizer: str | None, device: str
) -> tuple[list[Defence], dict[str, Training]]:
    """Make the defences, and read what the training of each ANSM among them saw.

    Raises:
        InputError: as ``named_weights``, ``load_ansm`` and ``make_defences``.
    """
    files = named_weights(weights, localizer) if "ansm" in names else {}
    ansms = {name: load_ansm(file) for name, file in files.items()}
    trained = {
        f"ansm:{name}" if name else "ansm": read_training(file) for name, file in files.items()
    }
    return make_defences(names, ansms, device), trained
