"""Outputs and masks of earlier runs, which a search must not take for photographs of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ansm_fast.images.regular_files import read_regular
from ansm_fast.inference.files import FileSource, mask_names, safe_output_name
from ansm_fast.inference.manifest import DONE, PARTS
from ansm_fast.json_lines import parse

OUTPUT, MASK = "an output of an earlier run", "a mask of an earlier run"


def of_earlier_runs(
    manifests: Iterable[tuple[Path, Path | None]], sources: Iterable[FileSource]
) -> dict[Path, str]:
    """Find those of ``sources`` that a manifest says are made of others of them: what they are, by
    path. A file of another size than was recorded is none.

    Args:
        manifests: each with the folder of its masks where that is known; else its records say.

    Outputs whose originals are not there are images like any other, as where a folder of outputs is
    itself what somebody defends.
    """
    by_key = {source.key: source for source in sources}
    by_place = {str(source.relative): source for source in by_key.values()}
    found: dict[Path, str] = {}
    for manifest, folder_of_masks in manifests:
        try:
            text = read_regular(manifest).decode("utf-8", errors="surrogateescape")
        except OSError:
            continue
        folder = os.path.realpath(manifest.parent)
        for record in parse(text):
            name = safe_output_name(record)
            if record.get("status") != DONE or name is None:
                continue
            original = by_key.get(str(record.get("input"))) or by_place.get(
                str(record.get("relative"))
            )
            paths = [os.path.join(folder, name)]
            if isinstance(masks := record.get("masks"), str):
                place = os.path.realpath(folder_of_masks or os.path.join(folder, masks))
                paths += [os.path.join(place, mask) for mask in mask_names(name)]
            for part, path in zip(PARTS, paths, strict=False):
                one = by_key.get(os.path.normpath(path))
                if one is None or original is None or one.key == original.key:
                    continue
                size = record.get(f"{part}_bytes")
                if size is None or _size(one.path) == size:
                    found[one.path] = OUTPUT if part == PARTS[0] else MASK
    return found


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:
        return None
