"""Damaged files of the five formats: each is an image or has a reason why not."""

from __future__ import annotations

import logging
import multiprocessing
import random
import resource
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

from tools.faults.bench import ASKED, FORMS, Bench, picture, records

_BASES = 6  # of each format
_WHOLE_RUN = 200
_SLOW = 30.0  # seconds for a file of some kilobytes
_MEMORY = 6 << 30


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A file with one to four damages: bits, bytes, cuts, pieces gone, twice or of numbers that
    lengths and sizes may be."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not data:
            break
        place, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 16, 200))
        if rng.random() < 0.4:  # what the header says is worth more damage
            place = rng.randrange(min(len(data), 200))
        way = rng.randrange(7)
        if way == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif way == 1:
            data[place : place + length] = rng.randbytes(length)
        elif way == 2:
            del data[place:]
        elif way == 3:
            del data[place : place + length]
        elif way == 4:
            data[place:place] = data[place : place + length]
        elif way == 5:
            number = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 65535, 100_000))
            data[place : place + 4] = number.to_bytes(4, rng.choice(("big", "little")))
        else:
            data[place : place + length] = bytes(length)
    return bytes(data)


def _bases() -> list[tuple[str, bytes]]:
    return [(form, picture(form, seed)) for form in FORMS for seed in range(_BASES)]


def _decode(pipe: Connection, seed: int, first: int, count: int) -> None:
    """Decode and encode again; tells before each file which it is, and after it what came of it."""
    from ansm_fast.images.photograph import BadImage
    from ansm_fast.images.read import decode_photograph
    from ansm_fast.images.write import encode_png

    warnings.simplefilter("ignore")
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    bases = _bases()
    for index in range(first, first + count):
        content = mutated(bases[index % len(bases)][1], random.Random(f"{seed} {index}"))
        pipe.send((index, None))
        try:
            encode_png(decode_photograph(content, 4_000_000))
            result = "images"
        except BadImage:
            result = "refused"
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        pipe.send((index, result))


def run(bench: Bench, count: int) -> None:
    """Decode ``count`` files in processes of their own, and defend some hundreds of them."""
    seed, index = bench.random.randrange(1 << 30), 0
    context = multiprocessing.get_context("spawn")
    while index < count and bench.time_is_left():
        ours, theirs = context.Pipe()
        process = context.Process(target=_decode, args=(theirs, seed, index, count - index))
        process.start()
        theirs.close()
        try:
            while index < count and bench.time_is_left():
                if not any(ours.poll(_SLOW) for _ in range(ASKED)):
                    bench.note("hangs", f"mutation {index} of seed {seed}")
                    index += 1
                    break
                number, result = ours.recv()
                if result is None:
                    index = number
                    continue
                index = number + 1
                bench.counts["mutations"] += 1
                if result in ("images", "refused"):
                    bench.counts[f"mutations_{result}"] += 1
                else:
                    bench.note("tracebacks", f"mutation {number} of seed {seed}: {result}")
        except EOFError:
            if index < count:
                bench.note("crashes", f"mutation {index} of seed {seed}")
                index += 1
        finally:
            process.kill()
            process.join()
    for part in range(max(1, min(3, count // 5000))):
        if bench.time_is_left():
            _whole_run(bench, seed, part)


def _whole_run(bench: Bench, seed: int, part: int) -> None:
    photos, out, bases = bench.work / f"photos{part}", bench.work / f"out{part}", _bases()
    photos.mkdir()
    kept: dict[Path, bytes] = {}
    for index in range(_WHOLE_RUN):
        form, base = bases[index % len(bases)]
        path = photos / f"{index:03d}.{form}"
        kept[path] = mutated(base, random.Random(f"{seed} {part} {index}"))
        path.write_bytes(kept[path])
    started = time.monotonic()
    bench.end(bench.start("--batch", photos, "-o", out, "--max-pixels", "4000000"), {0, 1})
    bench.counts["mutations_defended_seconds"] += round(time.monotonic() - started)
    found = records(out, bench)
    if len({record["input"] for record in found}) != _WHOLE_RUN:
        bench.note("lost", f"{len(found)} lines of {_WHOLE_RUN} inputs")
    for path, content in kept.items():
        if path.read_bytes() != content:
            bench.note("lost", str(path))
    bench.counts["mutations_in_whole_runs"] += _WHOLE_RUN
