"""The images below a folder, and what there is besides them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ansm_fast.errors import InputError
from ansm_fast.images.formats import file_format
from ansm_fast.images.walk import LeftOut, walk
from ansm_fast.inference.earlier import of_earlier_runs
from ansm_fast.inference.files import READABLE, UNREADABLE, FileSource
from ansm_fast.inference.mask_pointer import find_pointers
from ansm_fast.inference.stores import MANIFEST

OWN_FOLDER = "the folder of the outputs"
OTHER_NAME = "an image by its content, not by its name; rename it, or name it as a file"
# The sizes of the headers that BMP has had: two letters alone prove nothing.
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)


def from_folder(
    folder: Path,
    output: Path | None = None,
    *,
    follow_links: bool = False,
    left_out: LeftOut | None = None,
) -> list[FileSource]:
    """Every image below ``folder``, in a fixed order.

    Args:
        output: folder of the outputs, which is passed over.
        follow_links: enter linked folders too, each folder once.
        left_out: filled with what is passed over: hidden files and folders, linked folders and such
            that cannot be opened, images whose names don't say so, outputs and masks of earlier
            runs over the same images.

    Raises:
        InputError: no such folder, no image in it, or ``output`` is the folder itself.
    """
    left_out = LeftOut() if left_out is None else left_out
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; give an existing folder to --batch")
    own = None if output is None else _status(output)
    if output is not None and os.path.realpath(output) == os.path.realpath(folder):
        raise InputError(f"output {output} is the input folder; give another folder to -o")

    def skip(path: Path) -> str | None:
        found = None if own is None else _status(path)
        same = own is not None and found is not None and os.path.samestat(own, found)
        return OWN_FOLDER if same else None

    def is_named_image(path: Path) -> bool:
        return os.path.splitext(path.name)[1].lower() in READABLE | UNREADABLE

    found: list[FileSource] = []
    above = Path(os.path.realpath(folder)).parents  # a run may have written into its input
    around = (*above, *([] if output is None else [output]))
    manifests: list[tuple[Path, Path | None]] = [(place / MANIFEST, None) for place in around]
    for path, relative in walk(
        folder, left_out, follow_links=follow_links, skip=skip, tell=is_named_image
    ):
        if is_named_image(path):
            found.append(FileSource(path, relative))
        elif path.name == MANIFEST:
            manifests.append((path, None))
        elif _is_image(path):
            left_out.add(OTHER_NAME, path)
    folders = {place for source in found for place in source.path.parents}
    made = of_earlier_runs([*manifests, *find_pointers(sorted(folders))], found)
    for path, reason in made.items():
        left_out.add(reason, path)
    found = [source for source in found if source.path not in made]
    if not found:
        others = "".join(f"; {line}" for line in left_out.lines())
        raise InputError(
            f"no image in {folder}; expected files ending in {', '.join(sorted(READABLE))}{others}"
        )
    return found


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _is_image(path: Path) -> bool:
    """Whether a file begins as an image does; what cannot be opened doesn't."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            head = file.read(32)
    except OSError:
        return False
    kind = file_format(head)
    return kind is not None and (
        kind != "BMP" or int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    )
