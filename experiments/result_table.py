"""Results as JSON that a later call goes on with, and as Markdown to be read or pasted."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansm_fast.errors import InputError
from ansm_fast.images.atomic import write_text
from ansm_fast.images.photograph import Image


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """What every experiment on attacked images with a result that it goes on with is told."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON; .md beside it")
    parser.add_argument("--localizer", default="robust")
    parser.add_argument("--eps", type=int, default=4, help="grey levels")
    parser.add_argument("--steps", type=int, default=20)
    return parser


def figures(found: Mapping[str, float]) -> str:
    """F1; the area marked on pristine images, if there were any, in brackets."""
    area = found.get("false_alarm")
    return f"{found['f1']:.3f}" + ("" if area is None else f" [{area:.3f}]")


def set_digest(images: Image) -> str:
    """Tells a set of images from every other."""
    return hashlib.sha256(images.tobytes()).hexdigest()


def head_of(options: argparse.Namespace, images: Image, localizer: str) -> dict[str, Any]:
    """What a result of ``options`` belongs to; ``localizer`` is its fingerprint."""
    return {
        "eps": options.eps / 255,
        "steps": options.steps,
        "images": len(images),
        "sha256": set_digest(images),
        "localizer": localizer,
    }


def write_result(output: Path, document: Mapping[str, Any], table: str) -> None:
    """The JSON and its table beside it, each of them whole."""
    write_text(output, json.dumps(document, indent=2) + "\n")
    write_text(output.with_suffix(".md"), table)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with one line for each of ``rows``, whose cells are in the order of ``header``."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def rows_of(output: Path, head: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows that an earlier call of the same ``head`` (images, attacks, localizer) has written.

    Raises:
        InputError: the file holds something else, which is not to be overwritten.
    """
    if not output.exists():
        return []
    try:
        found = json.loads(output.read_text(encoding="utf-8"))
        rows: list[dict[str, Any]] = found.pop("rows")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(f"{output} holds no results of this script; give another -o") from error
    if found != head:
        raise InputError(
            f"{output} holds results for other images, attacks or another localizer; give another "
            "-o or remove it"
        )
    return rows
