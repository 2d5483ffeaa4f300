"""Write a seeded set of synthetic forgeries as images/, masks/ and metadata.jsonl."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ansm_fast.data.split import Side
from ansm_fast.data.synthesis.forgery import Forgery, ForgeryMix, make_forgery
from ansm_fast.data.synthesis.photographs import Drawn, FolderSource
from ansm_fast.errors import InputError
from ansm_fast.images.atomic import check_unused, write_bytes, write_text
from ansm_fast.images.find import left_out_lines

_CHUNK = 32
_PARTS = ("images", "masks", "metadata")


def _save_png(path: Path, image: np.ndarray) -> None:
    encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
    write_bytes(path, encoded.tobytes())


def _write_one(
    out: Path, name: str, forgery: Forgery, photographs: list[str], index: int, seed: int
) -> None:
    # The mask is written first: an image whose mask is missing can then never be seen.
    _save_png(out / "masks" / f"{name}.png", forgery.mask.astype(np.uint8) * 255)
    record = {
        "name": name,
        "index": index,
        "seed": seed,
        "kind": forgery.kind,
        "photographs": photographs,
        "traces": forgery.traces,
        "final_quality": forgery.final_quality,
        "area": round(float(forgery.mask.mean()), 5),
    }
    part = out / "metadata" / f"{name}.json"
    write_text(part, json.dumps(record) + "\n")
    _save_png(out / "images" / f"{name}.png", forgery.image[:, :, ::-1])


def _make_chunk(
    source: FolderSource, out: Path, indices: list[int], seed: int, size: int, mix: ForgeryMix
) -> int:
    for index in indices:
        name = f"{index:06d}"
        if (out / "images" / f"{name}.png").exists():
            continue
        rng = np.random.default_rng([seed, index])
        drawn = Drawn(source)
        forgery = make_forgery(rng, drawn, size, mix)
        _write_one(out, name, forgery, drawn.names, index, seed)
    return len(indices)


def _read_card(card: Path) -> Any:
    try:
        return json.loads(card.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{card} is damaged; give another output folder or remove {card.parent}"
        ) from error


def synthesize(
    photographs: str | Path,
    out: str | Path,
    count: int,
    *,
    seed: int = 0,
    size: int = 256,
    mix: ForgeryMix | None = None,
    workers: int = 1,
    side: Side | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> None:
    """Write ``count`` forgeries made from the photographs below a folder.

    Forgery ``i`` depends on ``(seed, i)``, the photographs and the mix alone, so that an
    interrupted run goes on where it stopped and the number of workers does not matter.

    Writes ``out/images/*.png``, ``out/masks/*.png``, ``out/metadata.jsonl`` and
    ``out/synthesis.json`` (the settings). Every line of the metadata names the photographs that
    its forgery was made of.

    Args:
        side: make them of this side of the photographs alone; what is made of the other one shares
            none with them (see ``FolderSource``).
        on_note: called with a line about what was left out: pipes, folders, other formats.

    Raises:
        InputError: no photographs, too few for two sides, or ``out`` holds a set made with other
            settings.
    """
    out, mix = Path(out), mix or ForgeryMix()
    source = FolderSource(photographs, side)
    note = on_note or (lambda line: None)
    for line in left_out_lines(source.left_out):
        note(line)
    settings: dict[str, Any] = {"seed": seed, "size": size, "mix": asdict(mix)}
    if side is not None:
        settings["photographs"] = side
    settings = json.loads(json.dumps(settings))
    card = out / "synthesis.json"
    if card.exists() and _read_card(card) != settings:
        raise InputError(
            f"{out} holds forgeries made with other settings (see {card}); "
            "give another output folder or the same settings"
        )
    if not card.exists():
        check_unused(out, (*_PARTS, "metadata.jsonl"))
    for part in _PARTS:
        (out / part).mkdir(parents=True, exist_ok=True)
    if not card.exists():  # never rewritten: a run that is killed meanwhile would leave it cut
        write_text(card, json.dumps(settings, indent=2) + "\n")

    chunks = [list(range(i, min(i + _CHUNK, count))) for i in range(0, count, _CHUNK)]
    report = on_progress or (lambda done: None)
    make = partial(_make_chunk, source, out, seed=seed, size=size, mix=mix)
    if workers <= 1:
        for chunk in chunks:
            report(make(chunk))
    else:
        _make_in_processes(workers, make, chunks, report)
    _join_metadata(out)


def _leave_signals() -> None:
    """Ctrl-C reaches every process of a terminal: the first one alone says where it was."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _make_in_processes(
    workers: int,
    make: Callable[[list[int]], int],
    chunks: list[list[int]],
    report: Callable[[int], None],
) -> None:
    pool = ProcessPoolExecutor(workers, initializer=_leave_signals)
    try:
        for job in [pool.submit(make, chunk) for chunk in chunks]:
            report(job.result())
    except BrokenProcessPool as error:
        raise InputError(
            f"one of the {workers} processes was ended by the system; was the memory full? give "
            "fewer --workers; what is complete is intact"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _join_metadata(out: Path) -> None:
    parts = sorted((out / "metadata").glob("*.json"))
    text = "".join(part.read_text(encoding="utf-8") for part in parts)
    write_text(out / "metadata.jsonl", text)
