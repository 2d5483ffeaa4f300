"""The image files of a folder, and what else in it looks like one."""

from __future__ import annotations

import os
from pathlib import Path

from ansm_fast.errors import InputError
from ansm_fast.images.formats import IMAGE_SUFFIXES, OTHER_SUFFIXES
from ansm_fast.images.regular_files import NotAFile, check_regular


def find_images(folder: str | Path, left_out: dict[str, list[Path]] | None = None) -> list[Path]:
    """Find all image files below ``folder``; sorted.

    Args:
        left_out: filled, by reason, with what looks like an image and is none that is read: pipes,
            sockets, devices, folders, broken links, hidden files, other formats; and with folders
            that cannot be opened.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    folder, left_out = Path(folder), {} if left_out is None else left_out
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; give a folder that holds photographs")
    found: list[Path] = []

    def tell(error: OSError) -> None:
        left_out.setdefault("a folder that cannot be opened", []).append(Path(error.filename))

    for _ in os.walk(folder, onerror=tell):  # what follows passes over them in silence
        pass
    for path in sorted(folder.rglob("*")):
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES and any(
            part.startswith(".") for part in path.relative_to(folder).parts
        ):
            left_out.setdefault("hidden files are not read", []).append(path)
            continue
        try:
            if suffix in IMAGE_SUFFIXES:
                check_regular(path)
                found.append(path)
            elif suffix in OTHER_SUFFIXES and path.is_file():
                left_out.setdefault(f"{suffix} is not read", []).append(path)
        except NotAFile as error:
            left_out.setdefault(str(error), []).append(path)
        except OSError:
            left_out.setdefault("a broken link", []).append(path)
    if not found:
        others = "".join(f"; {line}" for line in left_out_lines(left_out))
        raise InputError(
            f"no image in {folder}; expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
            f"{others}"
        )
    return found


def left_out_lines(left_out: dict[str, list[Path]]) -> list[str]:
    """Return a line for each file: "left out: photos/a.png is a named pipe"; for formats that
    aren't read and hidden files, of which there may be many, a line for all."""
    lines: list[str] = []
    for reason, paths in left_out.items():
        if reason.endswith("not read"):
            more = f" and {len(paths) - 1} more" if paths[1:] else ""
            lines.append(f"left out: {paths[0]}{more}; {reason}")
        else:
            lines += [f"left out: {path} is {reason}" for path in paths]
    return lines
